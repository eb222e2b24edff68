"""Predictions in the files of other tools."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from boxrl.boxes import area, xyxy_to_xywh
from boxrl.cli import main
from boxrl.data.samples import read_samples
from boxrl.errors import DataError, UsageError
from boxrl.evaluate import evaluate
from boxrl.evaluate.coco import evaluate_coco
from boxrl.prompts import render_target
from boxrl.report.exports import (
    COLUMNS,
    export_run,
    to_fiftyone,
    to_supervision,
    write_coco_pair,
    write_csv,
)
from boxrl.report.reading import ShownEvaluation, read_run
from boxrl.types import Detections, Object, fold_label
from tests.support.evaluations import PLAIN, A, B, answer, prediction
from tests.support.evaluations import sample as asking
from tests.support.report_runs import FAMILY, build_run, write_evaluation


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


def test_questions_about_one_image_are_scored_as_the_run_is(tmp_path: Path) -> None:
    """They were one image: the dog that nobody asked for hit the target of the next question."""
    pair = [asking(name, (box, name)) for name, box in (("cat", A), ("dog", B))]
    asked = [
        replace(item, id=f"{item.id}{k}", image=f"{k}.png", meta={"image_id": k})
        for k in (7, 5)
        for item in pair
    ]
    both, dog = answer((A, "cat"), (B, "dog")), answer((B, "dog"))
    said = {item.id: prediction(item.id, both if "cat" in item.id else dog) for item in asked}
    judged = evaluate(asked, said, PLAIN, resamples=0)
    files = tmp_path / "annotations.json", tmp_path / "predictions.json"
    write_coco_pair(*files, ShownEvaluation("x", rows=judged.rows))
    assert evaluate_coco(*files)["mAP"] == pytest.approx(judged.metrics["mAP"], abs=1e-9)
    assert judged.metrics["mAP"] < 0.9


def test_boxes_and_sizes_are_those_that_were_judged(tmp_path: Path) -> None:
    """Rounded to hundredths of a pixel, a box at IoU .5 was no hit; areas of outlines were lost."""
    half = asking("0", ([0.0, 0.0, 0.333, 10.0], "cat"), meta={"areas": [3.0]})
    whole = asking("1", ([0.0, 0.0, 50.0, 50.0], "cat"), meta={"areas": [900.0]})
    said = {
        "0": prediction("0", answer(([0.0, 0.0, 0.333, 5.0], "cat"))),
        "1": prediction("1", answer(([0.0, 0.0, 50.0, 50.0], "cat"))),
    }
    judged = evaluate([half, whole], said, PLAIN, resamples=0)
    files = tmp_path / "annotations.json", tmp_path / "predictions.json"
    write_coco_pair(*files, ShownEvaluation("x", rows=judged.rows))
    found = evaluate_coco(*files)
    for name in ("mAP", "AP50", "APs", "APm", "APl"):
        assert found[name] == pytest.approx(judged.metrics[name], abs=1e-9), name
    assert (found["AP50"], found["APm"]) == (pytest.approx(1.0), None)


def test_csv_has_every_box_and_every_missed_target(run: Path, tmp_path: Path) -> None:
    evaluation = read_run(run).evaluations["before_sampled"]
    count = write_csv(tmp_path / "boxes.csv", evaluation)
    with (tmp_path / "boxes.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    boxes = sum(len(row.predictions) for row in evaluation.rows)
    missed = sum(item.missed for row in evaluation.rows for item in row.objects)
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
    assert detections.xyxy.shape == (len(row.predictions), 4)
    assert list(detections.data["class_name"]) == list(row.detections.labels)
    assert detections.confidence.tolist() == [box.confidence for box in row.predictions]
    assert detections.area.tolist() == pytest.approx(area(row.detections.boxes).tolist())


@pytest.fixture
def fiftyone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """FiftyOne with a database of its own, that tells nobody."""
    monkeypatch.setenv("FIFTYONE_DATABASE_DIR", str(tmp_path / "database"))
    monkeypatch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
    found = pytest.importorskip("fiftyone")
    yield found
    for name in found.list_datasets():
        found.delete_dataset(name)


def xywh_px(sample: Any, field: str) -> list[tuple[str, list[float]]]:
    """(label, box in pixels) of a FiftyOne sample's detections, sorted."""
    width, height = sample.metadata.width, sample.metadata.height
    scales = (width, height, width, height)
    found = sample[field].detections if sample[field] else []
    boxes = [[v * s for v, s in zip(d.bounding_box, scales, strict=True)] for d in found]
    return sorted(zip([fold_label(d.label) for d in found], boxes, strict=True))


