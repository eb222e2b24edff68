"""Which label's objects were answered under which label.

A box answers an object from IoU .5 on, one to one. Pairs of one label come first, so that what is
on the diagonal is what `precision@0.5` counts as right; then the highest IoU.

Source: the confusion matrix of YOLOv5's utils/metrics.py, but for the order: it takes the highest
IoU first, whatever the labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from boxrl.matching import HIT, overlaps, take_free
from boxrl.types import Detections, fold_label


class Confused(NamedTuple):
    """One object, one box, or both where the box answers the object.

    Attributes:
        target: folded label of the object; None where the box is on none.
        said: folded label of the box; None where the object was missed.
    """

    target: str | None
    said: str | None


def find_confused(preds: Detections, targets: Detections) -> Iterator[Confused]:
    """Every object and every box of one image, once.

    Laws: as many pairs have one label on both sides as `count_boxes` has true positives; every
    object and every box is in one pair.

    Args:
        preds: predicted boxes, without those that are neither right nor wrong.
        targets: what is right, without crowd regions.
    """
    names, target_names = ([fold_label(x) for x in side.labels] for side in (preds, targets))
    ranked = sorted(
        overlaps(preds, targets, HIT),
        key=lambda pair: (names[pair[0]] == target_names[pair[1]], pair[2]),
        reverse=True,
    )
    said = {target: pred for pred, target, _ in take_free(ranked)}
    for target, name in enumerate(target_names):
        yield Confused(name, names[said[target]] if target in said else None)
    for pred in set(range(len(names))) - set(said.values()):
        yield Confused(None, names[pred])
