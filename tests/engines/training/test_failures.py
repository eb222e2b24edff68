"""A run that is lost ends at once, in words, and keeps no weights that are no numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors import SafetensorError  # noqa: E402

import boxrl.engines.training.train as training  # noqa: E402
from boxrl.config import dump_recipe  # noqa: E402
from boxrl.engines.training.checkpoints import cut_back  # noqa: E402
from boxrl.engines.training.grpo_trainer import BoxGRPOTrainer  # noqa: E402
from boxrl.engines.training.train import train  # noqa: E402
from boxrl.errors import DataError, UsageError  # noqa: E402
from boxrl.runs import Run  # noqa: E402
from tests.support.recipes import tiny_recipe  # noqa: E402


@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_a_loss_that_is_no_number_ends_the_run(
    method: str, scene_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    recipe = tiny_recipe(scene_folder, out, method=method, max_steps=6)
    broken = recipe.train.model_copy(update={"learning_rate": 1e20})  # which no recipe may name
    recipe = recipe.model_copy(update={"train": broken})
    with (
        pytest.raises(DataError, match=r"is NaN or infinite at step [12]; lower train"),
        Run(out, dump_recipe(recipe), {"name": "tiny"}, False),
    ):
        train(recipe)
    steps = [json.loads(row)["step"] for row in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps in ([1], [1, 2])
    assert not (out / "model").exists()
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"


def test_too_little_memory_of_the_machine_is_told(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*args: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    monkeypatch.setattr(BoxGRPOTrainer, "training_step", step)
    with pytest.raises(UsageError, match="out of memory at step 0"):
        train(tiny_recipe(scene_folder, tmp_path / "run"))


def test_a_model_that_does_not_fit_leaves_no_run_folder(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training, "load", load)
    out = tmp_path / "run"
    recipe = tiny_recipe(scene_folder, out)
    with (
        pytest.raises(UsageError, match="out of GPU memory before the first step; lower train"),
        Run(out, dump_recipe(recipe), {"name": "tiny"}, False),
    ):
        train(recipe)
    assert not out.exists()


def test_a_disk_that_is_full_at_the_end_keeps_the_last_checkpoint(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(scene_folder, tmp_path / "run", max_steps=1, save_steps=1)

    def save(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with (
        monkeypatch.context() as patch,
        pytest.raises(DataError, match=r"at step 1 \(.*No space.*checkpoint-1 with --resume"),
    ):
        patch.setattr(training, "_save", save)
        train(recipe)
    assert train(recipe) == recipe.out / "model"


def test_a_log_keeps_what_can_be_read(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1}\n[1, 2]\n{"stop": 2}\n{"step": "x"}\n7\n{"step": 2}\n{"st')
    assert cut_back(log, 2) == [{"step": 1}, {"step": 2}]
