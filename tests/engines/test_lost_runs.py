"""A run that is lost ends at once, in words, and keeps no weights that are no numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from boxrl.config import dump_recipe  # noqa: E402
from boxrl.engines.checkpoints import cut_back  # noqa: E402
from boxrl.engines.grpo_trainer import BoxGRPOTrainer  # noqa: E402
from boxrl.engines.train import train  # noqa: E402
from boxrl.errors import DataError, UsageError  # noqa: E402
from boxrl.runs import Run  # noqa: E402

from .recipes import tiny_recipe  # noqa: E402


@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_a_loss_that_is_no_number_ends_the_run(
    method: str, scene_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    recipe = tiny_recipe(scene_folder, out, method=method, max_steps=6, learning_rate=1e20)
    with (
        pytest.raises(DataError, match=r"no longer numbers at step [12]; lower train"),
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


def test_a_log_keeps_what_can_be_read(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1}\n[1, 2]\n{"stop": 2}\n{"step": "x"}\n7\n{"step": 2}\n{"st')
    assert cut_back(log, 2) == [{"step": 1}, {"step": 2}]
