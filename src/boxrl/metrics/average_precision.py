"""COCO average precision of a data set, computed by hotcoco.

hotcoco's numbers equal pycocotools' (tests/test_metrics_average_precision.py). Annotations get
ids from 1, whatever their file says: pycocotools takes a match with id 0 for no match at all.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hotcoco import COCO, COCOeval

from boxrl.boxes import xyxy_to_xywh
from boxrl.types import Boxes

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

STATISTICS = {
    "mAP": "AP", "AP50": "AP50", "AP75": "AP75", "APs": "APs", "APm": "APm", "APl": "APl",
    "AR1": "AR1", "AR10": "AR10", "AR100": "AR100", "ARs": "ARs", "ARm": "ARm", "ARl": "ARl",
}  # fmt: skip
"""COCO's twelve statistics in its order: our name -> hotcoco's."""

SIZES = ("small", "medium", "large")
"""COCO's size ranges, cut at 32 x 32 and 96 x 96 pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Target boxes of many images as columns.

    Attributes:
        image: Int "n", index of the image from 0.
        label: Int "n", index of the label from 0.
        boxes: Float "n 4", xyxy original pixels.
        crowd: Bool "n": regions whose detections are ignored.
        area: Float "n", what counts as the target's size; COCO takes that of the segmentation.
    """

    image: Ints
    label: Ints
    boxes: Boxes
    crowd: npt.NDArray[np.bool_]
    area: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Predicted boxes of many images as columns; rows of one image in emission order.

    Attributes:
        image: Int "n", index of the image from 0.
        label: Int "n", index of the label from 0.
        boxes: Float "n 4", xyxy original pixels.
        confidence: Float "n".
    """

    image: Ints
    label: Ints
    boxes: Boxes
    confidence: Floats


def evaluate_boxes(
    targets: Targets, preds: Predictions, n_images: int, labels: Sequence[str]
) -> COCOeval:
    """COCO evaluation by columns.

    Equal confidences rank by image, then by emission.

    Args:
        targets: what is right.
        preds: what was found; labels beyond `labels` must have been left out.
        n_images: number of images, those without boxes included.
        labels: name of each label index.

    Returns:
        hotcoco's evaluator after its run.
    """
    dataset = COCO.from_arrays(
        [{"id": index + 1} for index in range(n_images)],
        [{"id": index + 1, "name": f"{index}"} for index, _ in enumerate(labels)],
        targets.image + 1,
        targets.label + 1,
        xyxy_to_xywh(targets.boxes),
        area=targets.area,
        iscrowd=targets.crowd,
    )
    results = np.column_stack(
        [preds.image + 1, xyxy_to_xywh(preds.boxes), preds.confidence, preds.label + 1]
    )
    return run_coco(dataset, dataset.load_res(results))


def run_coco(dataset: COCO, results: COCO) -> COCOeval:
    """A finished evaluation of bounding boxes; hotcoco's printed table is dropped."""
    evaluator = COCOeval(dataset, results, "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.summarize()
    return evaluator


def statistics(evaluator: COCOeval) -> dict[str, float | None]:
    """COCO's twelve statistics; None where no target is of that size (COCO writes -1)."""
    results = evaluator.get_results()
    return {name: _known(results[theirs]) for name, theirs in STATISTICS.items()}


def label_precision(evaluator: COCOeval) -> tuple[Floats, Floats]:
    """(AP, AP50) of every label, each Float "labels"; NaN for labels without targets."""
    results: Any = evaluator.eval
    precision = results["precision"]  # IoU threshold, recall, label, size, cap
    curves = np.where(precision[:, :, :, 0, -1] < 0, np.nan, precision[:, :, :, 0, -1])
    return curves.mean(axis=(0, 1)), curves[0].mean(axis=0)


def _known(value: float) -> float | None:
    return None if value == -1 else float(value)
