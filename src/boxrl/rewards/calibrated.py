"""A reward of written scores: a model that says how sure it is earns most by saying what is so."""

from __future__ import annotations

from operator import itemgetter
from typing import Literal

from boxrl.matching import excused, label_overlaps, take_free
from boxrl.parsing.scores import written_scores
from boxrl.types import Completion, Target


def calibrated(
    completion: Completion,
    target: Target,
    *,
    worth: Literal["hit", "iou"] = "hit",
    iou_threshold: float = 0.5,
) -> float | None:
    """Quadratic score of the `score` written beside every box. Range [0, 1].

    (sum over right boxes of 2ws - s^2, minus sum over false boxes of s^2) / targets, not below 0; a
    box that states no number from 0 to 1 says 0. Without targets, 1 minus the sum of s^2. Boxes are
    right that overlap a target of their label by `iou_threshold`, one to one, highest IoU first.

    Law: a box whose worth w is p on average, 0 where it is false, earns p^2 on average where it
    says p, and less where it says anything else; a box that says 0 earns and costs nothing.

    Args:
        completion: the answer, boxes in JSON.
        target: what is right.
        worth: of a right box: 1 for a `hit`, so that scores tell how likely the box is right, or
            its `iou`, so that they tell how well it fits.
        iou_threshold: lowest IoU of a right box, above 0.

    Source: boxrl, after Brier 1950.
    """
    if target.answer is not None:
        return None
    parsed, targets = completion.parsed, target.detections
    if not parsed.readable:
        return 0.0
    preds = parsed.detections
    stated = [score or 0.0 for score in written_scores(parsed)]
    pairs = label_overlaps(preds, targets, iou_threshold)
    matched = take_free(sorted(pairs, key=itemgetter(2), reverse=True))
    right = {pred: iou if worth == "iou" else 1.0 for pred, _, iou in matched}
    left_out = excused(preds, targets, target.ignored) if len(target.ignored) else ()
    wrong = [k for k in range(len(preds)) if k not in right and k not in left_out]
    cost = sum([stated[k] ** 2 for k in wrong])
    if not len(targets):
        return max(0.0, 1.0 - cost)
    gain = sum([stated[k] * (2 * w - stated[k]) for k, w in right.items()])
    return max(0.0, (gain - cost) / len(targets))
