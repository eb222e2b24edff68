"""Precision and recall by label: curves where boxes are ranked, points where nothing ranks them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.data.files import write_json
from boxrl.data.predictions import read_predictions
from boxrl.data.samples import read_samples
from boxrl.evaluate.judging import Question, judge
from boxrl.families import FAMILIES
from boxrl.metrics.confusion import Confused
from boxrl.parsing import parse
from boxrl.report import build_comparison, build_report
from boxrl.report.answers import tabulate_answers
from boxrl.report.confusion import count_confused
from boxrl.report.glyphs import precision_recall
from boxrl.report.labels import count_labels, label_curves, label_table
from boxrl.report.reading import read_run
from boxrl.types import Object, Sample
from tests.report.test_page import Page
from tests.support.evaluations import PLAIN, B, answer, prediction
from tests.support.report_runs import FAMILY, build_run, write_jsonl

NAME = "after_greedy"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = build_run(tmp_path / "run", samples=16)
    add_logprobs(run)
    return run


def add_logprobs(run: Path) -> None:
    """Log-probabilities that say nothing: they differ from box to box."""
    path = run / "evals" / NAME / "predictions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    samples = {sample.id: sample for sample in read_samples(run / "data" / "test.jsonl")}
    for place, row in enumerate(rows):
        size = samples[row["id"]].size_wh
        n = len(parse(row["completion"], FAMILIES[FAMILY.name], size).detections)
        row["box_logprobs"] = [-0.1 * ((7 * place + 3 * box) % 11) - 0.01 for box in range(n)]
    write_jsonl(path, rows)


def evaluate(run: Path, confidence: str) -> None:
    folder = run / "evals" / NAME
    files = ["--samples", str(run / "data" / "test.jsonl"), "--family", FAMILY.name]
    files += ["--predictions", str(folder / "predictions.jsonl"), "--out", str(folder)]
    assert main(["evaluate", *files, "--confidence", confidence, "--resamples=0"]) == 0


@pytest.mark.parametrize("confidence", ["order", "logprob"])
def test_a_curves_mean_is_the_labels_ap50(run: Path, confidence: str) -> None:
    evaluate(run, confidence)
    evaluation = read_run(run).evaluations[NAME]
    curves = label_curves(evaluation)
    per_label = evaluation.metrics["per_label"]
    wanted = {label: row["AP50"] for label, row in per_label.items() if row["targets"]}
    assert {label: curve.mean() for label, curve in curves.items()} == pytest.approx(wanted)
    assert min(wanted.values()) < 1


def test_confidences_of_the_evaluation_rank_the_boxes(run: Path) -> None:
    predictions = read_predictions(run / "evals" / NAME / "predictions.jsonl")
    evaluate(run, "logprob")
    for row in read_run(run).evaluations[NAME].rows:
        logprobs = predictions[row.id].box_logprobs or ()
        confidences = [box.confidence for box in row.predictions]
        assert len(confidences) == len(logprobs)
        assert sorted(confidences) == [
            confidences[place] for place in sorted(range(len(logprobs)), key=lambda p: logprobs[p])
        ]


@pytest.mark.parametrize(
    ("confidence", "shape", "words"),
    [
        ("constant", "circle", "A point and no curve: every box has the same confidence"),
        ("order", "path", "boxes ranked by their confidence"),
        ("logprob", "path", "boxes ranked by their confidence"),
    ],
)
def test_page_draws_a_curve_only_where_boxes_are_ranked(
    run: Path, confidence: str, shape: str, words: str
) -> None:
    facts = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", facts | {"pairs": [], "evals": [NAME]})
    for other in (run / "evals").iterdir():
        if other.name != NAME:
            shutil.rmtree(other)
    evaluate(run, confidence)
    build_report(run, run / "report.html")
    page = Page(run / "report.html")
    drawn = [tag for tag, attributes in page.elements if attributes.get("class") == "new"]
    assert drawn
    assert set(drawn) == {shape}
    assert words in " ".join(page.text.split())
    assert bool(re.search(r"AP50 \d\.\d\d", page.text)) == (shape == "path")


def test_points_lie_at_the_counts(run: Path) -> None:
    evaluate(run, "constant")
    evaluation = read_run(run).evaluations[NAME]
    counts = count_labels(evaluation.rows)
    table = label_table("t", None, evaluation)
    assert not table.ranked
    for plot in table.plots:
        words = f"Precision {counts.precision(plot.label):.2f} at recall"
        assert words in plot.svg
        assert f"{counts.recall(plot.label):.2f}." in plot.svg
    assert sum(counts.right.values()) == sum(row.tp for row in evaluation.rows)


def test_boxes_in_crowd_regions_count_as_in_precision() -> None:
    crowd = Object((0, 0, 50, 50), "cat", iscrowd=True)
    asked = Sample("1", "1.png", 100, 100, "detection", ("cat",), (crowd, Object(B, "cat")))
    said = answer((B, "cat"), ([5.0, 5.0, 20.0, 20.0], "cat"))
    row = judge(Question.from_sample(asked), prediction("1", said), PLAIN)
    assert [box.kind for box in row.predictions] == ["right", "crowd"]
    counts = count_labels([row])
    assert counts.precision("cat") == row.tp / (row.tp + row.fp)
    assert counts.recall("cat") == 1


def test_questions_that_are_not_answered_with_boxes_count_nowhere() -> None:
    """The object of a region question was one more target, and a missed one."""
    region = Sample(
        "r", "1.png", 100, 100, "region", ("cat",), (Object(B, "cat"),), "What is it?", "cat"
    )
    find = Sample("d", "1.png", 100, 100, "detection", ("cat",), (Object(B, "cat"),))
    rows = [
        judge(Question.from_sample(asked), prediction(asked.id, said), PLAIN)
        for asked, said in ((region, "<answer>cat</answer>"), (find, answer((B, "cat"))))
    ]
    assert count_labels(rows).recall("cat") == 1
    assert count_confused(rows) == {Confused("cat", "cat"): 1}
    assert tabulate_answers("t", rows, 999).statuses[0] == ("ok", 1.0)


def test_runs_with_and_without_ranks_stand_side_by_side(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    evaluate(run, "constant")
    evaluate(other, "order")
    before, after = (read_run(path).evaluations[NAME] for path in (run, other))
    plot = label_table("t", before, after).plots[0]
    assert 'class="old"' in plot.svg and "<circle" in plot.svg
    assert "<path" in plot.svg
    assert plot.ap50[0] is None and plot.ap50[1] is not None
    build_comparison([run, other], tmp_path / "report.html")
    text = " ".join(Page(tmp_path / "report.html").text.split())
    assert "samples cannot be paired" in text  # their protocols differ


def test_a_strange_confidence_is_named(run: Path) -> None:
    evaluate(run, "order")
    path = run / "evals" / NAME / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["protocol"]["confidence"] = "gut"
    write_json(path, metrics)
    missing = " ".join(read_run(run).missing)
    assert "protocol names 'gut'; expected one of constant, order, logprob" in missing


def test_stairs_turn_where_precision_falls() -> None:
    svg = precision_recall("cat", [], [(0.0, 1.0), (0.25, 1.0), (0.5, 0.5), (1.0, 0.5)])
    (stairs,) = [part.split('"')[0] for part in svg.split(' d="')[1:]]
    assert stairs == "M26.0 6.0H84.0V64.0H142.0V64.0"
    assert precision_recall("cat", [], []).count("<path") == 0
    assert precision_recall("cat", [(0.5, 0.5)], [(1.0, 1.0)]).count("<circle") == 2


def test_of_many_labels_those_with_most_targets_are_drawn(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxrl.report.labels.MOST_PLOTS", 2)
    evaluate(run, "constant")
    table = label_table("t", None, read_run(run).evaluations[NAME])
    assert [plot.label for plot in table.plots] == [row.label for row in table.rows[:2]]
    assert len(table.rows) > 2
    assert table.rows[1].targets >= table.rows[2].targets
