"""Habits of a model's answers that matching alone does not name.

Source: the shares that Rex-Omni's paper reports before and after RL (arXiv 2510.12798): duplicates
and boxes around the whole image are what RL removes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from boxrl.boxes import area, iou
from boxrl.metrics.detection import Counts, count_boxes
from boxrl.types import Detections, fold_label

NEAR_IOU = 0.9
"""From which on a box is a near copy of an earlier one of its label."""

WHOLE = 0.95
"""Share of the image from which on a box is around all of it."""

RUN = 3
"""Equal items in a row that make an answer one that repeats itself."""


class Habits(NamedTuple):
    """One answer.

    Attributes:
        boxes: how many it holds.
        exact: copies of an earlier box of the same label.
        near: others that overlap an earlier box of their label by `NEAR_IOU`.
        whole: boxes around the whole image that find no target.
        repeats: whether some item stands `RUN` times in a row.
        absent_asked: labels asked for of which the image holds none.
        absent_named: of these, those that got a box.
        without: matches at IoU .5 without these boxes.
    """

    boxes: int
    exact: int
    near: int
    whole: int
    repeats: bool
    absent_asked: int
    absent_named: int
    without: Counts


def find_habits(
    preds: Detections,
    targets: Detections,
    asked: Sequence[str],
    size_wh: tuple[int, int],
    right: Sequence[bool],
    unknown: Sequence[str] = (),
) -> Habits:
    """What an answer does beside finding its targets.

    Args:
        preds: its boxes that count, in emission order.
        targets: what is right.
        asked: labels asked for.
        size_wh: of the image, in pixels.
        right: per box, whether it finds a target.
        unknown: labels of which it is not known whether the image holds more.
    """
    labels = [fold_label(label) for label in preds.labels]
    n = len(labels)
    items = list(zip(labels, map(tuple, preds.boxes.tolist()), strict=True))
    first = {item: k for k, item in reversed(list(enumerate(items)))}
    exact = np.array([first[item] < k for k, item in enumerate(items)], dtype=bool)
    _, number = np.unique(np.array(labels, dtype=object).astype(str), return_inverse=True)
    copied = (iou(preds.boxes, preds.boxes) >= NEAR_IOU) & (number[:, None] == number[None, :])
    near = np.tril(copied, -1).any(axis=1) & ~exact if n else exact
    around = area(preds.boxes) >= WHOLE * size_wh[0] * size_wh[1]
    whole = around & ~np.array(right, dtype=bool) & ~exact
    held = {fold_label(label) for label in (*targets.labels, *unknown)}
    absent = {fold_label(label) for label in asked} - held
    invented = np.array([label in absent for label in labels], dtype=bool)
    kept = np.flatnonzero(~(exact | near | whole | invented))
    chosen = Detections(preds.boxes[kept], tuple([preds.labels[k] for k in kept.tolist()]))
    return Habits(
        n,
        int(exact.sum()),
        int(near.sum()),
        int(whole.sum()),
        any(len(set(items[k : k + RUN])) == 1 for k in range(n - RUN + 1)),
        len(absent),
        len(absent & set(labels)),
        count_boxes(chosen, targets),
    )
