"""Counts of one image: greedy one-to-one matching at IoU .5, within the label.

Source: precision and recall as the VLM-R1-OVD blog reports them; boxrl matches in order of IoU.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

from boxrl.matching import label_overlaps, take_free
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
    found = label_overlaps(preds, targets, IOU_THRESHOLD)
    tp = len(take_free(sorted(found, key=itemgetter(2), reverse=True)))
    return Counts(tp, len(preds) - tp, len(targets) - tp)


def ratio(part: float, whole: float) -> float | None:
    """Part / whole; None where there is nothing to divide by."""
    return part / whole if whole else None


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """Mean; None where one is not known, because a mean over fewer is another figure."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
