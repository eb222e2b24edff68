"""A run's predictions for other tools: a COCO pair, a CSV, supervision, FiftyOne."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from boxrl.boxes import xyxy_to_xywh
from boxrl.data.files import write_atomic
from boxrl.data.formats.coco_export import write_coco
from boxrl.data.samples import read_samples
from boxrl.errors import DataError, UsageError
from boxrl.evaluate.rows import Row
from boxrl.guard.files import inside
from boxrl.guard.outputs import check_outputs
from boxrl.guard.spreadsheets import write_table
from boxrl.metrics.average_precision import as_coco
from boxrl.report.reading import ShownEvaluation, read_run
from boxrl.types import Detections, Sample, fold_label

COLUMNS = (
    "sample", "image", "kind", "label", "x1", "y1", "x2", "y2", "iou", "confidence", "sample_f1",
    "status", "tokens",
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
    names = {"annotations.json": "coco", "predictions.json": "coco results", "boxes.csv": "boxes"}
    files = [inside(out, out / found.name / name) for found in answered for name in names]
    check_outputs([(path, names[path.name]) for path in files], [])
    for evaluation in answered:
        annotations, predictions, boxes = (out / evaluation.name / name for name in names)
        write_coco_pair(annotations, predictions, evaluation)
        write_csv(boxes, evaluation)
    return files


def write_coco_pair(annotations: Path, predictions: Path, evaluation: ShownEvaluation) -> int:
    """Write the targets and, with the same ids, the predicted boxes; returns how many.

    Where several samples ask about one image, each is an image of its own, as it was judged. A
    box's score is its confidence under the rule of the run's evaluation. Boxes of labels that no
    sample asks for have no category and are left out, as COCO's own evaluation would. Law: COCO's
    AP of the pair, of all sizes and of each, is the run's where equal scores rank alike.
    """
    samples = _samples(evaluation)
    if len({sample.image for sample in samples}) < len(samples):
        samples = [
            replace(sample, meta={**sample.meta, "image_id": number})
            for number, sample in enumerate(samples, start=1)
        ]
    write_coco(annotations, samples)
    document = json.loads(annotations.read_text("utf-8"))
    categories = {fold_label(item["name"]): item["id"] for item in document["categories"]}
    results = [
        {
            "image_id": image["id"],
            "category_id": categories[label],
            "bbox": box,
            "score": score,
        }
        for image, row in zip(document["images"], evaluation.rows, strict=True)
        for label, box, score in _boxes_xywh(row)
        if label in categories
    ]
    with write_atomic(predictions) as handle:
        json.dump(results, handle)
    return len(results)


def write_csv(path: Path, evaluation: ShownEvaluation) -> int:
    """One line per predicted box and per missed target; returns how many.

    Columns: see `COLUMNS`; boxes in pixels of the original image, `kind` as in
    `boxrl.metrics.box_errors`, `confidence` what ranks it, `sample_f1` the mean F1 of its sample.
    No text is a formula; see `boxrl.guard.spreadsheets.write_table`.
    """
    lines = (line for row in evaluation.rows for line in _lines(row))
    with write_atomic(path) as handle:
        return write_table(handle, chain([COLUMNS], lines)) - 1


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
    detections = row.detections
    names = list(dict.fromkeys(map(fold_label, (*row.labels, *detections.labels))))
    return supervision.Detections(
        xyxy=detections.boxes,
        confidence=np.array([box.confidence for box in row.predictions], dtype=float),
        class_id=np.array([names.index(fold_label(x)) for x in detections.labels], dtype=int),
        data={"class_name": np.array(detections.labels, dtype=str)},
    )


def to_fiftyone(evaluation: ShownEvaluation, name: str | None = None) -> Any:
    """The evaluation as a `fiftyone.Dataset`, one sample for each question.

    Targets stand in `ground_truth`, predicted boxes in `predictions` with `confidence`, `kind` (as
    in `boxrl.metrics.box_errors`) and `iou`; beside them `source_id`, `question`, `completion`,
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
        [
            _fiftyone_sample(fiftyone, evaluation.images, row, written.text)
            for row, written in zip(evaluation.rows, evaluation.completions, strict=True)
        ]
    )
    return dataset


def _fiftyone_sample(fiftyone: Any, images: Path, row: Row, completion: str) -> Any:
    sample, boxes = row.sample, row.predictions
    targets = Detections.from_objects(sample.objects)

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
            row.detections,
            confidence=[box.confidence for box in boxes],
            kind=[box.kind for box in boxes],
            iou=[box.iou for box in boxes],
        ),
        source_id=sample.id,
        question=sample.question or ", ".join(sample.labels),
        completion=completion,
        status=row.status,
        score=row.score,
    )


def _samples(evaluation: ShownEvaluation) -> list[Sample]:
    """The samples with their source's ids, where their file is at hand; else with its areas."""
    path = evaluation.samples
    if path and path.is_file():
        known = {sample.id: sample for sample in read_samples(path)}
        if all(row.id in known for row in evaluation.rows):
            return [known[row.id] for row in evaluation.rows]
    return [
        replace(row.sample, meta={"areas": [item.area for item in row.objects]})
        for row in evaluation.rows
    ]


def _boxes_xywh(row: Row) -> Iterator[tuple[str, list[float], float]]:
    boxes = as_coco(row.detections.boxes).tolist()
    for found, bbox in zip(row.predictions, boxes, strict=True):
        yield fold_label(found.label), bbox, found.confidence


def _lines(row: Row) -> Iterator[tuple[object, ...]]:
    ends = (round(row.score, 4), row.status, row.n_tokens)
    for box in row.predictions:
        corners = [round(value, 2) for value in box.bbox]
        yield (row.id, row.image, box.kind, box.label, *corners, box.iou, box.confidence, *ends)
    for item in row.objects:
        if item.missed:
            yield (row.id, row.image, "missed", item.label, *item.bbox, "", "", *ends)
