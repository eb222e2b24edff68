"""The whole chain in miniature: every step of the quickstart on the packaged tiny VLM."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from boxrl import quickstart  # noqa: E402
from boxrl.cli import main  # noqa: E402
from boxrl.config import find_recipe, load_recipe  # noqa: E402
from boxrl.data.predictions import read_predictions  # noqa: E402
from boxrl.data.samples import read_samples  # noqa: E402
from boxrl.engines.loading import load  # noqa: E402

SMALL = [
    "train.max_steps=3",
    "train.prompts_per_step=2",
    "train.num_generations=4",
    "train.max_completion_length=48",
    "data.synthetic.train=16",
    "data.synthetic.test=12",
    "engine.threads=1",
]
RECIPE = str(find_recipe("quickstart"))


def test_quickstart_evaluates_trains_evaluates_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["quickstart", *SMALL, f"--out={out}"]) == 0

    facts = json.loads((out / "run.json").read_text())
    assert facts["status"] == "done"
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps] == [1, 2, 3]
    assert set(steps[0]["rewards"]) == {"format", "f1"}
    samples = {sample.id for sample in read_samples(out / "data" / "test.jsonl")}
    for name in facts["evals"]:
        folder = out / "evals" / name
        assert set(read_predictions(folder / "predictions.jsonl")) == samples
        assert json.loads((folder / "metrics.json").read_text())["n"] == 12
        assert len((folder / "rows.jsonl").read_text().splitlines()) == 12
    compared = json.loads((out / "compare.json").read_text())["before_greedy|after_greedy"]
    assert {"mAP", "f1", "format_rate"} <= set(compared["metrics"])
    assert "<html" in (out / "report.html").read_text()
    table = capsys.readouterr().out
    assert "accuracy on negatives" in table
    assert "blind" in table

    model, processor = load(str(out / "model"))
    before, _ = load("tiny")
    assert processor.tokenizer.padding_side == "left"
    changed = [
        not torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True)
    ]
    assert any(changed)


def test_a_model_that_was_trained_further_is_asked_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(Path(RECIPE), [*SMALL, f"out={tmp_path}"])
    folder = tmp_path / "evals" / "after_greedy"
    folder.mkdir(parents=True)
    (folder / "predictions.meta.json").write_text('{"steps": 2}')
    asked = []
    monkeypatch.setattr(quickstart, "build_engine", lambda *_: None)
    monkeypatch.setattr(
        quickstart, "answer_and_evaluate",
        lambda _, file, folder, how, facts, name: asked.append((folder.exists(), facts["steps"])),
    )  # fmt: skip
    quickstart._evaluate_model(recipe, "model", "after")
    assert asked == [(False, 3), (False, 3)]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A finished run by SFT, and the call that made it."""
    out = tmp_path_factory.mktemp("taught") / "run"
    call = ["train", RECIPE, *SMALL, f"out={out}", "method=sft"]
    assert main(call) == 0
    return out, call


def test_train_runs_grpo_and_sft_from_one_recipe(
    taught: tuple[Path, list[str]], tmp_path: Path
) -> None:
    assert main(["train", RECIPE, *SMALL, f"out={tmp_path / 'grpo'}", "method=grpo"]) == 0
    for out in (tmp_path / "grpo", taught[0]):
        last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
        assert last["step"] == 3
        assert (out / "model" / "model.safetensors").is_file()


def test_another_run_in_the_folder_is_refused_and_kept(
    taught: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, call = taught
    weights = (out / "model" / "model.safetensors").read_bytes()
    assert main(call) == 2
    assert "holds another run (quickstart, done)" in capsys.readouterr().err
    assert (out / "model" / "model.safetensors").read_bytes() == weights


def test_resuming_a_finished_run_changes_nothing(taught: tuple[Path, list[str]]) -> None:
    out, call = taught
    steps = (out / "metrics.jsonl").read_text()
    weights = (out / "model" / "model.safetensors").read_bytes()
    assert main([*call, "--resume"]) == 0
    assert (out / "metrics.jsonl").read_text() == steps
    assert (out / "model" / "model.safetensors").read_bytes() == weights


def test_a_missing_image_is_named_before_training_starts(
    tmp_path: Path, scene_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [
        "data.synthetic=null",
        f"data.train={scene_folder / 'samples.jsonl'}",
        f"data.images={tmp_path}",
    ]
    call = ["train", RECIPE, *SMALL[:4], *data, f"out={tmp_path / 'run'}"]
    assert main(call) == 1
    assert "no image" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model").exists()
