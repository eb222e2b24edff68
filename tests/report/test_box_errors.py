"""What becomes of every box, by hand and by law."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxrl.metrics.detection import count_boxes
from boxrl.report.box_errors import KINDS, judge_boxes
from boxrl.types import Detections, Object, Parsed, Sample, Target

Box = tuple[float, float, float, float]
CAT: Box = (0, 0, 10, 10)
DOG: Box = (50, 50, 60, 60)
CROWD: Box = (20, 20, 40, 40)


def sample(objects: list[Object], others: list[dict[str, Any]] | None = None) -> Sample:
    meta = {"others": others} if others else {}
    return Sample("s", "s.png", 100, 100, "detection", ("cat", "dog"), tuple(objects), meta=meta)


def parsed(items: list[tuple[Box, str]]) -> Parsed:
    boxes = np.array([box for box, _ in items], dtype=np.float64).reshape(-1, 4)
    return Parsed(Detections(boxes, tuple(label for _, label in items)), "ok")


TARGETS = [Object(CAT, "cat"), Object(DOG, "dog"), Object(CROWD, "dog", iscrowd=True)]
UNASKED = [{"bbox": [80, 80, 90, 90], "label": "bird"}, {"bbox": "broken", "label": "bird"}]


@pytest.mark.parametrize(
    ("items", "kinds", "missed"),
    [
        ([(CAT, "cat"), (DOG, "dog")], ["right", "right"], ()),
        ([(CAT, " CAT "), (DOG, "dog")], ["right", "right"], ()),  # labels are folded
        ([(CAT, "cat"), (CAT, "cat")], ["right", "duplicate"], (1,)),
        ([((0, 0, 10, 9), "cat"), (CAT, "cat")], ["duplicate", "right"], (1,)),  # best IoU wins
        ([(CAT, "dog")], ["wrong_label"], (0, 1)),
        ([((80, 80, 90, 90), "cat")], ["wrong_label"], (0, 1)),  # on an object not asked for
        ([((0, 0, 10, 3), "cat")], ["loose"], (0, 1)),  # IoU .3
        ([((0, 0, 10, 0.5), "cat")], ["false"], (0, 1)),  # IoU .05
        ([((70, 0, 80, 10), "cat")], ["false"], (0, 1)),
        ([((25, 25, 30, 30), "dog")], ["crowd"], (0, 1)),
        ([((25, 25, 30, 30), "cat")], ["false"], (0, 1)),  # a crowd of another label
        ([], [], (0, 1)),
    ],
)
def test_kinds(items: list[tuple[Box, str]], kinds: list[str], missed: tuple[int, ...]) -> None:
    verdict = judge_boxes(sample(TARGETS, UNASKED), parsed(items))
    assert list(verdict.kinds) == kinds
    assert verdict.missed == missed


def test_iou_is_that_with_the_object_judged_by() -> None:
    items: list[tuple[Box, str]] = [((0, 0, 10, 8), "cat"), ((50, 50, 60, 59), "cat")]
    verdict = judge_boxes(sample(TARGETS), parsed(items))
    assert verdict.kinds == ("right", "wrong_label")
    assert verdict.ious == (0.8, 0.9)


sides = st.integers(0, 8)
boxes = st.tuples(sides, sides, sides, sides).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2] + 1), float(b[1] + b[3] + 1))
)
labels = st.sampled_from(["cat", "dog", "bird"])
items = st.lists(st.tuples(boxes, labels), max_size=6)
objects = st.lists(st.builds(Object, boxes, labels, st.booleans()), max_size=6)


@given(objects, items)
def test_counts_are_those_of_evaluate(targets: list[Object], said: list[tuple[Box, str]]) -> None:
    asked, answer = sample(targets), parsed(said)
    verdict = judge_boxes(asked, answer)
    counts = count_boxes(answer.detections, Target.of(asked).detections)
    found = Counter(verdict.kinds)
    assert len(verdict.kinds) == len(verdict.ious) == len(said)
    assert set(found) <= set(KINDS)
    assert found["right"] == counts.tp
    assert len(verdict.missed) == counts.fn
    assert len(said) - found["right"] == counts.fp
    assert not any(targets[place].iscrowd for place in verdict.missed)
    assert all(0 <= overlap <= 1 for overlap in verdict.ious)
