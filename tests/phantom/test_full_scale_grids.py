"""Every grid at full scale: the first step of each kind of training that its arms ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from boxrl.config import Recipe, dump_recipe, load_recipe  # noqa: E402
from boxrl.experiments.definition import (  # noqa: E402
    FULL_SCALE,
    arm_recipe,
    experiments_folder,
    is_trained,
    load_experiment,
)

from . import full_size  # noqa: E402

pytestmark = pytest.mark.phantom

MODELS = {
    "Qwen2.5-VL-3B-Instruct": "qwen2.5-vl-3b",
    "Qwen2.5-VL-7B-Instruct": "qwen2.5-vl-7b",
    "Qwen3-VL-4B-Instruct": "qwen3-vl-4b",
}


def kind_of(recipe: Recipe) -> tuple[Any, ...]:
    """What decides how a step is run; rewards run on the CPU and are tried elsewhere."""
    train = recipe.train
    return (
        recipe.method, Path(recipe.model).name, train.max_completion_length,
        train.num_generations, train.prompts_per_image, train.beta > 0,
        train.lora is not None, train.freeze_vision,
        recipe.engine.shared_prefix, str(train.trl),
    )  # fmt: skip


def kinds() -> dict[str, Recipe]:
    """The first recipe of each kind, by its grid and arm; vLLM runs on no phantom."""
    found: dict[tuple[Any, ...], tuple[str, Recipe]] = {}
    for path in sorted((experiments_folder() / FULL_SCALE).glob("*.yaml")):
        experiment = load_experiment(path, check_files=False)
        for arm in experiment.arms:
            for seed in range(len(experiment.starts) or 1):
                recipe = arm_recipe(experiment, arm, seed, check_files=False)
                if is_trained(experiment, arm) and not recipe.train.trl.get("use_vllm"):
                    name = f"{path.stem}, {arm}, {seed}"
                    found.setdefault(kind_of(recipe), (name, recipe))
    return dict(found.values())


KINDS = kinds()


@pytest.mark.parametrize("name", KINDS)
def test_the_first_step_of_every_kind_of_arm_runs(name: str, tmp_path: Path) -> None:
    recipe = KINDS[name]
    model = MODELS[Path(recipe.model).name]
    full_size.save_folder(model, tmp_path / model)
    full_size.save_scenes(tmp_path / "data", model, (8, 8))
    file = tmp_path / "arm.yaml"
    file.write_text(dump_recipe(recipe))
    prompts = recipe.train.micro_batch_prompts
    small = load_recipe(
        file,
        [
            f"out={tmp_path / 'run'}", f"model={tmp_path / model}",
            f"data.train={tmp_path / 'data' / 'samples.jsonl'}",
            f"data.images={tmp_path / 'data' / 'images'}", "train.max_steps=1",
            "train.trl.save_strategy=no", f"train.prompts_per_step={prompts}",
        ],
    )  # fmt: skip
    assert len(full_size.measure(small, memory=1000 * full_size.GIB)) == 1
