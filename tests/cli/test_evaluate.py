"""`boxrl evaluate` and `boxrl compare` from the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.cli.compare import print_comparison
from boxrl.cli.evaluate import print_evaluation
from boxrl.data.predictions import PredictionsFile
from boxrl.data.samples import write_samples
from boxrl.evaluate import compare, evaluate
from boxrl.evaluate.summary import METRICS
from tests.support.evaluations import QWEN, SCENES, prediction, spoil


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """s.jsonl, and the predictions files one.jsonl, two.jsonl and blank.jsonl for it."""
    write_samples(tmp_path / "s.jsonl", SCENES)
    settings = {"family": "qwen2.5-vl", "prompt": "standard", "min_pixels": 3136}
    for name, share in (("one", 0.9), ("two", 0.1), ("blank", 0.95)):
        extra = {"control": "blank_image"} if name == "blank" else {}
        file = PredictionsFile(tmp_path / f"{name}.jsonl", settings | extra)
        file.append(spoil(SCENES, share, 5).values())
    return tmp_path


def verb(folder: Path, *arguments: str) -> int:
    return main([a.replace("DIR", str(folder)) for a in arguments])


def test_evaluate_and_compare_from_the_command_line(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        files = f"--samples=DIR/s.jsonl --predictions=DIR/{name}.jsonl --out=DIR/{name}".split()
        assert verb(run_folder, "evaluate", *files, "--json", "--resamples=50") == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed == json.loads((run_folder / name / "metrics.json").read_text())
        assert printed["protocol"]["prompt"] == "standard"
    assert verb(run_folder, "compare", "DIR/one", "DIR/two", "--json", "--resamples=50") == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["mAP"]["low"] > 0
    assert verb(run_folder, "compare", "DIR/one", "DIR/two", "--resamples=50") == 0
    printed = capsys.readouterr().out
    assert "gained:" in printed
    assert re.search(r"^mAP .* better; \d+ samples gained, \d+ lost$", printed, re.MULTILINE)


def test_compare_scores_the_evaluations_of_a_run_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_samples(tmp_path / "data" / "test.jsonl", SCENES)
    settings = {"family": "qwen2.5-vl", "prompt": "standard", "samples": "data/test.jsonl"}
    for name, share in (("before", 0.9), ("after", 0.1)):
        path = tmp_path / "evals" / name / "predictions.jsonl"
        PredictionsFile(path, settings).append(spoil(SCENES, share, 5).values())
    runs = ["DIR/evals/before", "DIR/evals/after"]
    assert verb(tmp_path, "compare", *runs, "--json", "--resamples=50") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["f1"]["low"] > 0
    assert found["protocol"]["answer_tag"] == "optional"
    for name in ("before", "after"):
        protocol = {"answer_tag": "required", "confidence": "order"}
        metrics = tmp_path / "evals" / name / "metrics.json"
        metrics.write_text(json.dumps({"protocol": protocol}))
    assert verb(tmp_path, "compare", *runs, "--resamples=50") == 0
    printed = capsys.readouterr().out
    assert "answer_tag: required" in printed
    assert "confidence: order" in printed
    cut = tmp_path / "evals" / "after" / "predictions.jsonl"
    cut.write_text("".join(cut.read_text().splitlines(keepends=True)[:-1]))
    assert verb(tmp_path, "compare", *runs) == 1
    assert f"{cut}: 1 of {len(SCENES)} samples have no prediction" in capsys.readouterr().err
    (tmp_path / "data" / "test.jsonl").unlink()
    assert verb(tmp_path, "compare", *runs) == 2
    assert "its samples file data/test.jsonl is not there" in capsys.readouterr().err


def test_controls_stand_beside_the_run(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--samples=DIR/s.jsonl", "--predictions=DIR/two.jsonl", "--control=DIR/blank.jsonl"]
    assert verb(run_folder, "evaluate", *files, "--resamples=100") == 0
    printed = capsys.readouterr().out
    assert "blind baseline" in printed
    assert "better than the control blank_image (95 % CI" in " ".join(printed.split())
    files[-1] = "--control=DIR/one.jsonl"
    assert verb(run_folder, "evaluate", *files) == 2
    assert "one.jsonl is not a control" in capsys.readouterr().err


def test_the_family_must_be_known_and_not_contradicted(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--samples=DIR/s.jsonl", "--predictions=DIR/one.jsonl"]
    assert verb(run_folder, "evaluate", *files, "--family=plain") == 2
    assert "contradicts the predictions' own settings" in capsys.readouterr().err
    (run_folder / "one.meta.json").unlink()
    assert verb(run_folder, "evaluate", *files) == 2
    error = capsys.readouterr().err
    assert "name it with --family" in error
    assert error.count("\n") == 1


def test_missed_targets_have_no_cost_where_nothing_is_found() -> None:
    nothing = {item.id: prediction(item.id, "<answer>None</answer>") for item in SCENES}
    errors = evaluate(SCENES, nothing, QWEN, resamples=0).metrics["errors"]
    assert errors["AP50_lost"]["missed"] is None
    assert errors["counts"]["missed"] == sum(len(item.objects) for item in SCENES)
    some = evaluate(SCENES, spoil(SCENES, 0.5, 0), QWEN, resamples=0).metrics["errors"]
    assert some["AP50_lost"]["missed"] > 0


def test_tables_keep_every_figure_on_one_line_of_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    settings = {"sampling": {"temperature": 0.5, "max_new_tokens": 96, "top_p": None}}
    nothing = {item.id: prediction(item.id, "<answer>None</answer>") for item in SCENES}
    before = evaluate(SCENES, nothing, QWEN, resamples=50, settings=settings)
    after = evaluate(SCENES, spoil(SCENES, 0.2, 1), QWEN, resamples=50)
    print_comparison(compare(before, after, resamples=50), ["before", "after"])
    table = capsys.readouterr().out.split("a = before")[0].splitlines()
    figures = [line for line in table if line.startswith(tuple(m.name for m in METRICS))]
    assert len(figures) == len(table) - 4  # title, two lines of header, rule
    assert all(" to " in line for line in figures)
    [tokens] = [line.split() for line in figures if line.startswith("tokens, mean")]
    assert tokens[-2:] == ["-", "-"]
    print_evaluation(before.metrics)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert "TIDE errors at IoU 0.5" in lines
    assert "AP50 is 0, so TIDE cannot weigh what is missed" in lines
    assert "sampling: temperature 0.5, max_new_tokens 96" in lines


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("evaluate --samples=s --predictions=p --resamples=-5", "--resamples: expected an integer"),
        ("evaluate --samples=s --predictions=p --seed=-1", "--seed: expected an integer >= 0"),
        ("compare a b --resamples=0", "--resamples: expected an integer >= 1, got '0'"),
        (
            "benchmark run d3 --data-root=d --out=o --resamples=-5",
            "--resamples: expected an integer",
        ),
        ("benchmark run d3 --data-root=d --out=o --limit=0", "--limit: expected an integer"),
        (
            "benchmark run d3 --data-root=d --out=o --model=m --predict-options=--n=0",
            "--n: expected an integer >= 1, got '0'",
        ),
        ("predict --samples=s --images=i --model=m --out=o --n=1.5", "--n: expected an integer"),
        (
            "predict --samples=s --images=i --model=m --out=o --temperature=nan",
            "--temperature: expected a number >= 0, got 'nan'",
        ),
        (
            "predict --samples=s --images=i --model=m --out=o --top-p=0",
            "--top-p: expected a number > 0 and <= 1, got '0'",
        ),
        (
            "predict --samples=s --images=i --model=m --out=o --timeout=-3",
            "--timeout: expected a number > 0, got '-3'",
        ),
    ],
)
def test_numbers_out_of_range_are_told_before_anything_is_read(
    capsys: pytest.CaptureFixture[str], call: str, message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(call.split())
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
