"""AP that does not depend on the order of boxes of equal confidence.

COCO ranks equal confidences by image and emission, so a model without confidences is paid for
luck in the order of its boxes. Here equal confidences are one point of the curve, and the boxes
from a confidence up are matched one-to-one as often as possible. No cap on boxes per image.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from boxrl.boxes import area, iou
from boxrl.matching import enlarges_matching
from boxrl.metrics.average_precision import Floats, Ints, Predictions, Targets
from boxrl.metrics.curves import EPS, RECALLS
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
    hit, ignored = _match_all(targets, preds)
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


def _match_all(targets: Targets, preds: Predictions) -> tuple[Flags, Flags]:
    """Which boxes find a target, which are ignored for a crowd region; "thresholds boxes" each."""
    hit = np.zeros((len(THRESHOLDS), len(preds.label)), dtype=bool)
    ignored = np.zeros_like(hit)
    places = _places(targets.image, targets.label)
    for key, mine in _places(preds.image, preds.label).items():
        theirs = places.get(key)
        if theirs is None:
            continue
        crowd = targets.crowd[theirs]
        boxes, regions = targets.boxes[theirs[~crowd]], targets.boxes[theirs[crowd]]
        inside = _crowd_overlap(preds.boxes[mine], regions)
        # Highest confidence first; of equals, those first that nothing would excuse.
        order = np.lexsort((inside, -preds.confidence[mine]))
        mine, inside = mine[order], inside[order]
        hit[:, mine] = _hits(iou(preds.boxes[mine], boxes))
        excused: Flags = inside >= THRESHOLDS[:, None]
        ignored[:, mine] = excused & ~hit[:, mine]
    return hit, ignored


def _hits(ious: npt.NDArray[np.float64]) -> Flags:
    """Bool "thresholds n": whether box i enlarges the largest matching of boxes 0..i."""
    allowed: Flags = ious >= THRESHOLDS[:, None, None]
    if ious.shape[0] == 1 or ious.shape[1] == 0:
        touched: Flags = allowed.max(axis=2, initial=False)
        return touched
    flags: Flags = np.zeros(allowed.shape[:2], dtype=bool)
    for index, graph in enumerate(allowed):
        if index and (graph == allowed[index - 1]).all():
            flags[index] = flags[index - 1]
        elif graph.any():
            flags[index, :] = enlarges_matching(graph)
    return flags


def _crowd_overlap(boxes: Boxes, regions: Boxes) -> Floats:
    """Largest share of each box that lies in one crowd region; 0 where there is none."""
    if not len(regions):
        return np.zeros(len(boxes))
    low = np.maximum(boxes[:, None, :2], regions[:, :2])
    high = np.minimum(boxes[:, None, 2:], regions[:, 2:])
    inside = np.maximum(high - low, 0.0).prod(axis=2)
    share: Floats = (inside / area(boxes)[:, None]).max(axis=1)
    return share


def _places(image: Ints, label: Ints) -> dict[tuple[int, int], Ints]:
    """Rows of every (image, label), in their order."""
    rows: dict[tuple[int, int], list[int]] = {}
    for row, key in enumerate(zip(image.tolist(), label.tolist(), strict=True)):
        rows.setdefault(key, []).append(row)
    return {key: np.array(found) for key, found in rows.items()}
