"""AP that does not depend on the order of boxes of equal confidence.

COCO ranks equal confidences by image and emission, so a model without confidences is paid for
luck in the order of its boxes. Here equal confidences are one point of the curve, and the boxes
from a confidence up are matched one-to-one as often as possible. No cap on boxes per image.

Source: boxrl.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from boxrl.boxes import SMALLEST, area, paired_iou
from boxrl.matching import augment_matching
from boxrl.metrics.average_precision import Floats, Ints, Predictions, Targets
from boxrl.metrics.precision_recall import EPS, RECALLS
from boxrl.types import Boxes

THRESHOLDS = np.linspace(0.5, 0.95, 10)
Flags = npt.NDArray[np.bool_]


def order_free_precision(targets: Targets, preds: Predictions, n_labels: int) -> float | None:
    """Mean over labels with targets and over IoU .50:.05:.95.

    Returns:
        In [0, 1], None without targets. Laws: permuting boxes changes nothing; where all
        confidences are equal, a label's AP at one IoU is
        precision * (recall points reached) / 101.
    """
    n_targets = np.bincount(targets.label[~targets.crowd], minlength=n_labels)
    if not n_targets.any():
        return None
    hit, ignored = _match_all(targets, preds, n_labels)
    total = 0.0
    for label in np.flatnonzero(n_targets):
        mine = np.flatnonzero(preds.label == label)
        mine = mine[np.argsort(-preds.confidence[mine], kind="stable")]
        total += _area(hit[:, mine], ignored[:, mine], preds.confidence[mine], n_targets[label])
    return float(total / (n_targets > 0).sum())


def _area(hit: Flags, ignored: Flags, confidence: Floats, n_targets: int) -> float:
    """Mean over IoU thresholds of one label's interpolated precision; boxes ranked."""
    if not len(confidence):
        return 0.0
    ends = np.append(np.flatnonzero(np.diff(confidence)), len(confidence) - 1)
    found = hit.cumsum(axis=1)[:, ends]
    precision = found / ((~ignored).cumsum(axis=1)[:, ends] + EPS)
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(RECALLS, found / n_targets, side="right")
    points = np.diff(reached, axis=1, prepend=0)
    return float((highest * points).sum() / (len(RECALLS) * len(hit)))


def _match_all(targets: Targets, preds: Predictions, n_labels: int) -> tuple[Flags, Flags]:
    """Which boxes find a target, which are ignored for a crowd region; "thresholds boxes" each."""
    group = preds.image * n_labels + preds.label
    target_group = targets.image * n_labels + targets.label
    crowd = np.flatnonzero(targets.crowd)
    inside = _crowd_share(preds.boxes, group, targets.boxes[crowd], target_group[crowd])
    # Highest confidence first; of equals, those first that nothing would excuse.
    order = np.lexsort((inside, -preds.confidence, group))
    real = np.flatnonzero(~targets.crowd)
    pred, target = _same_group(group[order], target_group[real])
    overlap = paired_iou(preds.boxes[order[pred]], targets.boxes[real[target]])
    hit = np.zeros((len(THRESHOLDS), len(group)), dtype=bool)
    for at, threshold in enumerate(THRESHOLDS):
        near = overlap >= threshold
        hit[at, order] = _enlarging(pred[near], target[near], group[order])
    excused: Flags = inside >= THRESHOLDS[:, None]
    return hit, excused & ~hit


def _enlarging(pred: Ints, target: Ints, group: Ints) -> Flags:
    """Whether each box enlarges the largest matching of its group's boxes up to it.

    Args:
        pred: Int "pairs", ascending; boxes that may be paired with...
        target: Int "pairs", ...these targets.
        group: Int "n", ascending; the image and label of every box.
    """
    flags: Flags = np.zeros(len(group), dtype=bool)
    several = np.zeros(len(group), dtype=bool)
    several[pred[1:][pred[1:] == pred[:-1]]] = True
    tangled = np.isin(group[pred], group[several])
    # Where every box of a group has one target at most, the first at each target finds it.
    _, first = np.unique(target[~tangled], return_index=True)
    flags[pred[~tangled][first]] = True
    pred, target = pred[tangled], target[tangled]
    rows, starts = np.unique(pred, return_index=True)
    candidates = [part.tolist() for part in np.split(target, starts[1:])] if len(rows) else []
    flags[rows] = augment_matching(candidates)
    return flags


def _crowd_share(boxes: Boxes, group: Ints, regions: Boxes, region_group: Ints) -> Floats:
    """Largest share of each box that lies in one crowd region of its group; 0 without any."""
    share = np.zeros(len(boxes))
    pred, region = _same_group(group, region_group)
    low = np.maximum(boxes[pred, :2], regions[region, :2])
    high = np.minimum(boxes[pred, 2:], regions[region, 2:])
    inside = np.maximum(high - low, 0.0).prod(axis=1)
    np.maximum.at(share, pred, inside / np.maximum(area(boxes[pred]), SMALLEST))
    return share


def _same_group(first: Ints, second: Ints) -> tuple[Ints, Ints]:
    """All pairs of rows whose groups are equal, by row of `first`."""
    order = np.argsort(second, kind="stable")
    start = np.searchsorted(second[order], first, side="left")
    counts = np.searchsorted(second[order], first, side="right") - start
    rows = np.repeat(np.arange(len(first)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, order[np.repeat(start, counts) + within]
