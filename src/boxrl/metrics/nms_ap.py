"""NMS-AP of OVDEval: AP after the boxes that pile up on one target are thinned to one.

A detector that answers to every name puts boxes of all names on one object. NMS-AP keeps the
most confident of them, whatever its label, so that only a detector that tells the names apart
keeps its true positives. It is anchored at targets and no ordinary NMS: boxes that lie on no
target stay.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from boxrl.boxes import iou
from boxrl.metrics.average_precision import Predictions, Targets

TieRule = Literal["last", "best_iou"]
IOU_THRESHOLD = 0.5


def keep_one_per_target(
    targets: Targets, preds: Predictions, ties: TieRule = "last"
) -> npt.NDArray[np.bool_]:
    """Which predictions survive.

    For every target, of the predictions of its image with IoU > .5, of any label, the most
    confident is kept and the others are removed; a prediction kept for one target is not
    removed for another.

    Args:
        targets: in file order, crowd regions included.
        preds: in file order.
        ties: which of several most confident ones is kept: `last` in file order, as the
            official script does; `best_iou`, the nearest to the target, all of them if equally
            near, which does not depend on the order.

    Returns:
        Bool "n".

    Source: OVDEval, eval.py.
    """
    kept = np.zeros(len(preds.image), dtype=bool)
    removed = np.zeros(len(preds.image), dtype=bool)
    rows_of = {int(image): np.flatnonzero(preds.image == image) for image in set(targets.image)}
    for image, box in zip(targets.image.tolist(), targets.boxes, strict=True):
        rows = rows_of[image]
        overlap = iou(preds.boxes[rows], box[None])[:, 0]
        near = overlap > IOU_THRESHOLD
        if not near.any():
            continue
        rows, overlap = rows[near], overlap[near]
        best = preds.confidence[rows] == preds.confidence[rows].max()
        if ties == "best_iou":
            best &= overlap == overlap[best].max()
        else:
            best = np.arange(len(rows)) == np.flatnonzero(best)[-1]
        kept[rows[best]] = True
        removed[rows[~best]] = True
    return kept | ~removed
