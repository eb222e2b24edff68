"""What became of every box: the error kinds of one answer, box by box.

The kinds and their order of precedence are TIDE's: IoU .5 is a hit, IoU .1 is near enough to mean
the object. What is right is decided by boxrl's matching, that of `precision@0.5`: one to one
within the label, highest IoU first.

Source: Bolya et al. 2020, "TIDE: A General Toolbox for Identifying Object Detection Errors", and
its tidecv/quantify.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Literal, NamedTuple

from boxrl.boxes import Overlap, iou
from boxrl.matching import HIT, excused, label_overlaps, overlaps, take_free
from boxrl.types import Boxes, Detections, fold_label

BoxKind = Literal[
    "right", "classification", "localization", "both", "duplicate", "background",
    "crowd", "no_category",
]  # fmt: skip

KINDS: dict[BoxKind, str] = {
    "right": "on an object of its label (IoU 0.5 or more), one box per object",
    "classification": "on an object (IoU 0.5 or more), but under another name",
    "localization": "near an object of its label (IoU 0.1 to 0.5)",
    "both": "near an object of another name (IoU 0.1 to 0.5)",
    "duplicate": "a second box on an object that has one",
    "background": "on nothing that was asked for (IoU under 0.1)",
    "crowd": "inside a crowd region of its label, on no object: neither right nor wrong",
    "no_category": "under a label that nothing asks for; AP passes over it, precision does not",
}
"""What each kind says of a predicted box."""

ERRORS = ("classification", "localization", "both", "duplicate", "background", "missed")
"""TIDE's kinds of error, in its order; `missed` is a target, the others are boxes."""

NEAR = 0.1


class BoxErrors(NamedTuple):
    """The boxes and targets of one answer, judged.

    Attributes:
        kinds: one per predicted box, in emission order.
        ious: each predicted box's IoU with the object it was judged by, to 3 decimals; 0 where
            there is none.
        missed: indices of targets that no box hit and that no box of kind `localization` or
            `classification` stands for, ascending.
    """

    kinds: tuple[BoxKind, ...]
    ious: tuple[float, ...]
    missed: tuple[int, ...]


Nearest = tuple[int, float]
"""The target that a box overlaps most, and their IoU. Plain tuples: data sets make millions."""

Judged = tuple[BoxKind, int, float]
"""A box's kind, the target it stands for and the IoU it was judged by; NOTHING for no target."""

NOTHING = -1


def find_box_errors(
    preds: Detections,
    targets: Detections,
    crowds: Detections | None = None,
    categories: frozenset[str] | None = None,
) -> BoxErrors:
    """Judge every predicted box and every target of one image.

    Laws: the `right` boxes are as many as `count_boxes` has true positives; a target is hit by a
    right box, is missed, or is what a box of kind `localization` or `classification` stands for.
    Where no two targets of a label are near each other, the kinds count as TIDE's do.

    Args:
        preds: predicted boxes.
        targets: what is right, without crowd regions.
        crowds: crowd regions.
        categories: folded labels of the data set; None takes every label for one.
    """
    ranked = sorted(label_overlaps(preds, targets, HIT), key=itemgetter(2), reverse=True)
    judged: dict[int, Judged] = {
        pred: ("right", target, overlap) for pred, target, overlap in take_free(ranked)
    }
    if len(judged) < len(preds):
        judged = _judge_wrong(preds, targets, crowds, categories) | judged
    told = {target for _, target, _ in judged.values()}
    found = [judged[pred] for pred in range(len(preds))]
    return BoxErrors(
        tuple([kind for kind, _, _ in found]),
        tuple([round(overlap, 3) for _, _, overlap in found]),
        tuple([target for target in range(len(targets)) if target not in told]),
    )


def _judge_wrong(
    preds: Detections,
    targets: Detections,
    crowds: Detections | None,
    categories: frozenset[str] | None,
) -> dict[int, Judged]:
    """What every predicted box is if it is not right."""
    near = overlaps(preds, targets, NEAR)
    names, target_names = ([fold_label(x) for x in side.labels] for side in (preds, targets))
    own = _nearest([pair for pair in near if names[pair[0]] == target_names[pair[1]]])
    other = _nearest([pair for pair in near if names[pair[0]] != target_names[pair[1]]])
    in_crowd = excused(preds, targets, crowds) if crowds else frozenset()
    nowhere = (NOTHING, 0.0)
    judged: dict[int, Judged] = {}
    for pred, name in enumerate(names):
        if pred in in_crowd:
            judged[pred] = ("crowd", NOTHING, 0.0)
        elif categories is not None and name not in categories:
            judged[pred] = ("no_category", NOTHING, other.get(pred, nowhere)[1])
        else:
            judged[pred] = _error(own.get(pred, nowhere), other.get(pred, nowhere))
    return judged


def _error(own: Nearest, other: Nearest) -> Judged:
    """TIDE's kind of a box that is not right.

    Args:
        own: the nearest target of the box's label.
        other: the nearest target of another label.
    """
    if NEAR <= own[1] <= HIT:
        return "localization", *own
    if other[1] >= HIT:
        return "classification", *other
    if own[1] > HIT:  # and another box has it, because this one has not
        return "duplicate", NOTHING, own[1]
    return ("both" if other[1] > NEAR else "background"), NOTHING, other[1]


def _nearest(pairs: Iterable[Overlap]) -> dict[int, Nearest]:
    """Of each prediction in the pairs the target of the highest IoU, the first of equals."""
    best: dict[int, Nearest] = {}
    for pred, target, overlap in pairs:
        if pred not in best or overlap > best[pred][1]:
            best[pred] = (target, overlap)
    return best


def lies_on(preds: Detections, objects: Boxes) -> list[bool]:
    """Whether each predicted box hits (IoU .5) one of the objects "n 4", whatever its label."""
    if not len(objects) or not len(preds):
        return [False] * len(preds)
    best = iou(preds.boxes, objects).max(axis=1).tolist()
    return [value >= HIT for value in best]
