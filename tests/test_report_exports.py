"""Predictions in the files of other tools."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.data.samples import read_samples
from boxrl.errors import DataError
from boxrl.evaluate.coco import evaluate_coco
from boxrl.prompts import render_target
from boxrl.report.exports import COLUMNS, export_run, to_supervision, write_csv
from boxrl.report.reading import read_run
from tests.report_runs import FAMILY, build_run, write_evaluation


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = build_run(tmp_path_factory.mktemp("run"), samples=10)
    samples = read_samples(run / "data" / "test.jsonl")
    write_evaluation(run, "after_greedy", samples, lambda s: render_target(s, FAMILY))
    return run


def test_coco_pair_is_scored_as_the_run_is(run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path)
    folder = tmp_path / "after_greedy"
    figures = evaluate_coco(folder / "annotations.json", folder / "predictions.json")
    assert figures["AP50"] == pytest.approx(1.0)
    faulty = tmp_path / "before_sampled"
    worse = evaluate_coco(faulty / "annotations.json", faulty / "predictions.json")
    assert worse["AP50"] < 1.0


def test_csv_has_every_box_and_every_missed_target(run: Path, tmp_path: Path) -> None:
    evaluation = read_run(run).evaluations["before_sampled"]
    count = write_csv(tmp_path / "boxes.csv", evaluation)
    with (tmp_path / "boxes.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    boxes = sum(len(row.verdict.kinds) for row in evaluation.rows)
    missed = sum(len(row.verdict.missed) for row in evaluation.rows)
    assert tuple(lines[0]) == COLUMNS
    assert count == len(lines) == boxes + missed
    assert sum(line["kind"] == "missed" for line in lines) == missed


def test_text_that_a_spreadsheet_would_run_is_defused(run: Path, tmp_path: Path) -> None:
    answer = '<answer>[{"bbox_2d": [1, 1, 50, 50], "label": "=HYPERLINK(1)"}]</answer>'
    samples = read_samples(run / "data" / "test.jsonl")
    copy = build_run(tmp_path / "run", samples=10)
    write_evaluation(copy, "after_greedy", samples, lambda s: answer)
    write_csv(tmp_path / "boxes.csv", read_run(copy).evaluations["after_greedy"])
    assert "'=HYPERLINK(1)" in (tmp_path / "boxes.csv").read_text()
    assert ",=HYPERLINK" not in (tmp_path / "boxes.csv").read_text()


def test_run_without_answers_has_nothing_to_export(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no answers to export"):
        export_run(tmp_path / "empty", tmp_path / "out")


def test_command_exports(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "report.html"
    assert main(["report", str(run), "--out", str(page), "--export", str(tmp_path / "x")]) == 0
    assert capsys.readouterr().out.count("export: ") == 12
    rows = json.loads((tmp_path / "x" / "after_greedy" / "predictions.json").read_text())
    assert {"image_id", "category_id", "bbox", "score"} == set(rows[0])
    assert main(["report", str(run), str(run), "--export", str(tmp_path / "x")]) == 2


def test_supervision_gets_boxes_and_names(run: Path) -> None:
    pytest.importorskip("supervision")
    row = read_run(run).evaluations["after_greedy"].rows[0]
    detections = to_supervision(row)
    assert detections.xyxy.shape == (len(row.parsed.detections), 4)
    assert list(detections.data["class_name"]) == list(row.parsed.detections.labels)
