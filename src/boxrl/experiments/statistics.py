"""Means and differences over seeds, with Student's intervals, and what they say of a claim."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Literal, NamedTuple

from scipy.special import nctdtrinc, stdtr, stdtrit

ClaimStatus = Literal["held", "failed", "smaller", "undecided", "not tested"]

POWER = 0.8
"""Chance of being decided that `Verdict.detectable` stands for."""

BOUND = 0.02
"""A share this near to 0 or 1 in both arms leaves no room for a difference."""


class Mean(NamedTuple):
    """A mean over n seeds; the ends are None for one seed, which tells no spread."""

    mean: float
    low: float | None
    high: float | None
    n: int


class Verdict(NamedTuple):
    """What differences over seeds say of a claim.

    Attributes:
        status: `held`, `failed`, `smaller` than was published, `undecided`, or `not tested`:
            the arms could not differ.
        p: chance of differences as large or larger if the claim's opposite border were true:
            two-sided against 0, or of the two one-sided tests where arms are claimed to be alike;
            of such a claim that failed, two-sided against the margin. None where there is no
            spread.
        detectable: the least true difference that so many seeds of this spread decide in 80 of
            100 cases; for arms claimed to be alike, the least margin that their interval keeps.
    """

    status: ClaimStatus
    p: float | None
    detectable: float | None


def mean_interval(values: Sequence[float], level: float = 0.95) -> Mean | None:
    """Mean and its interval, mean +- t(n - 1) * s / sqrt(n); None without values.

    Args:
        values: one per seed; for a paired difference, the differences.
        level: share of intervals that hold the true mean.
    """
    n = len(values)
    if n < 2:
        return Mean(float(values[0]), None, None, 1) if n else None
    t = float(stdtrit(n - 1, (1 + level) / 2))
    mean, reach = fmean(values), t * stdev(values) / math.sqrt(n)
    return Mean(mean, mean - reach, mean + reach, n)


def judge_difference(differences: Sequence[float], published: float | None = None) -> Verdict:
    """Whether one arm is above another, at 95 %.

    Args:
        differences: per seed, of the figure that is claimed to be higher minus the other.
        published: the difference that somebody else reports, above 0, in the same unit.

    Returns:
        `held`: the 95 % interval is above 0. `failed`: below 0. `smaller`: it holds 0 and ends
        below the published difference. `not tested`: no seed differs at all. `undecided`
        otherwise, and always with fewer than two seeds.
    """
    found = mean_interval(differences)
    if found is None or found.low is None or found.high is None:
        return Verdict("undecided", None, None)
    spread = stdev(differences)
    if spread == 0:
        status: ClaimStatus = "not tested" if found.mean == 0 else _side(found.low, found.high)
        return Verdict(status, None, None)
    error = spread / math.sqrt(found.n)
    p = 2 * float(stdtr(found.n - 1, -abs(found.mean) / error))
    status = _side(found.low, found.high)
    if status == "undecided" and published is not None and 0 < found.high < published:
        status = "smaller"
    return Verdict(status, p, least_visible(spread, found.n))


def least_visible(spread: float, n: int) -> float:
    """The least true difference that n seeds decide in 80 of 100 cases.

    Args:
        spread: standard deviation of the differences over seeds.
        n: seeds, 2 or more.
    """
    edge = stdtrit(n - 1, 0.975)
    return spread / math.sqrt(n) * float(nctdtrinc(n - 1, 1 - POWER, edge))


def least_margin(mean: float, spread: float, n: int) -> float:
    """The least margin inside which n seeds find arms alike in 80 of 100 cases.

    Each of the two one-sided tests does in 90, so that both do in 80 or more.

    Args:
        mean: true difference.
        spread: standard deviation of the differences over seeds.
        n: seeds, 2 or more.
    """
    edge = stdtrit(n - 1, 0.95)
    return abs(mean) + spread / math.sqrt(n) * float(nctdtrinc(n - 1, (1 - POWER) / 2, edge))


def margin(mean: float, spread: float, n: int) -> float:
    """The least margin inside which n seeds of this mean and spread find two arms alike, at 90 %.

    Args:
        mean: of the differences.
        spread: their standard deviation over seeds.
        n: seeds, 2 or more.
    """
    return abs(mean) + float(stdtrit(n - 1, 0.95)) * spread / math.sqrt(n)


def _side(low: float, high: float) -> ClaimStatus:
    return "held" if low > 0 else "failed" if high < 0 else "undecided"


def judge_likeness(differences: Sequence[float], within: float) -> Verdict:
    """Whether two arms are alike: two one-sided tests at 5 %, which is the 90 % interval.

    Args:
        differences: per seed.
        within: how far alike arms may differ.

    Returns:
        `held`: the 90 % interval is inside +-within. `failed`: the 95 % interval is outside of
        it. `not tested`: no seed differs at all. `undecided` otherwise, and always with fewer
        than two seeds.
    """
    found = mean_interval(differences)
    if found is None or found.low is None or found.high is None:
        return Verdict("undecided", None, None)
    spread = stdev(differences)
    if spread == 0 and found.mean == 0:
        return Verdict("not tested", None, None)
    kept = margin(found.mean, spread, found.n)
    status: ClaimStatus = "undecided"
    if kept <= within:
        status = "held"
    elif found.low > within or found.high < -within:
        status = "failed"
    if spread == 0:
        return Verdict(status, None, None)
    beyond = (abs(found.mean) - within) / (spread / math.sqrt(found.n))
    failed = status == "failed"
    p = 2 * float(stdtr(found.n - 1, -beyond)) if failed else float(stdtr(found.n - 1, beyond))
    return Verdict(status, p, kept)


def at_a_bound(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether the means of both arms are within .02 of 0, or both within .02 of 1."""
    means = fmean(a), fmean(b)
    return max(means) <= BOUND or min(means) >= 1 - BOUND


def adjust(p_values: Sequence[float]) -> list[float]:
    """P values after Benjamini and Hochberg: those up to q hold a share q of false discoveries.

    Source: Benjamini and Hochberg 1995.

    Args:
        p_values: of all tests that were made, in any order.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place], reverse=True)
    adjusted, least = [0.0] * len(p_values), 1.0
    for rank, place in zip(range(len(order), 0, -1), order, strict=True):
        least = min(least, p_values[place] * len(p_values) / rank)
        adjusted[place] = least
    return adjusted
