"""A detector's COCO results file as predictions: what any detector writes, beside what models say.

Each image's boxes become one answer in JSON and original pixels, surest first, with their scores.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from boxrl.data.files import write_atomic, write_json
from boxrl.data.predictions import Prediction, meta_path, read_predictions, render_prediction
from boxrl.errors import DataError
from boxrl.evaluate.coco_files import ResultRow, read_content
from boxrl.evaluate.files import PREDICTIONS_FILE, read_settings
from boxrl.evaluate.judging import Confidence
from boxrl.types import Sample

FAMILY = "plain"
"""In whose frame and syntax such answers are."""

Answers = tuple[dict[str, Any], dict[str, Prediction]]
"""How answers were made, and the answers by sample id."""


def is_results(path: Path) -> bool:
    """Whether a file holds COCO results and no predictions: it ends in .json."""
    return path.suffix == ".json"


def read_answers(path: Path, samples: Sequence[Sample]) -> Answers:
    """Predictions with their settings, or a detector's COCO results as both.

    Args:
        path: predictions.jsonl, or COCO results (.json).
        samples: what was asked.

    Raises:
        DataError: a damaged file, or results for other images.
    """
    if not is_results(path):
        return read_settings(path), read_predictions(path)
    return {"family": FAMILY, "model": path.stem, "detector": True}, read_results(path, samples)


def store_answers(folder: Path, answers: Answers) -> Path:
    """Write answers into a folder as predictions; gives the file.

    Args:
        folder: made where it is missing.
        answers: of `read_answers`.
    """
    settings, predictions = answers
    path = folder / PREDICTIONS_FILE
    folder.mkdir(parents=True, exist_ok=True)
    with write_atomic(path) as handle:
        handle.writelines(render_prediction(row) + "\n" for row in predictions.values())
    write_json(meta_path(path), settings)
    return path


def ranked_by(path: Path, confidence: Confidence) -> Confidence:
    """The rule that ranks the answers of a file: of a detector always its own scores."""
    return "written" if is_results(path) else confidence


def read_results(path: Path, samples: Sequence[Sample]) -> dict[str, Prediction]:
    """One answer per sample; an image without a result is answered by no boxes.

    Args:
        path: COCO results: `image_id`, `category_id`, `bbox` [x, y, width, height], `score` each.
        samples: converted from the annotations file that the results are for, whose ids stand in
            `meta`. A result counts for the samples of its image that ask for its category; in
            mode `all` every category is asked for but those that are crowd regions alone, and
            these count, too, as in COCO, which ignores boxes inside of the regions only.

    Raises:
        DataError: no COCO results, samples without ids, scores that are no shares, boxes of a
            negative side, or results for other images or categories; of samples that are a part
            of their set, results of its other images are passed over.
    """
    labels: dict[tuple[Any, Any], str] = {}
    for sample in samples:
        ids, part = sample.meta.get("category_ids"), sample.meta.get("part")
        if not isinstance(ids, list) or len(ids) != len(sample.labels):
            raise DataError(
                f"sample {sample.id!r} does not say its category ids, so that COCO results cannot "
                "be placed; convert the samples from COCO annotations"
            )
        labels |= {(part, key): label for key, label in zip(ids, sample.labels, strict=True)}
    parts = {part for part, _ in labels}
    if len(parts) > 1:
        raise DataError(f"{path}: one results file, but the samples are of {len(parts)} sets")
    part = next(iter(parts), None)
    known = {sample.meta.get("image_id") for sample in samples}
    of_all = all(
        sample.meta.get("mode") == "all" and "subset" not in sample.meta for sample in samples
    )
    found: dict[tuple[Any, str], list[tuple[float, list[float]]]] = defaultdict(list)
    rows = read_content(path, list[ResultRow], "results")
    other = rows and not any(row.image_id in known for row in rows)
    for number, row in enumerate(rows):
        where = f"{path}: results[{number}]"
        if row.image_id not in known and (of_all or other):
            raise DataError(
                f"{where}: image_id {row.image_id} is none of the samples'; the files do not "
                "belong together, or the samples are a part of their set (--limit): leave out "
                "results of other images"
            )
        if not 0 <= row.score <= 1:
            raise DataError(f"{where}: score {row.score:g}; expected a number from 0 to 1")
        x, y, width, height = row.bbox
        if width < 0 or height < 0:
            raise DataError(f"{where}: bbox {list(row.bbox)} has a negative width or height")
        label = labels.get((part, row.category_id))
        if label is None and of_all:
            raise DataError(
                f"{where}: category_id {row.category_id} is none of the samples'; the files do not "
                "belong together, or one of them counts categories from 0"
            )
        if label is not None:
            found[row.image_id, label].append((row.score, [x, y, x + width, y + height]))
    return {sample.id: _answer(sample, found) for sample in samples}


def _answer(
    sample: Sample, found: Mapping[tuple[Any, str], list[tuple[float, list[float]]]]
) -> Prediction:
    crowds = [item.label for item in sample.objects if item.iscrowd]
    boxes = [
        (score, box, label)
        for label in dict.fromkeys([*sample.labels, *crowds])
        for score, box in found.get((sample.meta.get("image_id"), label), ())
    ]
    boxes.sort(key=lambda item: -item[0])
    items = [{"bbox_2d": box, "label": label, "score": score} for score, box, label in boxes]
    answer = json.dumps(items) if items else "None"
    return Prediction(sample.id, f"<answer>{answer}</answer>", None, "stop")
