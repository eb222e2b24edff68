"""LVIS's federated average precision, by hotcoco.

In each image some categories alone were looked for: those annotated there, and those that
`neg_category_ids` names. Detections of other categories do not count, and those of a category that
`not_exhaustive_category_ids` names are false in no case. Of an image the 300 best detections of all
categories together take part. Golden values of lvis-api 0.5.3 hold to 1e-9.

Source: lvisdataset.org, lvis-api.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hotcoco import COCO, COCOeval

from boxrl.data.files import no_cycle_search
from boxrl.errors import DataError
from boxrl.evaluate.coco_files import (
    CategoryRow,
    CocoData,
    CocoRow,
    Id,
    ImageRow,
    read_annotations,
    read_coco_results,
    read_content,
)
from boxrl.metrics.average_precision import Ints, Predictions, as_coco, select

STATISTICS = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf", "AR@300", "ARs@300",
    "ARm@300", "ARl@300",
)  # fmt: skip
"""LVIS's thirteen; r, c and f are categories of few, some and many training images."""

PROTOCOL = {
    "average_precision": "LVIS, federated, IoU .50:.05:.95, the 300 best boxes of an image over "
    "all categories",
    "ties": "equal scores rank by their order in the file: with constant scores that order "
    "decides which 300 boxes of an image take part",
}


class LvisImage(ImageRow):
    """An image, and what is known of it."""

    neg_category_ids: tuple[Id, ...] = ()
    not_exhaustive_category_ids: tuple[Id, ...] = ()


class LvisCategory(CategoryRow):
    """A category, and how often it occurs: r, c or f."""

    frequency: str | None = None


class LvisFile(CocoRow):
    """What an LVIS file knows beyond COCO's."""

    images: list[LvisImage]
    categories: list[LvisCategory]


@dataclass(frozen=True, slots=True, eq=False)
class LvisData:
    """An LVIS annotations file.

    Attributes:
        coco: its boxes.
        images: its images, in the order of `coco.image_ids`.
        categories: its categories, in the order of `coco.category_ids`.
    """

    coco: CocoData
    images: list[LvisImage]
    categories: list[LvisCategory]


def evaluate_lvis(annotations: Path, predictions: Path) -> dict[str, Any]:
    """LVIS's statistics of a results file.

    Args:
        annotations: LVIS annotations file.
        predictions: COCO results file.

    Returns:
        `STATISTICS`, each in [0, 1] or None, and `protocol`.

    Raises:
        DataError: a file cannot be read, or is no LVIS file.
    """
    with no_cycle_search():
        data = read_lvis_annotations(annotations)
        preds = read_coco_results(predictions, data.coco)
    return {**lvis_statistics(data, preds), "protocol": PROTOCOL}


def read_lvis_annotations(path: Path) -> LvisData:
    """An LVIS annotations file.

    Raises:
        DataError: not COCO's form, no image says what was looked for there, or a category has no
            frequency.
    """
    coco = read_annotations(path)
    content = read_content(path, LvisFile, "")
    if not any(image.neg_category_ids for image in content.images):
        raise DataError(
            f"{path}: no image has neg_category_ids, so that this is no LVIS file; leave --lvis out"
        )
    odd = next((row for row in content.categories if row.frequency not in ("r", "c", "f")), None)
    if odd is not None:
        raise DataError(
            f"{path}: categories: {odd.name!r} has frequency {odd.frequency!r}; expected r, c or f"
        )
    return LvisData(
        coco,
        sorted(content.images, key=lambda row: row.id),
        sorted(content.categories, key=lambda row: row.id),
    )


def lvis_statistics(
    data: LvisData, preds: Predictions, images: Ints | None = None
) -> dict[str, float | None]:
    """LVIS's thirteen statistics.

    Args:
        data: what is right, and what was looked for.
        preds: what was found; equal confidences rank in their order.
        images: Int "n", places of the images that take part; None takes all.

    Returns:
        By name, each in [0, 1]; None where no category that it is a mean over has targets.
    """
    coco = data.coco
    chosen = np.arange(len(coco.image_ids)) if images is None else images
    targets = select(coco.targets, np.isin(coco.targets.image, chosen))
    preds = select(preds, np.isin(preds.image, chosen))
    dataset = COCO.from_arrays(
        [_image(data, place) for place in chosen.tolist()],
        [
            {"id": int(key), "name": row.name, "frequency": row.frequency}
            for key, row in zip(coco.category_ids, data.categories, strict=True)
        ],
        coco.image_ids[targets.image],
        coco.category_ids[targets.label],
        as_coco(targets.boxes),
        area=targets.area,
    )
    found = np.column_stack(
        [
            coco.image_ids[preds.image],
            as_coco(preds.boxes),
            preds.confidence,
            coco.category_ids[preds.label],
        ]
    )
    evaluator = COCOeval(dataset, dataset.load_res(found), "bbox", lvis_style=True)
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summary_lines()  # what summarize() does, without printing
    values = evaluator.get_results()
    return {name: values[name] if values[name] >= 0 else None for name in STATISTICS}


def _image(data: LvisData, place: int) -> dict[str, Any]:
    """An image as hotcoco takes it."""
    row = data.images[place]
    return {
        "id": row.id,
        "neg_category_ids": list(row.neg_category_ids),
        "not_exhaustive_category_ids": list(row.not_exhaustive_category_ids),
    }
