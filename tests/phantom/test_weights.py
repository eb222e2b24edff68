"""What a step changes in the weights, as they are stored and trained on a GPU."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from boxrl.config import Recipe  # noqa: E402
from boxrl.engines.loading import load  # noqa: E402
from boxrl.generation.model_folders import model_folder  # noqa: E402

from .gpu import phantom_gpu  # noqa: E402
from .runs import build, recipe_of, run  # noqa: E402


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged model stored in bfloat16, as models of the hub are."""
    folder = tmp_path_factory.mktemp("half")
    shutil.copytree(model_folder("tiny"), folder, dirs_exist_ok=True)
    model, _ = load("tiny", "bfloat16", "cpu", 1)
    model.save_pretrained(folder)
    return folder


def share_changed(recipe: Recipe) -> float:
    """Of the trained weights as the optimizer holds them; the model holds the same, rounded."""
    with phantom_gpu():
        trainer = build(recipe)
        trainer.create_optimizer()
        held = [w for group in trainer.optimizer.param_groups for w in group["params"]]
        before = [weight.detach().cpu() for weight in held]
        run(trainer, recipe)
        after = [weight.detach().cpu() for weight in held]
        model = [weight.detach().cpu() for weight in trainer.model.parameters()]
    assert {w.dtype for w in after} == {torch.float32}
    rounded = sum(float(w.to(model[0].dtype).float().sum()) for w in after)
    assert sum(float(w.float().sum()) for w in model) == pytest.approx(rounded)
    changed = sum(int((a != b).sum()) for a, b in zip(after, before, strict=True))
    share = changed / sum(w.numel() for w in before)
    assert _logged(recipe) == pytest.approx(share, abs=0.05)
    return share


def _logged(recipe: Recipe) -> float:
    lines = (recipe.out / "metrics.jsonl").read_text().splitlines()
    share: float = json.loads(lines[-1])["weights_changed"]
    return share


def steps(folder: Path, out: Path, n: int, **options: Any) -> Recipe:
    out.mkdir()
    trl = {"adam_epsilon": 1e-8, **options.pop("trl", {})}
    return recipe_of(folder, out, "auto", max_steps=n, learning_rate=1e-6, trl=trl, **options)


def test_full_fine_tuning_changes_the_weights(
    half: Path, scene_folder: Path, tmp_path: Path
) -> None:
    recipe = steps(scene_folder, tmp_path / "run", 1, engine={"dtype": "auto"})
    assert share_changed(recipe.model_copy(update={"model": str(half)})) > 0.9


@pytest.mark.phantom
def test_twenty_steps_change_the_weights(half: Path, scene_folder: Path, tmp_path: Path) -> None:
    recipe = steps(scene_folder, tmp_path / "run", 20, engine={"dtype": "auto"})
    assert share_changed(recipe.model_copy(update={"model": str(half)})) > 0.9


@pytest.mark.phantom
def test_float32_weights_change(scene_folder: Path, tmp_path: Path) -> None:
    assert share_changed(steps(scene_folder, tmp_path / "run", 1, trl={"bf16": True})) > 0.9
