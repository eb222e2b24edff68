"""An evaluation on disk: metrics.json and rows.jsonl, and how a run folder becomes one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from boxrl.data.files import (
    no_cycle_search,
    parse_json_object,
    read_jsonl,
    write_atomic,
    write_json,
)
from boxrl.data.predictions import meta_path
from boxrl.data.samples import parse_objects
from boxrl.errors import DataError, UsageError
from boxrl.evaluate.evaluation import Evaluation
from boxrl.evaluate.rows import Row
from boxrl.families import Family, build_family
from boxrl.metrics.detection import Counts
from boxrl.types import Detections

METRICS, ROWS = "metrics.json", "rows.jsonl"


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write metrics.json and rows.jsonl, each whole or not at all.

    Raises:
        UsageError: another process is writing to the folder.
        DataError: the folder cannot be written to, or the disk is full.
    """
    with write_atomic(folder / ROWS) as handle:
        handle.writelines([render_row(row) + "\n" for row in evaluation.rows])
        # While the rows are not let go of, no second evaluation can put its own beside them.
        write_json(folder / METRICS, evaluation.metrics)


@no_cycle_search()
def read_evaluation(folder: Path) -> Evaluation:
    """What `write_evaluation` wrote.

    Raises:
        UsageError: there is no such folder, or it holds no evaluation.
        DataError: a file of it is damaged.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; expected one of boxrl evaluate --out")
    path = folder / METRICS
    if not path.is_file() or not (folder / ROWS).is_file():
        raise UsageError(
            f"{folder}: holds no evaluation ({METRICS} and {ROWS}); "
            "make one with boxrl evaluate --out"
        )
    metrics = parse_json_object(path.read_bytes(), str(path))
    rows = tuple(
        parse_row(row, f"{folder / ROWS}:{number}") for number, row in read_jsonl(folder / ROWS)
    )
    return Evaluation(metrics, rows)


def render_row(row: Row) -> str:
    """One line of rows.jsonl; `parse_row` of its JSON gives the row back."""
    boxes = zip(row.preds.boxes.tolist(), row.preds.labels, row.confidence, strict=True)
    content = {
        "id": row.id,
        "image": row.image,
        "task": row.task,
        "labels": row.labels,
        "status": row.status,
        "formatted": row.formatted,
        "n_tokens": row.n_tokens,
        "truncated": row.truncated,
        **row.counts._asdict(),
        "f1": row.f1,
        "correct": row.correct,
        "looks": row.looks,
        "unknown_labels": row.unknown_labels,
        "predictions": [{"bbox": b, "label": n, "confidence": c} for b, n, c in boxes],
        "objects": [
            {"bbox": item.bbox, "label": item.label, "iscrowd": item.iscrowd, "area": size}
            for item, size in zip(row.objects, row.areas, strict=True)
        ],
    }
    try:
        return msgspec.json.encode(content).decode()
    except UnicodeEncodeError:  # half a character, which a label may hold and only JSON can write
        return json.dumps(content)


def parse_row(content: Mapping[str, Any], where: str) -> Row:
    """A row from its JSON object.

    Raises:
        DataError: a field is missing or of another kind.
    """
    try:
        found = content["predictions"]
        boxes = np.array([item["bbox"] for item in found], dtype=np.float64).reshape(-1, 4)
        return Row(
            id=content["id"],
            image=content["image"],
            task=content["task"],
            labels=tuple(content["labels"]),
            status=content["status"],
            formatted=content["formatted"],
            n_tokens=content["n_tokens"],
            truncated=content["truncated"],
            counts=Counts(content["tp"], content["fp"], content["fn"]),
            f1=content["f1"],
            correct=content["correct"],
            looks=content["looks"],
            unknown_labels=content["unknown_labels"],
            preds=Detections(boxes, tuple(item["label"] for item in found)),
            confidence=tuple(item["confidence"] for item in found),
            objects=tuple(parse_objects(content["objects"], None, where)),
            areas=tuple(item["area"] for item in content["objects"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: no row of an evaluation ({error!r}); evaluate again") from error


def read_settings(predictions: Path) -> dict[str, Any]:
    """predictions.meta.json, empty where there is none.

    Raises:
        DataError: it is no JSON object.
    """
    path = meta_path(predictions)
    return parse_json_object(path.read_bytes(), str(path)) if path.is_file() else {}


def settings_family(settings: Mapping[str, Any], named: str | None, where: str) -> Family:
    """The family that the predictions were made with, with its pixel limits.

    Args:
        settings: predictions.meta.json: `family` (its name), `min_pixels`, `max_pixels`.
        named: what the user says, or None.
        where: the predictions file, for messages.

    Raises:
        UsageError: nobody names the family, or the two names contradict each other.
    """
    known = settings.get("family")
    if named is not None and known is not None and named != known:
        raise UsageError(
            f"{where}: --family {named!r} contradicts the predictions' own settings, which say "
            f"{known!r}; leave --family out"
        )
    name = named or known
    if not name:
        raise UsageError(
            f"{where}: the family is unknown, and with it the frame of the boxes: "
            f"{meta_path(Path(where)).name} is missing or names none; name it with --family"
        )
    limits = {k: settings[k] for k in ("min_pixels", "max_pixels", "factor") if settings.get(k)}
    return replace(build_family(str(name)), **limits)
