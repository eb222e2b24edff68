"""FindIt's figures: one matching per query, counts over all of them.

Source: github.com/esh04/FindIt: the Hungarian method on 1 - IoU, 1 less where labels agree; labels
in lower case without punctuation, blanks as they are.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from boxrl.boxes import iou
from boxrl.matching import match_best
from boxrl.metrics.detection import ratio
from boxrl.types import Detections

IOU_THRESHOLD = 0.5
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class QueryScore(NamedTuple):
    """One query.

    Attributes:
        tp: pairs that overlap by .5 and, with labels, bear the same one.
        n_preds: boxes of the answer.
        n_targets: boxes that are right.
        ious: of every target with its pair, 0 without one.
    """

    tp: int
    n_preds: int
    n_targets: int
    ious: tuple[float, ...]


def score_query(preds: Detections, targets: Detections, with_labels: bool = False) -> QueryScore:
    """Match one answer.

    Args:
        preds: the answer's boxes.
        targets: what is right.
        with_labels: whether a pair is only right under one label.
    """
    n, m = len(preds), len(targets)
    ious = [0.0] * m
    if not n or not m:
        return QueryScore(0, n, m, tuple(ious))
    overlap = iou(preds.boxes, targets.boxes)
    agree = np.zeros((n, m), dtype=bool)
    if with_labels:
        mine, theirs = (np.array([_plain(k) for k in side.labels]) for side in (preds, targets))
        agree = mine[:, None] == theirs[None, :]
    tp = 0
    for pred, target in match_best(overlap + agree):
        ious[target] = float(overlap[pred, target])
        tp += bool(
            overlap[pred, target] >= IOU_THRESHOLD and (agree[pred, target] or not with_labels)
        )
    return QueryScore(tp, n, m, tuple(ious))


def findit_figures(scores: Iterable[QueryScore]) -> dict[str, float | None]:
    """Precision, recall and F1 over all boxes of all queries, and the mean IoU of the targets.

    Args:
        scores: one per query.

    Returns:
        `precision`, `recall`, `f1`, `mean_iou`, each in [0, 1], None without boxes.
    """
    known = list(scores)
    tp, n, m = (sum(getattr(s, name) for s in known) for name in ("tp", "n_preds", "n_targets"))
    return {
        "precision": ratio(tp, n),
        "recall": ratio(tp, m),
        "f1": ratio(2 * tp, n + m),
        "mean_iou": ratio(sum(sum(s.ious) for s in known), m),
    }


def _plain(label: str) -> str:
    return label.lower().translate(_PUNCTUATION)
