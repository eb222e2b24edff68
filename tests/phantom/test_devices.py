"""Machines with several GPUs: each process trains on its own, one process on one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from boxrl.engines.devices import take_gpu  # noqa: E402
from boxrl.engines.loading import load  # noqa: E402
from boxrl.errors import UsageError  # noqa: E402

from .gpu import phantom_gpu  # noqa: E402
from .runs import ran, ran_on_phantom, recipe_of  # noqa: E402

ROOT = Path(__file__).parents[2]
PROCESSES = 2


def test_a_model_is_loaded_onto_the_current_device() -> None:
    with phantom_gpu(devices=3) as gpu:
        torch.cuda.set_device(2)
        model, _ = load("tiny", "bfloat16", "auto", 1)
        assert gpu.device_index_of(model) == 2
        assert not gpu.peak(0)


@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_one_process_takes_one_of_several_gpus(
    method: str, scene_folder: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(scene_folder, tmp_path / "run", "auto", method=method, max_steps=1)
    rows, gpu = ran_on_phantom(recipe, devices=2)
    assert [row["step"] for row in rows] == [1]
    assert "the first of 2; to train on all: --launch" in rows[0]["warnings"]["one_gpu"]
    assert not gpu.peak(1)


def test_more_processes_than_gpus_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "2"), ("LOCAL_RANK", "2"), ("WORLD_SIZE", "3")):
        monkeypatch.setenv(name, value)
    told = r"2 of 3 finds 2 GPU.*: --num-processes 2$"
    with phantom_gpu(devices=2), pytest.raises(UsageError, match=told):
        take_gpu()


def test_a_gpu_too_small_is_one_line(scene_folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(scene_folder, tmp_path / "run", "auto", max_steps=1)
    with pytest.raises(UsageError, match="out of GPU memory before the first step; lower"):
        ran_on_phantom(recipe, memory=2**20)


@pytest.fixture(scope="module")
def ranks(scene_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes, each with both GPUs in sight, say of the same run."""
    folder = shutil.copytree(scene_folder, tmp_path_factory.mktemp("ranks") / "run")
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", str(PROCESSES))
    module = f"{__package__}.ranks"
    subprocess.run([sys.executable, "-m", *launcher, "-m", module, folder], cwd=ROOT, check=True)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(PROCESSES)]


@pytest.mark.phantom
def test_processes_together_train_as_one(
    ranks: list[dict[str, Any]], scene_folder: Path, tmp_path: Path
) -> None:
    expected = ran(recipe_of(scene_folder, tmp_path / "run", "cpu", method="sft"))
    for method in ("sft", "grpo"):
        assert [found[method]["device"] for found in ranks] == [0, 1]
        norms = [[row["grad_norm"] for row in found[method]["rows"]] for found in ranks]
        assert norms[0] == norms[1] and max(norms[0]) > 1e-3
    losses = [row["loss"] for row in expected]
    assert [row["loss"] for row in ranks[0]["sft"]["rows"]] == pytest.approx(losses, rel=1e-4)


@pytest.mark.phantom
def test_a_process_holds_nothing_on_the_others_gpu(ranks: list[dict[str, Any]]) -> None:
    for rank, found in enumerate(ranks):
        assert found["sft"]["peaks"][1 - rank] == 0
