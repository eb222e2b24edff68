"""COCO average precision of a data set, computed by hotcoco.

hotcoco's numbers equal pycocotools' (tests/evaluate/test_coco.py). Annotations get ids from 1,
whatever their file says: pycocotools takes a match with id 0 for no match at all.

Source: COCO's protocol, cocodataset.org/#detection-eval.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from hotcoco import COCO, COCOeval

from boxrl.boxes import xyxy_to_xywh
from boxrl.types import Boxes

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

STATISTICS = (
    "mAP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
"""COCO's twelve statistics in its order."""

SIZES = ("small", "medium", "large")
"""COCO's size ranges, cut at 32 x 32 and 96 x 96 pixels."""

CAPS = [1, 10, 100]
"""Boxes per image and label that COCO's AR1, AR10 and all other statistics look at."""

LABELS_AT_ONCE = 200
"""COCO's curves take 0.2 MB a label, which OVDEval's 7,301 positions would make 1.4 GB."""


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


Table = TypeVar("Table", Targets, Predictions)


def select(table: Table, rows: npt.NDArray[np.bool_]) -> Table:
    """The table's rows where the mask "n" is True, in their order."""
    columns: dict[str, Any] = {c.name: getattr(table, c.name)[rows] for c in fields(table)}
    return replace(table, **columns)


def as_coco(boxes: Boxes) -> Boxes:
    """Xyxy "n 4" as COCO's [x, y, width, height], sides as they stood in a COCO file.

    A side of 32 comes back from corners as 32 but for its last bits, and the box from another size
    range.
    """
    found = xyxy_to_xywh(boxes)
    found[:, 2:] = found[:, 2:].round(9)
    return found


def match_boxes(targets: Targets, preds: Predictions, n_images: int, n_labels: int) -> COCOeval:
    """COCO's matching, by hotcoco.

    Equal confidences rank by image, then by emission. Ids of images and labels are indices + 1.

    Args:
        targets: what is right.
        preds: what was found, of these labels only.
        n_images: number of images, those without boxes included.
        n_labels: number of labels.

    Returns:
        hotcoco's evaluator after `evaluate()`.
    """
    dataset = COCO.from_arrays(
        [{"id": index + 1} for index in range(n_images)],
        [{"id": index + 1, "name": str(index)} for index in range(n_labels)],
        targets.image + 1,
        targets.label + 1,
        as_coco(targets.boxes),
        area=targets.area,
        iscrowd=targets.crowd,
    )
    results = np.column_stack(
        [preds.image + 1, as_coco(preds.boxes), preds.confidence, preds.label + 1]
    )
    evaluator = COCOeval(dataset, dataset.load_res(results), "bbox")
    evaluator.evaluate()
    return evaluator


def statistics_by_label(
    targets: Targets, preds: Predictions, n_images: int, n_labels: int
) -> Floats:
    """COCO's twelve statistics of every label alone, in the order of STATISTICS.

    Args:
        targets: what is right.
        preds: what was found, of these labels only.
        n_images: number of images, those without boxes included.
        n_labels: number of labels.

    Returns:
        Float "12 labels"; NaN where the label has no target (of the size).
    """
    found = np.full((len(STATISTICS), n_labels), np.nan)
    for labels, evaluator in _match(targets, preds, n_images, n_labels):
        found[:, labels] = matched_statistics(evaluator)
    return found


def matched_statistics(evaluator: COCOeval) -> Floats:
    """`statistics_by_label` "12 labels" of what `match_boxes` has matched."""
    by_size = _curves(evaluator, len(SIZES) + 1, CAPS[-1:])
    by_cap = _curves(evaluator, 1, CAPS[:-1])
    precision = by_size["precision"][..., 0]  # IoU threshold, recall, label, size
    recall = by_size["recall"][..., 0]  # IoU threshold, label, size
    everything = precision[..., 0]
    means = [
        everything.mean(axis=(0, 1)),
        everything[0].mean(axis=0),
        everything[5].mean(axis=0),
        *(precision[..., size].mean(axis=(0, 1)) for size in (1, 2, 3)),
        *(by_cap["recall"][:, :, 0, cap].mean(axis=0) for cap in (0, 1)),
        *(recall[:, :, size].mean(axis=0) for size in (0, 1, 2, 3)),
    ]
    return np.array([np.where(mean < 0, np.nan, mean) for mean in means])


def precision_by_recall(
    targets: Targets, preds: Predictions, n_images: int, n_labels: int
) -> Floats:
    """Precision at IoU .5 of every label at COCO's recalls 0, .01, ..., 1.

    As in COCO, precision is the highest at that recall or beyond, 0 where it is not reached.
    Law: a label's mean is its AP50.

    Args:
        targets: what is right.
        preds: what was found, of these labels only.
        n_images: number of images, those without boxes included.
        n_labels: number of labels.

    Returns:
        Float "labels 101"; NaN where the label has no target.
    """
    found = np.full((n_labels, 101), np.nan)
    for labels, evaluator in _match(targets, preds, n_images, n_labels):
        precision = _curves(evaluator, 1, CAPS[-1:])["precision"][0, :, :, 0, 0].T
        found[labels] = np.where(precision < 0, np.nan, precision)
    return found


def _match(
    targets: Targets, preds: Predictions, n_images: int, n_labels: int
) -> Iterator[tuple[slice, COCOeval]]:
    """At most LABELS_AT_ONCE labels at a time, matched, with the place of these."""
    for first in range(0, n_labels, LABELS_AT_ONCE):
        beyond = min(first + LABELS_AT_ONCE, n_labels)
        evaluator = match_boxes(
            _of_labels(targets, first, beyond),
            _of_labels(preds, first, beyond),
            n_images,
            beyond - first,
        )
        yield slice(first, beyond), evaluator


def _curves(evaluator: COCOeval, n_sizes: int, caps: list[int]) -> Any:
    """Hotcoco's curves of the first size ranges (1: all sizes together) and these caps on boxes.

    The twelve statistics need half of the combinations that it would accumulate by itself.
    """
    params = evaluator.params
    everything = params.area_rng, params.area_rng_lbl, params.max_dets
    params.area_rng, params.area_rng_lbl = everything[0][:n_sizes], everything[1][:n_sizes]
    params.max_dets = caps
    evaluator.params = params
    evaluator.accumulate()
    curves = evaluator.eval
    params.area_rng, params.area_rng_lbl, params.max_dets = everything
    evaluator.params = params
    return curves


def statistics(by_label: Floats) -> dict[str, float | None]:
    """Means over the labels that have targets; None where none has (COCO writes -1).

    Args:
        by_label: "12 labels", NaN where a label has no target: `statistics_by_label`.

    Returns:
        COCO's twelve statistics by name, each in [0, 1].
    """
    known = ~np.isnan(by_label)
    sums = np.where(known, by_label, 0.0).sum(axis=1).tolist()
    counts = known.sum(axis=1).tolist()
    means = [total / count if count else None for total, count in zip(sums, counts, strict=True)]
    return dict(zip(STATISTICS, means, strict=True))


def _of_labels(table: Table, first: int, beyond: int) -> Table:
    """Rows of the labels from `first` on and before `beyond`; labels then count from 0."""
    chosen = select(table, (first <= table.label) & (table.label < beyond))
    return replace(chosen, label=chosen.label - first)
