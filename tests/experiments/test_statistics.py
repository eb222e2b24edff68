"""Intervals over seeds, and what they say about a claim."""

from __future__ import annotations

import math
import random
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from boxrl.experiments.statistics import (
    Mean,
    adjust,
    at_a_bound,
    judge_difference,
    judge_likeness,
    least_margin,
    mean_interval,
)

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
    opposite = {"held": "failed", "failed": "held"}
    verdict = judge_difference(values)
    turned = judge_difference([-value for value in values])
    assert turned.status == opposite.get(verdict.status, verdict.status)
    assert turned.p == verdict.p


@given(VALUES)
def test_a_difference_is_decided_just_where_p_is_below_one_in_twenty(values: list[float]) -> None:
    verdict = judge_difference(values)
    if verdict.p is not None and abs(verdict.p - 0.05) > 1e-9:
        assert (verdict.status in ("held", "failed")) == (verdict.p < 0.05)


@given(VALUES, st.floats(0.1, 50))
def test_arms_are_alike_just_where_both_one_sided_tests_say_so(
    values: list[float], within: float
) -> None:
    verdict = judge_likeness(values, within)
    if verdict.p is not None and abs(verdict.p - 0.05) > 1e-9:
        assert (verdict.status in ("held", "failed")) == (verdict.p < 0.05)
        inside = abs(fmean(values)) < within
        assert verdict.status in ("undecided", "held" if inside else "failed")


@pytest.mark.parametrize(("mean", "n", "found"), [(0.0, 12, 0.80), (0.05, 12, 0.90)])
def test_arms_are_found_alike_within_the_least_margin_in_80_of_100_cases_or_more(
    mean: float, n: int, found: float
) -> None:
    draws = np.random.default_rng(0).normal(mean, 0.1, (100_000, n))
    reach = stats.t.ppf(0.95, n - 1) * draws.std(axis=1, ddof=1) / n**0.5
    alike = np.abs(draws.mean(axis=1)) + reach <= least_margin(mean, 0.1, n)
    assert alike.mean() == pytest.approx(found, abs=0.005)


@pytest.mark.parametrize(
    ("differences", "published", "status"),
    [
        ([1.9, 2.0, 2.1], None, "held"),
        ([-1.9, -2.0, -2.1], None, "failed"),
        ([1.0, 2.0, 9.0], None, "undecided"),
        ([2.0], 1.0, "undecided"),  # one seed tells no spread
        ([], None, "undecided"),
        ([0.0, 0.0, 0.0], None, "not tested"),  # the arms are one run
        ([0.2, 0.2, 0.2], None, "held"),
        ([-0.1, 0.0, 0.1], 0.5, "smaller"),  # up to .25
        ([-0.1, 0.0, 0.1], 0.2, "undecided"),
        ([-2.1, -2.0, -1.9], 0.5, "failed"),  # which says more
        ([-0.1, 0.0, 0.1], -0.5, "undecided"),  # the blog's own points the other way
    ],
)
def test_verdicts_on_differences(
    differences: list[float], published: float | None, status: str
) -> None:
    assert judge_difference(differences, published).status == status


@pytest.mark.parametrize(
    ("differences", "status"),
    [
        ([-0.1, 0.0, 0.1], "held"),  # 90 % interval: +-.17
        ([-0.3, 0.0, 0.3], "undecided"),
        ([0.8, 0.81, 0.82], "failed"),
        ([-0.8, -0.81, -0.82], "failed"),
        ([0.0, 0.0], "not tested"),
        ([0.2, 0.2], "held"),
        ([0.1], "undecided"),
    ],
)
def test_verdicts_on_likeness(differences: list[float], status: str) -> None:
    assert judge_likeness(differences, 0.5).status == status


def test_p_is_that_of_the_paired_t_test() -> None:
    differences = [0.1, 0.4, -0.2, 0.5, 0.3]
    expected = stats.ttest_1samp(differences, 0).pvalue
    assert judge_difference(differences).p == pytest.approx(expected, abs=1e-12)
    sides = [
        stats.ttest_1samp(differences, -0.5, alternative="greater").pvalue,
        stats.ttest_1samp(differences, 0.5, alternative="less").pvalue,
    ]
    assert judge_likeness(differences, 0.5).p == pytest.approx(max(sides), abs=1e-12)


@pytest.mark.parametrize(("n", "spreads"), [(3, 3.26), (5, 1.68), (8, 1.16), (12, 0.89)])
def test_more_seeds_see_smaller_effects(n: int, spreads: float) -> None:
    rng = random.Random(n)
    differences = [rng.gauss(0, 1) for _ in range(n)]
    detectable = judge_difference(differences).detectable
    assert detectable is not None
    assert detectable / stdev(differences) == pytest.approx(spreads, abs=0.005)


def test_the_detectable_effect_is_decided_in_four_of_five_cases() -> None:
    rng = np.random.default_rng(0)
    effect = judge_difference([-1.0, 0.0, 1.0, 0.5, -0.5])
    assert effect.detectable is not None
    true = effect.detectable / stdev([-1.0, 0.0, 1.0, 0.5, -0.5])
    draws = rng.normal(true, 1, size=(4000, 5))
    held = sum(judge_difference(row.tolist()).status == "held" for row in draws)
    assert held / 4000 == pytest.approx(0.8, abs=0.025)


@pytest.mark.parametrize(
    ("a", "b", "bound"),
    [
        ([0.99, 1.0], [0.985, 0.98], True),
        ([0.0, 0.01], [0.0, 0.02], True),
        ([0.0, 0.0, 0.06], [0.0, 0.0, 0.0], True),  # one seed of one arm is apart
        ([0.99, 1.0], [0.5, 0.6], False),
        ([0.0, 0.0], [1.0, 1.0], False),
    ],
)
def test_shares_at_a_bound_have_no_room(a: list[float], b: list[float], bound: bool) -> None:
    assert at_a_bound(a, b) == bound


@given(st.lists(st.floats(0, 1), max_size=20))
def test_corrected_p_values_are_scipys(values: list[float]) -> None:
    expected = stats.false_discovery_control(values) if values else []
    assert adjust(values) == pytest.approx(list(expected), abs=1e-12)
