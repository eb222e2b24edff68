"""The arms of an experiment as recipes, for `boxrl train` on several GPUs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from boxrl.config import dump_recipe
from boxrl.data.files import write_atomic
from boxrl.errors import UsageError
from boxrl.experiments.definition import Experiment, arm_recipe, is_trained

LAUNCH = "--launch accelerate --num-processes 8 --strategy zero3"


def write_recipes(experiment: Experiment, seeds: Sequence[int], folder: Path) -> list[Path]:
    """Write FOLDER/ARM-SEED.yaml for every trained arm, those that others start from first.

    Args:
        experiment: whose arms.
        seeds: of the recipes.
        folder: where they go; each recipe's run goes to runs/EXPERIMENT/ARM-SEED.

    Raises:
        UsageError: two arms would have the same file.
    """
    arms = sorted(
        (arm for arm in experiment.arms if is_trained(experiment, arm)),
        key=lambda arm: "after" in experiment.arms[arm],
    )
    names = {arm: re.sub(r"[^A-Za-z0-9._]+", "-", arm).strip("-") for arm in arms}
    twice = [arm for arm in arms if list(names.values()).count(names[arm]) > 1]
    if twice:
        raise UsageError(f"arms {' and '.join(twice)} would be one file; give one another name")
    written = []
    for seed in seeds:
        for arm in arms:
            stem, runs = f"{names[arm]}-{seed}", Path("runs") / experiment.name
            recipe = arm_recipe(experiment, arm, seed, check_files=False)
            changed = {"name": stem, "out": runs / stem}
            if start := experiment.arms[arm].get("after"):
                changed["model"] = str(runs / f"{names[start]}-{seed}" / "model")
            path = folder / f"{stem}.yaml"
            text = f"# Experiment {experiment.name}, arm {arm}, seed {seed}.\n"
            text += f"#   boxrl train {path} {LAUNCH}\n"
            path.parent.mkdir(parents=True, exist_ok=True)
            with write_atomic(path) as handle:
                handle.write(text + dump_recipe(recipe.model_copy(update=changed)))
            written.append(path)
    return written
