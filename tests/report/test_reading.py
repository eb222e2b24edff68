"""What a page says is what was evaluated, wherever the command is started from."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.data.files import hash_file, write_json
from boxrl.data.predictions import PredictionsFile
from boxrl.data.samples import hash_images, read_samples, write_samples
from boxrl.parsing import parse
from boxrl.report import build_report
from boxrl.report.reading import read_run
from boxrl.rewards import REWARDS, build_reward
from boxrl.types import Asked, Completion, Target
from tests.report.test_page import Page
from tests.support.evaluations import A, B, C, answer, prediction, sample
from tests.support.report_runs import EVALS, FAMILY, build_run, evaluate_again

ASKED = [
    sample("1", (A, "cat"), (B, "dog")),
    sample("2", (A, "cat"), meta={"others": [{"bbox": B, "label": "bird"}]}),
    sample("3"),
    sample("4", (C, "dog"), (A, "dog")),
]
ANSWERS = [
    answer((A, "cat"), (A, "dog"), ([0.0, 0.0, 50.0, 49.0], "cat")),  # right, wrong name, twice
    answer(([0.0, 0.0, 50.0, 20.0], "cat"), (B, "cat"), (A, "zebra")),  # loose, unasked, unknown
    answer(([0.0, 0.0, 9.0, 9.0], "cat")),
    answer(([60.0, 0.0, 90.0, 12.0], "cat")),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("run"), samples=8, steps=10)


def evaluate(folder: Path, samples: Path, *options: str) -> None:
    files = ["--samples", str(samples), "--predictions", str(folder / "predictions.jsonl")]
    assert main(["evaluate", *files, "--out", str(folder), "--resamples=0", *options]) == 0


def test_page_shows_what_was_evaluated_and_not_what_was_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`evaluate --samples OTHER`: metrics, labels, answers and gallery were of two data sets."""
    monkeypatch.chdir(tmp_path)
    write_samples(Path("d/test.jsonl"), ASKED)
    moved = [replace(s, objects=s.objects[1:]) for s in ASKED]  # other targets, the same ids
    write_samples(Path("d/changed.jsonl"), moved)
    folder = Path("D/evals/val")
    settings = {"family": "plain", "prompt": "standard", "samples": "d/test.jsonl"}
    answers = [prediction(s.id, text) for s, text in zip(ASKED, ANSWERS, strict=True)]
    PredictionsFile(folder / "predictions.jsonl", settings).append(answers)
    evaluate(folder, Path("d/changed.jsonl"))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert main(["report", "D"]) == 0
    page = Page(Path("D/report.html"))
    targets = [s["targets"] for s in page.payload["samples"]]
    assert [len(boxes) for boxes in targets] == [len(s.objects) for s in moved]
    rows = list(page.payload["evaluations"][0]["rows"].values())
    kinds = Counter(box[5] for row in rows for box in row["boxes"])
    boxes = sum(len(row["boxes"]) for row in rows)
    assert kinds["right"] / boxes == metrics["precision@0.5"] == 0
    (shown,) = read_run(Path("D")).evaluations.values()
    assert sum(row.tp for row in shown.rows) == 0


def test_a_report_parses_and_judges_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("parsed or judged again")

    names = ("parse", "judge_completion", "find_box_errors", "box_confidences")
    for name in names:
        monkeypatch.setattr(f"boxrl.evaluate.judging.{name}", refuse)
    monkeypatch.setattr("boxrl.parsing.parse", refuse)
    build_report(run, tmp_path / "report.html")
    payload = Page(tmp_path / "report.html").payload
    assert [len(one["rows"]) for one in payload["evaluations"]] == [8] * 4
    row = payload["evaluations"][0]["rows"]["0"]
    assert row["text"]
    assert {type(value) for value in row["rewards"]} <= {float, int, type(None)}
    assert main(["compare", str(run), str(run), "--resamples=10"]) == 0


def test_a_comparison_of_evaluations_made_anew_is_left_out(run: Path, tmp_path: Path) -> None:
    """The page gave the new figures and beside them the difference of the old ones."""
    copy = shutil.copytree(run, tmp_path / "run")
    evaluate_again(copy, "after_greedy", reading="tolerant")
    assert len(read_run(copy).comparisons) == 2  # the same figures
    folder = copy / "evals" / "after_greedy"
    metrics = json.loads((folder / "metrics.json").read_text())
    write_json(folder / "metrics.json", metrics | {"mAP": metrics["mAP"] / 2})
    found = read_run(copy)
    assert list(found.comparisons) == ["before_sampled|after_sampled"]
    assert "other figures than before_greedy and after_greedy have now" in found.missing[0]


def test_rewards_of_the_page_are_those_of_the_completions(run: Path) -> None:
    """From what rows.jsonl keeps of the parse."""
    evaluation = read_run(run).evaluations["before_sampled"]
    for row, kept in zip(evaluation.rows, evaluation.completions, strict=True):
        text, target = evaluation.predictions[row.id].completion, Target.from_sample(row.sample)
        asked = Asked.from_sample(row.sample)
        read = parse(text, FAMILY, (row.width, row.height), None, "optional", asked)
        fresh = Completion(text, read, row.n_tokens)
        for name in REWARDS:
            reward = build_reward(name)
            assert reward(kept, target) == reward(fresh, target), name


