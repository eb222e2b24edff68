"""What became of every box: the error kinds of a completion, box by box.

The kinds follow TIDE (Bolya et al. 2020, "TIDE: A General Toolbox for Identifying Object
Detection Errors"): IoU .5 is a hit, IoU .1 is near enough to mean the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from boxrl.boxes import Matrix, iou
from boxrl.matching import Pair, match_greedy, same_label
from boxrl.types import Detections, Object, Parsed, Sample

Kind = Literal["right", "duplicate", "wrong_label", "loose", "false", "crowd"]

KINDS: dict[Kind, str] = {
    "right": "on an object of its label (IoU 0.5 or more), one box per object",
    "duplicate": "a second box on an object that has one",
    "wrong_label": "on an object, but under another name",
    "loose": "near an object of its label (IoU 0.1 to 0.5)",
    "false": "on nothing that it names",
    "crowd": "inside a crowd region of its label; AP passes over it, precision does not",
}
"""What each kind says of a predicted box."""

COLOURS: dict[Kind, str] = {
    "right": "#4fe0ae",
    "duplicate": "#ffb752",
    "wrong_label": "#d6a6ff",
    "loose": "#9cc4ff",
    "false": "#ff85ad",
    "crowd": "#c9cbce",
}
"""Colour of each kind on an image; dark text is readable on all of them."""

HIT = 0.5
NEAR = 0.1


@dataclass(frozen=True, slots=True)
class Verdict:
    """A completion's boxes and targets, judged.

    Attributes:
        kinds: one per predicted box, in emission order.
        ious: each predicted box's IoU with the object it was judged by; 0 where there is none.
        missed: indices into the sample's objects that no box hit; crowd regions never count.
    """

    kinds: tuple[Kind, ...]
    ious: tuple[float, ...]
    missed: tuple[int, ...]


def judge_boxes(sample: Sample, parsed: Parsed) -> Verdict:
    """Judge every predicted box of a completion and every target of its sample.

    Boxes are matched one to one by descending IoU within their label. Law: the number of
    `right` boxes plus the number of missed targets is the number of targets without crowds.
    """
    preds = parsed.detections
    wanted = [place for place, item in enumerate(sample.objects) if not item.iscrowd]
    targets = Detections.of([sample.objects[place] for place in wanted])
    overlap = iou(preds.boxes, targets.boxes)
    equal = same_label(preds.labels, targets.labels)
    own = np.where(equal, overlap, 0.0)
    pairs = match_greedy(own, HIT)
    other = _best(np.where(equal, 0.0, overlap), len(preds))
    other = np.maximum(other, _unasked_overlap(sample, preds))
    in_crowd = _crowd_share(sample, preds) >= HIT
    kinds, ious = _kinds(own, pairs, other, in_crowd)
    hit = {pair.target for pair in pairs}
    missed = tuple(place for index, place in enumerate(wanted) if index not in hit)
    return Verdict(kinds, ious, missed)


def _kinds(
    own: Matrix, pairs: Sequence[Pair], other: Matrix, in_crowd: npt.NDArray[np.bool_]
) -> tuple[tuple[Kind, ...], tuple[float, ...]]:
    """Kind and IoU of each prediction; `own` is "n m", `other` and `in_crowd` are "n"."""
    matched = {pair.pred: float(own[pair.pred, pair.target]) for pair in pairs}
    kinds: list[Kind] = []
    ious: list[float] = []
    for index, best in enumerate(_best(own, len(own)).tolist()):
        if index in matched:
            kind: Kind = "right"
            best = matched[index]
        elif best >= HIT:
            kind = "duplicate"
        elif in_crowd[index]:
            kind, best = "crowd", 0.0
        elif other[index] >= HIT:
            kind, best = "wrong_label", float(other[index])
        else:
            kind = "loose" if best >= NEAR else "false"
        kinds.append(kind)
        ious.append(round(best, 3))
    return tuple(kinds), tuple(ious)


def _best(overlap: Matrix, rows: int) -> Matrix:
    """Largest value of each row, shape "n"; 0 where there are no columns."""
    best: Matrix = overlap.max(axis=1, initial=0.0) if rows else np.zeros(0)
    return best


def _unasked_overlap(sample: Sample, preds: Detections) -> Matrix:
    """Best IoU of each prediction with an object of the image that was not asked for."""
    others = [_unasked(row) for row in sample.meta.get("others") or ()]
    boxes = Detections.of([item for item in others if item is not None]).boxes
    return _best(iou(preds.boxes, boxes), len(preds))


def _unasked(row: Any) -> Object | None:
    """An entry of meta.others, which is free-form; None where it is no box."""
    try:
        x1, y1, x2, y2 = (float(value) for value in row["bbox"])
        return Object((x1, y1, x2, y2), str(row["label"]))
    except (KeyError, TypeError, ValueError):
        return None


def _crowd_share(sample: Sample, preds: Detections) -> Matrix:
    """Largest share of each prediction's area inside a crowd region of its label, shape "n"."""
    crowds = Detections.of([item for item in sample.objects if item.iscrowd])
    if not len(crowds) or not len(preds):
        return np.zeros(len(preds))
    low = np.maximum(preds.boxes[:, None, :2], crowds.boxes[None, :, :2])
    high = np.minimum(preds.boxes[:, None, 2:], crowds.boxes[None, :, 2:])
    inside = np.maximum(high - low, 0.0).prod(axis=2)
    sides = preds.boxes[:, 2:] - preds.boxes[:, :2]
    share = inside / np.maximum(sides.prod(axis=1), 1e-12)[:, None]
    return _best(np.where(same_label(preds.labels, crowds.labels), share, 0.0), len(preds))
