"""Counts, first boxes, lengths, thinning and the blind baseline."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxrl.metrics.average_precision import Predictions, Targets
from boxrl.metrics.blind import blind_detections
from boxrl.metrics.detection import Counts, count_boxes
from boxrl.metrics.grounding import first_box_hits
from boxrl.metrics.nms_ap import TieRule, keep_one_per_target
from boxrl.metrics.tokens import token_table
from boxrl.types import Detections, Object, Sample

A, B, FAR = [0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 60, 60]


def detections(*boxes: tuple[list[int], str]) -> Detections:
    array = np.array([box for box, _ in boxes], dtype=np.float64).reshape(-1, 4)
    return Detections(array, tuple(label for _, label in boxes))


@pytest.mark.parametrize(
    ("preds", "targets", "expected"),
    [
        ([], [], (0, 0, 0)),
        ([(A, "cat")], [], (0, 1, 0)),
        ([], [(A, "cat")], (0, 0, 1)),
        ([(A, "cat")], [(A, "Cat ")], (1, 0, 0)),  # labels are folded
        ([(A, "dog")], [(A, "cat")], (0, 1, 1)),  # a wrong label is wrong twice
        ([(A, "dragon")], [(A, "cat"), (FAR, "dog")], (0, 1, 2)),  # invented label
        ([(A, "cat"), (B, "cat")], [(A, "cat")], (1, 1, 0)),  # a duplicate is a false positive
        ([(B, "cat"), (A, "cat")], [(A, "cat"), (B, "cat")], (2, 0, 0)),  # highest IoU first
        ([([0, 0, 10, 5], "cat")], [(A, "cat")], (1, 0, 0)),  # IoU .5 is a match
        ([([0, 0, 10, 4], "cat")], [(A, "cat")], (0, 1, 1)),
    ],
)
def test_counts(preds: list, targets: list, expected: tuple[int, int, int]) -> None:
    assert count_boxes(detections(*preds), detections(*targets)) == Counts(*expected)


boxes = st.lists(
    st.tuples(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(6, 12), st.integers(6, 12)),
        st.sampled_from(["cat", "dog"]),
    ),
    max_size=6,
)


@given(boxes, boxes)
def test_every_box_is_counted_once(preds: list, targets: list) -> None:
    counts = count_boxes(detections(*preds), detections(*targets))
    assert (counts.tp + counts.fp, counts.tp + counts.fn) == (len(preds), len(targets))
    assert min(counts) >= 0


@pytest.mark.parametrize(
    ("preds", "expected"),
    [
        ([], False),
        ([(A, "a")], True),
        ([(FAR, "a"), (A, "a")], False),  # the first box counts
        ([(A, "other words")], True),  # labels are not compared
    ],
)
def test_the_first_box_decides(preds: list, expected: bool) -> None:
    assert first_box_hits(detections(*preds), detections((A, "a"))) is expected


def test_token_table_sets_long_completions_apart() -> None:
    assert token_table([10, 20, 3000, 2999]) == {
        "min": 10,
        "max": 2999,
        "mean": 3029 / 3,
        "long": 1,
    }
    assert token_table([3500]) == {"min": 3500, "max": None, "mean": None, "long": 1}
    assert token_table([]) == {"min": None, "max": None, "mean": None, "long": 0}


def thin(found: list[tuple[list[int], float]], goals: list[list[int]], ties: TieRule) -> list[bool]:
    """Survivors on one image; every prediction has a label of its own."""
    targets = Targets(
        np.zeros(len(goals), dtype=int),
        np.zeros(len(goals), dtype=int),
        np.array(goals, dtype=float).reshape(-1, 4),
        np.zeros(len(goals), dtype=bool),
        np.ones(len(goals)),
    )
    preds = Predictions(
        np.zeros(len(found), dtype=int),
        np.arange(len(found)),
        np.array([box for box, _ in found], dtype=float).reshape(-1, 4),
        np.array([score for _, score in found]),
    )
    return keep_one_per_target(targets, preds, ties).tolist()


@pytest.mark.parametrize(
    ("found", "goals", "last", "best_iou"),
    [
        ([(A, 0.9), (B, 0.5)], [A], [True, False], [True, False]),  # the more confident
        ([(A, 0.5), (B, 0.5)], [A], [False, True], [True, False]),  # equal: last; nearest
        ([(A, 0.5), (A, 0.5)], [A], [False, True], [True, True]),  # equal in all: both
        ([(FAR, 0.1), (A, 0.9)], [A], [True, True], [True, True]),  # on no target: stays
        ([(A, 0.9), (B, 0.5)], [], [True, True], [True, True]),  # no targets: nothing removed
        ([([0, 0, 10, 5], 0.5), (A, 0.9)], [A], [True, True], [True, True]),  # IoU .5 is not > .5
        # kept for one target although another target would remove it
        (
            [(A, 0.9), ([4, 0, 14, 10], 0.5)],
            [[2, 0, 12, 10], [7, 0, 17, 10]],
            [True] * 2,
            [True] * 2,
        ),
    ],
)
def test_one_box_per_target_survives(
    found: list, goals: list, last: list[bool], best_iou: list[bool]
) -> None:
    assert thin(found, goals, "last") == last
    assert thin(found, goals, "best_iou") == best_iou


def sample(labels: tuple[str, ...], others: list[dict]) -> Sample:
    crowd = Object((1, 1, 99, 99), "cat", iscrowd=True)
    objects = (Object((0, 0, 10, 10), "cat"), crowd)
    return Sample("1", "1.jpg", 100, 100, "detection", labels, objects, meta={"others": others})


def test_the_blind_policy_answers_with_every_box_under_asked_labels() -> None:
    others = [{"bbox": FAR, "label": "dog"}, {"bbox": A, "label": "fog", "iscrowd": True}]
    drawn = [
        blind_detections(sample(("cat", "hat"), others), random.Random(seed)) for seed in range(20)
    ]
    for found in drawn:
        assert sorted(found.boxes.tolist()) == [A, FAR]  # crowd regions are left out
        assert set(found.labels) <= {"cat", "hat"}
    assert len({found.labels for found in drawn}) == 4
    assert {tuple(found.boxes[0]) for found in drawn} == {tuple(A), tuple(FAR)}  # random order


def test_the_blind_policy_says_nothing_where_nothing_is_asked() -> None:
    assert len(blind_detections(sample((), []), random.Random(0))) == 0
