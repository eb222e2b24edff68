"""Whether the first box a model names is a box that was asked for.

Source: accuracy at IoU .5 of the RefCOCO data sets (Mao et al. 2016, arXiv 1511.02283).
"""

from __future__ import annotations

from boxrl.boxes import iou
from boxrl.types import Detections

IOU_THRESHOLD = 0.5


def first_box_hits(preds: Detections, targets: Detections) -> bool:
    """Whether the first predicted box has IoU >= .5 with a target; labels are not compared.

    Referring expressions are scored so: one expression, one box, accuracy at IoU .5.
    """
    if not len(preds) or not len(targets):
        return False
    return bool((iou(preds.boxes[:1], targets.boxes) >= IOU_THRESHOLD).any())
