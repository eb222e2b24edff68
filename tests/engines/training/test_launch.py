"""Cutting a step up, over micro-batches or over processes, changes nothing but the memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from boxrl.cli import main
from boxrl.config import Recipe, dump_recipe
from boxrl.engines.training.train import train
from boxrl.runs import Run
from tests.support.recipes import ZERO, tiny_recipe

LAUNCH = ["--launch", "accelerate", "--num-processes", "2"]


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def recipe_of(scene_folder: Path, out: Path, **train: Any) -> Recipe:
    options = {"method": "sft", "max_steps": 3, "learning_rate": 1e-4, **train}
    return tiny_recipe(scene_folder, out, **options)


def write(recipe: Recipe) -> str:
    path = recipe.out.with_suffix(".yaml")
    path.write_text(dump_recipe(recipe))
    return str(path)


def assert_same_losses(got: Path, expected: Path) -> None:
    for name in ("loss", "grad_norm"):
        values = [row[name] for row in rows(expected)]
        assert [row[name] for row in rows(got)] == pytest.approx(values, rel=1e-4)


def test_sft_losses_do_not_depend_on_the_micro_batch(scene_folder: Path, tmp_path: Path) -> None:
    for micro in (4, 1):
        recipe = recipe_of(scene_folder, tmp_path / str(micro), micro_batch_prompts=micro)
        with Run(recipe.out, dump_recipe(recipe), {"name": "tiny"}, False):
            train(recipe)
    assert_same_losses(tmp_path / "1", tmp_path / "4")


def test_the_config_can_be_written_without_a_run(scene_folder: Path, tmp_path: Path) -> None:
    written = write(recipe_of(scene_folder, tmp_path / "run"))
    config = tmp_path / "accelerate.yaml"
    assert main(["train", written, *LAUNCH, "--write-config", str(config)]) == 0
    assert "num_processes: 2" in config.read_text()
    assert not (tmp_path / "run").exists()


def test_deepspeed_is_asked_for_where_it_is_missing(
    scene_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written = write(recipe_of(scene_folder, tmp_path / "run"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name != "deepspeed" or None)
    assert main(["train", written, *LAUNCH, "--strategy", "zero3"]) == 2
    assert 'pip install "boxrl[deepspeed]"' in capsys.readouterr().err


def test_a_launch_that_fails_ends_in_one_line(
    scene_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written = write(recipe_of(scene_folder, tmp_path / "run"))
    monkeypatch.setattr("sys.executable", "false")
    assert main(["train", written, *LAUNCH]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"boxrl: {tmp_path / 'run'}: a process of the launch failed")
    assert "--resume" in told


def launched(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> str:
    """What a stand-in for the launcher, a shell script, says to its standard output."""
    told, launcher = tmp_path / "told", tmp_path / "launcher"
    launcher.write_text(f"#!/bin/sh\n({script}) > {told}\n")
    launcher.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(launcher))
    assert main(["train", write(recipe), *LAUNCH]) == 0
    return told.read_text()


def test_the_launcher_waits_for_the_checkpoint_of_a_long_step(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(scene_folder, tmp_path / "run")
    script = "echo ${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-30}"
    assert int(launched(recipe, tmp_path, monkeypatch, script)) >= 600
    on_a_node = (Path(__file__).parents[3] / "deploy" / "node.sh").read_text()
    assert "TORCH_ELASTIC_SHUTDOWN_TIMEOUT" in on_a_node


def test_launches_on_one_machine_take_ports_of_their_own(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(scene_folder, tmp_path / "run")
    told = launched(recipe, tmp_path, monkeypatch, 'cat "$4"; echo "$@"')
    assert "main_process_port" in told


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", *ZERO])
def test_two_processes_give_the_losses_of_one(
    strategy: str, scene_folder: Path, tmp_path: Path
) -> None:
    written = write(recipe_of(scene_folder, tmp_path / "one", max_steps=5))
    assert main(["train", written]) == 0
    launch = [*LAUNCH, "--strategy", strategy]
    assert main(["train", written, f"out={tmp_path / 'two'}", *launch]) == 0
    assert_same_losses(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", *ZERO])
def test_a_launched_run_goes_on_as_if_undisturbed(
    strategy: str, scene_folder: Path, tmp_path: Path
) -> None:
    options = {"max_steps": 3, "save_steps": 2, "learning_rate": 1e-3}
    written = write(tiny_recipe(scene_folder, tmp_path / "whole", **options))
    launch = [*LAUNCH, "--strategy", strategy]
    assert main(["train", written, *launch]) == 0
    cut = tmp_path / "cut"
    shutil.copytree(tmp_path / "whole", cut)
    shutil.rmtree(cut / "model")
    shutil.rmtree(cut / "checkpoints" / "checkpoint-3")
    assert main(["train", written, f"out={cut}", *launch, "--resume"]) == 0
    assert [row["step"] for row in rows(cut)] == [1, 2, 3]
    assert_same_losses(cut, tmp_path / "whole")
    assert (cut / "model" / "model.safetensors").is_file()


@pytest.mark.slow
def test_grpo_runs_on_two_processes(scene_folder: Path, tmp_path: Path) -> None:
    options = {"lora": {"r": 2, "alpha": 4}, "beta": 0.1}
    assert (
        main(["train", write(tiny_recipe(scene_folder, tmp_path / "run", **options)), *LAUNCH]) == 0
    )
    assert [row["step"] for row in rows(tmp_path / "run")] == [1, 2]
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
