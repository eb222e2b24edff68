"""Five steps are the same under every strategy that shares the work between processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from safetensors.torch import load_file

from boxrl.engines.training.launch import accelerate_config
from tests.support.random_models import KINDS
from tests.support.recipes import ZERO

from .dealt_out import FIGURES, SETTINGS, build_recipe

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
PROCESSES = 2
STRATEGIES: dict[str, dict[str, Any]] = {
    "ddp": {"zero_stage": 0, "fsdp_version": None, "share_held": 1},
    "fsdp2": {"zero_stage": 0, "fsdp_version": 2, "share_held": 1 / PROCESSES},
    "zero2": {"zero_stage": 2, "fsdp_version": None, "share_held": 1},
    "zero3": {"zero_stage": 3, "fsdp_version": None, "share_held": 1 / PROCESSES},
}
"""What the trainer says of itself; sharded weights are padded to whole rows."""


def run(folder: Path, *launcher: str) -> Path:
    subprocess.run(
        [sys.executable, *launcher, "-m", __package__ + ".dealt_out", folder], cwd=ROOT, check=True
    )
    return folder


@pytest.fixture(scope="module")
def one_process(scene_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one") / "run"
    return run(shutil.copytree(scene_folder, folder))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", *ZERO])
def test_two_processes_take_the_steps_of_one(
    strategy: str, one_process: Path, scene_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(scene_folder, tmp_path / "run")
    recipe = build_recipe(folder, "tiny")
    if strategy == "fsdp2":  # its config is for GPUs; dealt_out.py has CPUs pass for them
        engine = recipe.engine.model_copy(update={"device": "cuda"})
        recipe = recipe.model_copy(update={"engine": engine})
    config = tmp_path / "accelerate.yaml"
    config.write_text(accelerate_config(recipe, PROCESSES, strategy))
    launcher = ("accelerate.commands.launch", "--config_file", str(config))
    run(folder, "-m", *launcher, "--main_process_port", "0")
    for setting in SETTINGS:
        expected, got = (
            json.loads((each / setting / "found.json").read_text())
            for each in (one_process, folder)
        )
        assert got["processes"] == PROCESSES
        facts = {name: got[name] for name in STRATEGIES[strategy]}
        assert facts == pytest.approx(STRATEGIES[strategy], abs=0.02)
        for name in FIGURES[build_recipe(folder, setting).method]:
            assert got[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-6)
        assert any(abs(loss) > 1e-2 for loss in expected["loss"])
        if setting in KINDS:  # built, not loaded: transformers does not know their hub names
            continue
        (file,) = (one_process / setting / "model").glob("*.safetensors")
        weights = load_file(folder / setting / "model" / file.name)
        saved = load_file(file)
        assert weights.keys() == saved.keys()
        assert max((weights[name] - saved[name]).abs().max() for name in saved) < 1e-4
