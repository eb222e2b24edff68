"""`boxrl train` begins and ends with the held-out samples: what did it change?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from boxrl.cli import main


@pytest.fixture
def recipe(scene_folder: Path, tmp_path: Path) -> Path:
    pytest.importorskip("torch")
    samples = str(scene_folder / "samples.jsonl")
    content = {
        "name": "own", "method": "sft", "model": "tiny", "out": str(tmp_path / "run"),
        "data": {"train": samples, "test": samples, "images": str(scene_folder / "images")},
        "engine": {"device": "cpu", "threads": 1},
        "train": {"max_steps": 2, "learning_rate": 2e-4, "max_completion_length": 24,
                  "prompts_per_step": 4, "validate_samples": 5},
    }  # fmt: skip
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_train_says_what_changed_and_what_to_do_next(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["train", str(recipe)]) in (0, None)
    said = capsys.readouterr().out
    assert said.startswith("before training: mAP")
    assert "5 held-out samples, greedy, prompt 'standard'" in said
    assert " gained, " in said
    assert "on its own samples: loss" in said
    assert f"next: boxrl report {run}" in said
    assert f"--model {run / 'model'} > grpo.yaml" in said  # what was taught, rewards go on from
    facts = json.loads((run / "run.json").read_text())
    assert (facts["evals"], facts["pairs"]) == (["before", "after"], [["before", "after"]])
    assert facts["status"] == "done"
    assert json.loads((run / "compare.json").read_text())["before|after"]["n"] == 5
    assert len((run / "evals/after/rows.jsonl").read_text().splitlines()) == 5
    assert main(["report", str(run)]) in (0, None)

    before = (run / "evals/before/metrics.json").stat().st_mtime_ns
    assert main(["train", str(recipe), "--resume"]) in (0, None)
    assert (run / "evals/before/metrics.json").stat().st_mtime_ns == before
    assert main(["train", str(recipe), "--resume", "train.max_steps=3"]) in (0, None)
    assert json.loads((run / "evals/after/predictions.meta.json").read_text())["steps"] == 3


def test_several_processes_end_with_what_to_run_next(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr("boxrl.engines.training.train.train_run", lambda *_: None)
    samples = yaml.safe_load(recipe.read_text())["data"]["test"]
    run, call = tmp_path / "run", ["train", str(recipe), "prompt=enhanced"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        assert main(call) == 0
    said = capsys.readouterr().out
    assert said.count("model: ") == 1 and said.count("next: boxrl predict") == 1
    assert f" --samples {samples} --images " in said
    assert f" --model {run / 'model'} --prompt enhanced --out {run}/evals/val/" in said
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("BOXRL_LAUNCHED", "1")  # whose parent says it
    assert main(call) == 0
    assert capsys.readouterr().out == ""


def test_a_finished_folder_is_replaced_by_a_flag_that_says_so(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["train.max_completion_length=8", "train.validate_samples=1"]
    run, call = tmp_path / "run", ["train", str(recipe), *quick]
    assert main(call) in (0, None)
    (run / "notes.txt").write_text("mine")
    assert main(call) == 2
    assert "--replace to delete it" in capsys.readouterr().err
    assert main([*call, "--replace"]) == 2
    assert "holds notes.txt, which no run wrote" in capsys.readouterr().err
    assert (run / "model").is_dir()
    (run / "notes.txt").unlink()
    assert main([*call, "--replace", "train.max_steps=1"]) in (0, None)
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 1
    with pytest.raises(SystemExit):
        main([*call, "--replace", "--resume"])


def test_what_would_train_nothing_is_refused_before_a_model_is_loaded(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["train", str(recipe), "method=grpo", "train.prompts_per_step=16"]
    line = "train.prompts_per_step is 16 and there are 12 samples"
    for words in (call, ["validate", *call[1:]], [*call, "--dry-run"]):
        assert main(words) == 2
        assert line in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_command_that_trains_on_keeps_what_the_run_was_told() -> None:
    from boxrl.cli import build_parser
    from boxrl.cli.train import further
    from boxrl.config import find_recipe, load_recipe

    words = ["train", "my recipe.yaml", "prompt=enhanced", "out=a", "train.max_steps=10"]
    args = build_parser().parse_args(words)
    recipe = load_recipe(find_recipe("quickstart"), ["out=a", "train.max_steps=10"])
    assert further(args, recipe) == (
        "boxrl train 'my recipe.yaml' prompt=enhanced out=a --resume train.max_steps=40"
    )
