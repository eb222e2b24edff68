"""Values of the box rewards in cases that can be worked out by hand."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxrl.boxes import Overlap
from boxrl.errors import UsageError
from boxrl.matching import largest_matching
from boxrl.rewards import build_reward, score
from boxrl.rewards.localization import most_matches

A, B = [0, 0, 10, 10], [100, 100, 120, 120]
HALF = [0, 0, 10, 5]  # IoU .5 with A
Row = tuple[list[int], str]


def reward(spec: str | dict[str, object], preds: list[Row], targets: list[Row]) -> float | None:
    items = json.dumps([{"bbox_2d": box, "label": label} for box, label in preds])
    objects = [{"bbox": box, "label": label} for box, label in targets]
    (values,) = score([f"<answer>{items}</answer>"], [objects], [spec]).values()
    return values[0]


@pytest.mark.parametrize(
    ("preds", "expected"),
    [
        ([(A, "cat"), (B, "dog")], 1.0),
        ([(A, "cat")], (0.7 * 0.5) + 0.3 * (1 - 0.5 / 2)),  # one target missed
        ([(A, "CAT "), (B, "dog"), (B, "dog")], 0.7 + 0.3 * (1 - (1 / 3) / 2)),  # a duplicate
        ([(A, "cow"), (B, "cow")], 0.3),  # right boxes, wrong labels
        ([(HALF, "cat"), (B, "dog")], 0.7 * 0.75 + 0.3),  # IoU exactly at the threshold matches
    ],
)
def test_weighted_sum(preds: list[Row], expected: float) -> None:
    assert reward("weighted_sum", preds, [(A, "cat"), (B, "dog")]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("preds", "expected"),
    [
        ([(A, "cat")], 1.0),
        ([(HALF, "cat")], 0.1),  # a match at one of ten thresholds
        ([(A, "cat"), (A, "cat")], 2 / 3),  # a duplicate costs
        ([(A, "cat"), (A, "dog")], 2 / 3),  # so does an invented label
        ([(A, "cow")], 0.0),
    ],
)
def test_f1(preds: list[Row], expected: float) -> None:
    assert reward("f1", preds, [(A, "cat")]) == pytest.approx(expected)


@pytest.mark.parametrize(("beta", "expected"), [(0, 0.5), (1, 2 / 3), (2, 5 / 6), (1e3, 1.0)])
def test_beta_weighs_recall_against_precision(beta: float, expected: float) -> None:
    preds, targets = [(A, "cat"), (B, "cat")], [(A, "cat")]
    assert reward({"name": "f1", "beta": beta}, preds, targets) == pytest.approx(expected)


@pytest.mark.parametrize("beta", [-1, float("nan"), 1e300])
def test_an_impossible_beta_is_refused(beta: float) -> None:
    with pytest.raises(UsageError, match=r"beta is .*; expected"):
        build_reward({"name": "f1", "beta": beta})


def test_f1_takes_the_most_pairs_where_greedy_does_not() -> None:
    left, both, right = [0, 0, 10, 10], [0, 0, 12, 10], [1, 0, 13, 10]
    targets: list[Row] = [(left, "cat"), (right, "cat")]
    assert reward({"name": "f1", "thresholds": [0.7]}, [(both, "cat"), (left, "cat")], targets) == 1


IOUS = st.sampled_from([0.5, 0.6, 0.75, 0.75, 0.9])
PAIRS = st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 4)), IOUS, max_size=8)


@given(PAIRS)
def test_most_matches_is_the_sum_of_the_largest_matchings(
    ious: dict[tuple[int, int], float],
) -> None:
    pairs: list[Overlap] = [(pred, target, iou) for (pred, target), iou in ious.items()]
    expected = sum(
        largest_matching([pair[:2] for pair in pairs if pair[2] >= threshold])
        for threshold in (0.5, 0.75, 0.95)
    )
    assert most_matches(pairs, (0.5, 0.75, 0.95)) == expected


def test_od_length_charges_for_every_box_too_many() -> None:
    assert reward("od_length", [(A, "cat"), (B, "cow")], [(A, "cat")]) == pytest.approx(0.5)


def test_iou_reads_the_first_box_and_no_label() -> None:
    assert reward("iou", [(HALF, "cow"), (A, "cat")], [(A, "cat")]) == 0.5


def test_dense_f1_prefers_the_nearer_miss() -> None:
    near, far = (
        reward("dense_f1", [([12, 0, 22, 10], "cat")], [(A, "cat")]),
        reward("dense_f1", [(B, "cat")], [(A, "cat")]),
    )
    assert near is not None
    assert far is not None
    assert 0 < far < near < 0.5
    assert reward("dense_f1", [(A, "cow")], [(A, "cat")]) == 0


def test_thresholds_of_ones_own() -> None:
    spec = {"name": "ap", "thresholds": [0.5, 0.75]}
    assert reward(spec, [(HALF, "cat")], [(A, "cat")]) == pytest.approx(0.5)
