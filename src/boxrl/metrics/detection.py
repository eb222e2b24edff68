"""Counts of one image: greedy one-to-one matching at IoU .5, within the label."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from boxrl.boxes import iou
from boxrl.matching import match_greedy, same_label
from boxrl.types import Detections

IOU_THRESHOLD = 0.5


class Counts(NamedTuple):
    """True positives, false positives, missed targets."""

    tp: int
    fp: int
    fn: int


def count_boxes(preds: Detections, targets: Detections) -> Counts:
    """Match by highest IoU, from .5 on, boxes of equal label only.

    Laws: tp + fp == len(preds), tp + fn == len(targets). A box of a label that no target has is
    a false positive, whether it was asked for or not.
    """
    tp = 0
    if len(preds) and len(targets):
        same = same_label(preds.labels, targets.labels)
        ious = np.where(same, iou(preds.boxes, targets.boxes), -1.0)
        tp = len(match_greedy(ious, IOU_THRESHOLD))
    return Counts(tp, len(preds) - tp, len(targets) - tp)


def ratio(part: float, whole: float) -> float | None:
    """Part / whole; None where there is nothing to divide by."""
    return part / whole if whole else None
