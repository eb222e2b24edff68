"""Intervals over seeds, and what they say about a claim."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxrl.experiments.statistics import Mean, judge_claim, mean_interval

VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=8)


def test_the_interval_is_students() -> None:
    found = mean_interval([1.0, 2.0, 3.0])
    assert found is not None
    reach = 4.3026527 / math.sqrt(3)  # t at 2 degrees of freedom; s = 1
    assert found == pytest.approx((2.0, 2.0 - reach, 2.0 + reach, 3), rel=1e-3)


def test_one_seed_has_no_interval_and_none_no_mean() -> None:
    assert mean_interval([0.5]) == Mean(0.5, None, None, 1)
    assert mean_interval([]) is None


@given(VALUES, st.floats(-10, 10))
def test_adding_a_constant_moves_the_interval_along(values: list[float], shift: float) -> None:
    a, b = mean_interval(values), mean_interval([value + shift for value in values])
    assert a is not None
    assert b is not None
    assert a.low is not None
    assert b.low is not None
    assert b.mean == pytest.approx(a.mean + shift, abs=1e-6)
    assert b.low == pytest.approx(a.low + shift, abs=1e-5)


@given(VALUES)
def test_the_opposite_claim_has_the_opposite_verdict(values: list[float]) -> None:
    opposite = {"held": "failed", "failed": "held", "undecided": "undecided"}
    status = judge_claim(mean_interval(values))
    assert judge_claim(mean_interval([-value for value in values])) == opposite[status]


@pytest.mark.parametrize(
    ("difference", "within", "status"),
    [
        (Mean(2.0, 0.1, 3.9, 3), None, "held"),
        (Mean(2.0, 0.0, 4.0, 3), None, "undecided"),  # the interval touches 0
        (Mean(-2.0, -3.9, -0.1, 3), None, "failed"),
        (Mean(2.0, None, None, 1), None, "undecided"),  # one seed tells no spread
        (None, None, "undecided"),
        (Mean(0.0, -0.5, 0.5, 3), 0.5, "held"),
        (Mean(0.0, -0.5, 0.6, 3), 0.5, "undecided"),
        (Mean(0.8, 0.6, 1.0, 3), 0.5, "failed"),
        (Mean(-0.8, -1.0, -0.6, 3), 0.5, "failed"),
    ],
)
def test_verdicts(difference: Mean | None, within: float | None, status: str) -> None:
    assert judge_claim(difference, within) == status
