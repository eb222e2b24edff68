"""Which label was answered by which: by hand and by its laws."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxrl.metrics.confusion import Confused, find_confused
from boxrl.metrics.detection import count_boxes
from boxrl.types import Detections

Named = list[tuple[tuple[float, float, float, float], str]]
HERE, NEARLY, THERE = (0, 0, 10, 10), (0, 0, 10, 9), (50, 50, 60, 60)


def detections(items: Named) -> Detections:
    boxes = np.array([box for box, _ in items], dtype=np.float64).reshape(-1, 4)
    return Detections(boxes, tuple(label for _, label in items))


@pytest.mark.parametrize(
    ("preds", "found"),
    [
        ([(HERE, "cat")], [("cat", "cat")]),
        ([(HERE, "Dog ")], [("cat", "dog")]),
        ([(THERE, "cat")], [("cat", None), (None, "cat")]),
        ([], [("cat", None)]),
        # The name counts before the overlap: the cat is found, the dog stands on nothing.
        ([(HERE, "dog"), (NEARLY, "cat")], [("cat", "cat"), (None, "dog")]),
        ([(NEARLY, "cow"), (HERE, "dog")], [("cat", "dog"), (None, "cow")]),
    ],
)
def test_one_object_by_hand(preds: Named, found: list[tuple[str | None, str | None]]) -> None:
    assert list(find_confused(detections(preds), detections([(HERE, "cat")]))) == found


corner = st.integers(0, 3)
items = st.lists(
    st.tuples(
        st.builds(lambda x, y, w: (x, y, x + w, y + w), corner, corner, st.integers(1, 3)),
        st.sampled_from(["cat", "dog", "Cow"]),
    ),
    max_size=5,
)


@given(items, items)
def test_every_object_and_box_once_and_right_ones_as_precision_counts_them(
    said: Named, right: Named
) -> None:
    preds, targets = detections(said), detections(right)
    pairs = list(find_confused(preds, targets))
    fold = str.lower
    assert Counter(pair.target for pair in pairs if pair.target) == Counter(
        map(fold, targets.labels)
    )
    assert Counter(pair.said for pair in pairs if pair.said) == Counter(map(fold, preds.labels))
    assert Confused(None, None) not in pairs
    alike = sum(pair.target == pair.said for pair in pairs)
    assert alike == count_boxes(preds, targets).tp