def test_a_thought_that_the_prompt_opened_is_one_on_the_page_too(tmp_path: Path) -> None:
    write_samples(tmp_path / "s.jsonl", ASKED)
    settings = {"family": "plain", "opens_thought": True}
    texts = [text.removeprefix("<think>") for text in ANSWERS]
    answers = [prediction(s.id, text) for s, text in zip(ASKED, texts, strict=True)]
    PredictionsFile(tmp_path / "predictions.jsonl", settings).append(answers)
    evaluate(tmp_path, tmp_path / "s.jsonl")
    build_report(tmp_path, tmp_path / "report.html")
    payload = Page(tmp_path / "report.html").payload
    place = [name for name, *_ in payload["rewards"]].index("format")
    rows = list(payload["evaluations"][0]["rows"].values())
    assert [row["text"] for row in rows] == texts  # as the model wrote it
    assert {row["think"] for row in rows} == {"x"}
    assert {row["rewards"][place] for row in rows} == {1}


def terminal_errors(printed: str) -> dict[str, int]:
    """The counts of the table that `boxrl evaluate` prints."""
    table = printed.partition("TIDE errors")[2].partition("by label")[0]
    return {name: int(n) for name, n in re.findall(r"^(\w+) +\S+ +(\d+) *$", table, re.M)}


def page_errors(path: Path) -> dict[str, int]:
    """The counts of the section Answers of a page with one evaluation."""
    text = path.read_text("utf-8").partition('id="answers"')[2].partition("How answers read")[0]
    found = re.findall(r"</i>(\w+) <b>([\d,]+)</b>", text)
    return {name: int(n.replace(",", "")) for name, n in found}


def test_terminal_page_and_json_count_the_same_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_samples(tmp_path / "s.jsonl", ASKED)
    answers = [prediction(s.id, text) for s, text in zip(ASKED, ANSWERS, strict=True)]
    PredictionsFile(tmp_path / "predictions.jsonl", {"family": "plain"}).append(answers)
    evaluate(tmp_path, tmp_path / "s.jsonl")
    printed = capsys.readouterr().out
    errors = json.loads((tmp_path / "metrics.json").read_text())["errors"]
    assert main(["report", str(tmp_path)]) == 0
    shown = page_errors(tmp_path / "report.html")
    assert shown.pop("right") == 1
    assert shown == terminal_errors(printed) == errors["counts"]
    assert shown == {
        "classification": 1, "localization": 1, "both": 1, "duplicate": 1, "background": 2,
        "missed": 3,
    }  # fmt: skip
    page = " ".join(Page(tmp_path / "report.html").text.split())
    assert errors["on_unasked"] == 1
    assert "1 of these boxes lie on objects that were not asked for" in " ".join(printed.split())
    assert "1 of these boxes lie on objects that were not asked for" in page
    assert "1 more boxes bear labels that nothing asks for" in page


@pytest.mark.parametrize("start", ["home", "root"])
def test_a_report_is_the_same_from_every_directory(
    start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of evaluations whose samples and images were named by relative paths."""
    source = build_run(tmp_path / "source", samples=6, steps=2)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    shutil.copytree(source / "data", "d")
    settings = {"family": FAMILY.name, "samples": "d/test.jsonl", "images": "d/images"}
    lines = (source / "evals/after_greedy/predictions.jsonl").read_text()
    settings["files"] = {
        "samples": {"path": "d/test.jsonl", "sha256": hash_file(Path("d/test.jsonl"))},
        "images": {
            "path": "d/images",
            "sha256": hash_images(Path("d/images"), read_samples(Path("d/test.jsonl"))),
        },
    }
    for name in ("A", "B"):
        PredictionsFile(Path(name, "predictions.jsonl"), settings)
        Path(name, "predictions.jsonl").write_text(lines)
    evaluate(Path("A"), Path("d/test.jsonl"))  # B is judged when it is opened
    if start == "root":
        monkeypatch.chdir("/")
    for name in ("A", "B"):
        path = os.path.relpath(home / name)
        out = tmp_path / f"{name}.html"
        assert main(["report", path, "--out", str(out), "--export", str(tmp_path / name)]) == 0
        page = Page(out)
        assert all(url for url in page.payload["pictures"])
        assert len(page.payload["evaluations"][0]["rows"]) == 6
        assert "images are missing" not in page.text
    assert main(["compare", *(os.path.relpath(home / n) for n in "AB"), "--resamples=10"]) == 0


def test_a_run_may_be_moved_with_its_data(run: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(run, tmp_path / "moved")
    build_report(moved, tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert "Not everything is here" not in page.text
    assert all(url for url in page.payload["pictures"])
    assert str(moved) not in (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("nowhere", "no such run folder"),
        ("foreign", "holds no run; expected any of run.json, metrics.jsonl, evals, predictions"),
    ],
)
def test_every_verb_agrees_on_what_is_no_run(
    folder: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("x")
    path = str(tmp_path / folder)
    for call in (
        ["report", path],
        ["report", path, "--export", str(tmp_path / "x")],
        ["watch", path],
        ["compare", path, path],
        ["export", path, "--out", str(tmp_path / "model")],
    ):
        assert main(call) == 2
        said = capsys.readouterr().err
        assert f"{path}: {words}" in said, call
        assert said.count("\n") == 1


def test_an_evaluation_alone_is_a_run_that_was_not_trained(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = shutil.copytree(run / "evals" / EVALS[0], tmp_path / "alone")
    assert main(["report", str(alone)]) == 0
    assert main(["compare", str(alone), str(alone), "--resamples=10"]) == 0
    capsys.readouterr()
    for call in (["watch", str(alone)], ["export", str(alone), "--out", str(tmp_path / "m")]):
        assert main(call) == 2
        assert f"{alone}: holds one evaluation and no run" in capsys.readouterr().err


def test_what_a_page_lacks_is_told_in_the_terminal_too(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "evals" / "after_greedy" / "rows.jsonl").write_text("{}\n")
    assert main(["report", str(copy)]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("note: evals/after_greedy/rows.jsonl cannot be read: evals/after_gr")
    assert "rows.jsonl:1: no row of an evaluation (Object missing required field" in said.err
    assert said.out == f"report: {copy / 'report.html'}\n"
