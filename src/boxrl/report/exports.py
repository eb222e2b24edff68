"""A run's predictions for other tools: a COCO pair, a CSV, supervision, FiftyOne."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boxrl.boxes import xyxy_to_xywh
from boxrl.data.files import write_atomic
from boxrl.data.formats.coco_export import write_coco
from boxrl.errors import DataError, UsageError
from boxrl.report.reading import Evaluation, Row, read_run
from boxrl.types import Detections, fold_label

COLUMNS = (
    "sample", "image", "kind", "label", "x1", "y1", "x2", "y2", "iou", "score", "status", "tokens",
)  # fmt: skip


def export_run(run_dir: Path, out: Path) -> list[Path]:
    """Write annotations.json, predictions.json and boxes.csv of every evaluation.

    Args:
        run_dir: a run folder.
        out: folder; each evaluation gets a folder of its name in it.

    Returns:
        The files, in the order they were written.

    Raises:
        DataError: the run holds no answers, or its samples have no place in a COCO file.
    """
    run = read_run(run_dir)
    answered = [found for found in run.evaluations.values() if found.rows]
    if not answered:
        raise DataError(f"{run_dir}: holds no answers to export: {'; '.join(run.missing)}")
    files = []
    for evaluation in answered:
        folder = out / evaluation.name
        write_coco_pair(folder / "annotations.json", folder / "predictions.json", evaluation)
        write_csv(folder / "boxes.csv", evaluation)
        files += [folder / name for name in ("annotations.json", "predictions.json", "boxes.csv")]
    return files


def write_coco_pair(annotations: Path, predictions: Path, evaluation: Evaluation) -> int:
    """Write the targets and, with the same ids, the predicted boxes; returns how many.

    A box's score is its confidence under the rule of the run's evaluation. Boxes of labels that
    no sample asks for have no category and are left out, as COCO's own evaluation would. Law:
    COCO's AP of the pair is the run's where equal scores rank alike.
    """
    write_coco(annotations, [row.sample for row in evaluation.rows])
    document = json.loads(annotations.read_text("utf-8"))
    images = {item["file_name"]: item["id"] for item in document["images"]}
    categories = {fold_label(item["name"]): item["id"] for item in document["categories"]}
    results = [
        {
            "image_id": images[row.sample.image],
            "category_id": categories[label],
            "bbox": box,
            "score": score,
        }
        for row in evaluation.rows
        for label, box, score in _boxes_xywh(row)
        if label in categories
    ]
    with write_atomic(predictions) as handle:
        json.dump(results, handle)
    return len(results)


def write_csv(path: Path, evaluation: Evaluation) -> int:
    """One line per predicted box and per missed target; returns how many.

    Columns: see `COLUMNS`; boxes in pixels of the original image, `kind` as in
    `boxrl.report.box_errors`, `score` the sample's mean F1. Text that a spreadsheet would run as
    a formula is written with an apostrophe before it.
    """
    count = 0
    with write_atomic(path) as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(COLUMNS)
        for row in evaluation.rows:
            for line in _lines(row):
                table.writerow([_harmless(value) for value in line])
                count += 1
    return count


def to_supervision(row: Row) -> Any:
    """The predicted boxes as `supervision.Detections`.

    `confidence` is that of the run's evaluation, 1 where its rule is `constant`. `class_id` is
    the label's place among the sample's labels and those it was not asked for; the name stands
    in `data["class_name"]`.

    Raises:
        UsageError: supervision is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise UsageError("supervision is not installed; run: pip install supervision") from error
    detections = row.parsed.detections
    names = list(dict.fromkeys(map(fold_label, (*row.sample.labels, *detections.labels))))
    return supervision.Detections(
        xyxy=detections.boxes,
        confidence=np.array(row.judged.confidence, dtype=float),
        class_id=np.array([names.index(fold_label(x)) for x in detections.labels], dtype=int),
        data={"class_name": np.array(detections.labels, dtype=str)},
    )


def to_fiftyone(evaluation: Evaluation, name: str | None = None) -> Any:
    """The evaluation as a `fiftyone.Dataset`, one sample for each question.

    Targets stand in `ground_truth`, predicted boxes in `predictions` with `confidence`, `kind` (as
    in `boxrl.report.box_errors`) and `iou`; beside them `source_id`, `question`, `completion`,
    `status` and `score`.

    Args:
        evaluation: one of a run's, read with `boxrl.report.reading.read_run`.
        name: of the data set; FiftyOne makes one up where it is not given.

    Raises:
        UsageError: FiftyOne is not installed.
        DataError: the run does not say where its images lie.
    """
    try:
        import fiftyone
    except ImportError as error:
        raise UsageError("FiftyOne is not installed; run: pip install fiftyone") from error
    if evaluation.images is None:
        raise DataError(f"evaluation {evaluation.name!r}: its folder of images is not known")
    dataset = fiftyone.Dataset(name)
    dataset.add_samples(
        [_fiftyone_sample(fiftyone, evaluation.images, row) for row in evaluation.rows]
    )
    return dataset


def _fiftyone_sample(fiftyone: Any, images: Path, row: Row) -> Any:
    sample, preds = row.sample, row.parsed.detections
    targets = Detections.of(sample.objects)

    def found(boxes: Detections, **columns: Sequence[object]) -> Any:
        scaled = xyxy_to_xywh(boxes.boxes) / (sample.size_wh * 2)
        rows = zip(boxes.labels, scaled.tolist(), *columns.values(), strict=True)
        return fiftyone.Detections(
            detections=[
                fiftyone.Detection(
                    label=label, bounding_box=box, **dict(zip(columns, values, strict=True))
                )
                for label, box, *values in rows
            ]
        )

    return fiftyone.Sample(
        filepath=str((images / sample.image).resolve()),
        ground_truth=found(targets, iscrowd=[int(item.iscrowd) for item in sample.objects]),
        predictions=found(
            preds, confidence=row.judged.confidence, kind=row.verdict.kinds, iou=row.verdict.ious
        ),
        source_id=sample.id,
        question=sample.question or ", ".join(sample.labels),
        completion=row.prediction.completion,
        status=row.parsed.status,
        score=row.score,
    )


def _boxes_xywh(row: Row) -> Iterator[tuple[str, list[float], float]]:
    detections = row.parsed.detections
    boxes = xyxy_to_xywh(detections.boxes).round(2).tolist()
    yield from zip(map(fold_label, detections.labels), boxes, row.judged.confidence, strict=True)


def _lines(row: Row) -> Iterator[tuple[object, ...]]:
    sample, verdict, detections = row.sample, row.verdict, row.parsed.detections
    ends = (round(row.score, 4), row.parsed.status, row.prediction.n_tokens)
    found = zip(
        verdict.kinds, detections.labels, detections.boxes.tolist(), verdict.ious, strict=True
    )
    for kind, label, box, overlap in found:
        corners = [round(value, 2) for value in box]
        yield (sample.id, sample.image, kind, label, *corners, overlap, *ends)
    for place in verdict.missed:
        target = sample.objects[place]
        yield (sample.id, sample.image, "missed", target.label, *target.bbox, "", *ends)


def _harmless(value: object) -> object:
    """Text that a spreadsheet takes for text; lone surrogates cannot be written."""
    if not isinstance(value, str):
        return value
    text = value.encode("utf-8", "replace").decode("utf-8").replace("\x00", "")
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
