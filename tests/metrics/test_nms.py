"""Non-maximum suppression against cases by hand."""

from __future__ import annotations

import numpy as np
import pytest

from boxrl.metrics.nms import keep_surest
from boxrl.types import NOTHING, Detections

BOXES = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 6], [50, 50, 60, 60]], dtype=float)


@pytest.mark.parametrize(
    ("labels", "confidence", "threshold", "kept"),
    [
        ("aaaa", (1, 1, 1, 1), 0.5, [0, 3]),  # equal confidences: the first
        ("aaaa", (0.1, 0.2, 0.3, 0.4), 0.7, [0, 2, 3]),  # 2 and 1 overlap by 3/4, 2 and 0 by 3/5
        ("abaa", (1, 1, 1, 1), 0.5, [0, 1, 3]),  # b is alone
        ("aaaa", (1, 1, 1, 1), 0.8, [0, 2, 3]),  # an overlap of exactly the threshold goes
        ("aAaa", (1, 1, 1, 1), 0.8, [0, 2, 3]),  # labels are folded
    ],
)
def test_the_surest_of_each_label_stays(
    labels: str, confidence: tuple[float, ...], threshold: float, kept: list[int]
) -> None:
    preds = Detections(BOXES, tuple(labels))
    assert keep_surest(preds, confidence, threshold) == kept
    left = Detections(BOXES[kept], tuple(labels[k] for k in kept))
    again = keep_surest(left, [confidence[k] for k in kept], threshold)
    assert again == list(range(len(kept)))


def test_no_boxes_stay_none() -> None:
    assert keep_surest(NOTHING, (), 0.5) == []