def objects(boxes: Detections) -> list[Object]:
    return [
        Object(tuple(box), name)
        for box, name in zip(boxes.boxes.tolist(), boxes.labels, strict=True)
    ]


def same_boxes(found: list[tuple[str, list[float]]], wanted: Detections) -> bool:
    """Equal labels, and boxes equal to a hundredth of a pixel."""
    expected = sorted(
        zip(map(fold_label, wanted.labels), xyxy_to_xywh(wanted.boxes).tolist(), strict=True)
    )
    return [label for label, _ in found] == [label for label, _ in expected] and all(
        a == pytest.approx(b, abs=0.01) for (_, a), (_, b) in zip(found, expected, strict=True)
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # FiftyOne's own
def test_fiftyone_opens_the_coco_pair_and_the_data_set(
    run: Path, tmp_path: Path, fiftyone: Any
) -> None:
    from fiftyone.utils.coco import add_coco_labels

    export_run(run, tmp_path)
    folder = tmp_path / "before_sampled"
    evaluation = read_run(run).evaluations["before_sampled"]
    pair = fiftyone.Dataset.from_dir(
        dataset_type=fiftyone.types.COCODetectionDataset,
        data_path=str(run / "data" / "images"),
        labels_path=str(folder / "annotations.json"),
        label_field={"detections": "ground_truth", "coco_id": "coco_id"},
        include_id=True,
    )
    categories = json.loads((folder / "annotations.json").read_text())["categories"]
    add_coco_labels(
        pair,
        "predictions",
        str(folder / "predictions.json"),
        {item["id"]: item["name"] for item in categories},
        coco_id_field="coco_id",
    )
    whole = to_fiftyone(evaluation)
    whole.compute_metadata()
    known = {fold_label(item["name"]) for item in categories}
    for sample, question, row in zip(pair, whole, evaluation.rows, strict=True):
        assert Path(sample.filepath).name == Path(question.filepath).name == row.image
        preds, targets = row.detections, Detections.from_objects(row.sample.objects)
        named = Detections.from_objects([o for o in objects(preds) if fold_label(o.label) in known])
        assert same_boxes(xywh_px(sample, "ground_truth"), targets)
        assert same_boxes(xywh_px(sample, "predictions"), named)
        assert same_boxes(xywh_px(question, "ground_truth"), targets)
        assert same_boxes(xywh_px(question, "predictions"), preds)
        found = [d.kind for d in question.predictions.detections]
        assert found == [box.kind for box in row.predictions]
        assert question.score == row.score
    kinds = whole.count_values("predictions.detections.kind")
    assert kinds["right"] == sum(row.tp for row in evaluation.rows)


def test_fiftyone_that_is_missing_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    monkeypatch.setitem(sys.modules, "supervision", None)
    evaluation = read_run(run).evaluations["after_greedy"]
    with pytest.raises(UsageError, match="pip install fiftyone"):
        to_fiftyone(evaluation)
    with pytest.raises(UsageError, match="pip install supervision"):
        to_supervision(evaluation.rows[0])


def test_scores_of_the_coco_file_are_the_confidences_of_the_evaluation(
    run: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    folder = copy / "evals" / "before_sampled"
    files = ["--samples", str(copy / "data" / "test.jsonl"), "--family", FAMILY.name]
    files += ["--predictions", str(folder / "predictions.jsonl"), "--out", str(folder)]
    assert main(["evaluate", *files, "--confidence", "order", "--resamples=0"]) == 0
    export_run(copy, tmp_path / "out")
    out = tmp_path / "out" / "before_sampled"
    rows = json.loads((out / "predictions.json").read_text())
    assert {row["score"] for row in rows} > {1.0, 0.5}
    metrics = json.loads((folder / "metrics.json").read_text())
    figures = evaluate_coco(out / "annotations.json", out / "predictions.json")
    assert figures["mAP"] == pytest.approx(metrics["mAP"], abs=1e-9)
