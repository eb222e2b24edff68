"""An evaluation on disk: metrics.json and rows.jsonl, and how a run folder becomes one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np

from boxrl.data.files import (
    is_number,
    is_whole,
    no_cycle_search,
    read_jsonl,
    write_atomic,
    write_json,
)
from boxrl.data.predictions import meta_path
from boxrl.data.samples import checked_area, parse_objects
from boxrl.errors import DataError, UsageError
from boxrl.evaluate.evaluation import Evaluation
from boxrl.evaluate.rows import Row
from boxrl.families import Family, build_family
from boxrl.guard.files import read_json_object
from boxrl.metrics.detection import Counts
from boxrl.types import Detections, Status

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
    metrics = read_json_object(path)
    if not isinstance(metrics.get("protocol"), dict):
        raise DataError(f"{path}: no metrics of an evaluation (no protocol); evaluate again")
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
    for name, holds in _FIELDS.items():
        value = content.get(name)
        if not holds(value):
            raise DataError(
                f"{where}: no row of an evaluation ({name} is {value!r:.80}); evaluate again"
            )
    objects = tuple(parse_objects(content.get("objects"), None, where))
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
        objects=objects,
        areas=tuple(checked_area(item.get("area"), where) for item in content["objects"]),
    )


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_flag(value: Any) -> bool:
    return type(value) is bool


def _is_verdict(value: Any) -> bool:
    return value is None or type(value) is bool


def _is_prediction(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("bbox"), list):
        return False
    numbers = [*value["bbox"], value.get("confidence")]
    return len(numbers) == 5 and all(map(is_number, numbers)) and _is_text(value.get("label"))


_FIELDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("id", "image", "task"), _is_text),
    "labels": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "status": lambda value: value in get_args(Status),
    **dict.fromkeys(("formatted", "truncated"), _is_flag),
    **dict.fromkeys(("n_tokens", "tp", "fp", "fn", "unknown_labels"), is_whole),
    "f1": lambda value: value is None or (is_number(value) and 0 <= value <= 1),
    **dict.fromkeys(("correct", "looks"), _is_verdict),
    "predictions": lambda value: isinstance(value, list) and all(map(_is_prediction, value)),
}
"""What each field of rows.jsonl must be; objects have a parser of their own."""


def read_settings(predictions: Path) -> dict[str, Any]:
    """predictions.meta.json, empty where there is none.

    Raises:
        DataError: it is no JSON object.
    """
    path = meta_path(predictions)
    return read_json_object(path) if path.is_file() else {}


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
