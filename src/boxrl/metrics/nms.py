"""Non-maximum suppression within a label.

Source: Dalal and Triggs 2005; per class as detectors do it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from boxrl.boxes import iou
from boxrl.types import Detections, fold_label


def keep_surest(preds: Detections, confidence: Sequence[float], iou_threshold: float) -> list[int]:
    """Places of the boxes that no surer box of their label overlaps by the threshold or more.

    Args:
        preds: the boxes.
        confidence: one number per box; of equal ones the earlier box is the surer.
        iou_threshold: in (0, 1].

    Returns:
        Ascending. Law: what is kept is kept again.
    """
    labels = [fold_label(label) for label in preds.labels]
    overlap = iou(preds.boxes, preds.boxes)
    kept: list[int] = []
    for place in np.argsort(-np.asarray(confidence, dtype=np.float64), kind="stable").tolist():
        rivals = (other for other in kept if labels[other] == labels[place])
        if all(overlap[place, other] < iou_threshold for other in rivals):
            kept.append(place)
    return sorted(kept)
