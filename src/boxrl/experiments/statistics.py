"""Means and differences over seeds, with Student's 95 % intervals, and what they say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Literal, NamedTuple

T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
"""97.5th percentile of Student's t at 1, 2, 3, ... degrees of freedom."""

T_975_BEYOND = 2.086
"""Used beyond the table; the true value is smaller, so intervals are never too narrow."""

ClaimStatus = Literal["held", "failed", "undecided"]


class Mean(NamedTuple):
    """A mean over n seeds; the ends are None for one seed, which tells no spread."""

    mean: float
    low: float | None
    high: float | None
    n: int


def mean_interval(values: Sequence[float]) -> Mean | None:
    """Mean and its 95 % interval, mean +- t(n - 1) * s / sqrt(n); None without values.

    Args:
        values: one per seed; for a paired difference, the differences.
    """
    n = len(values)
    if n < 2:
        return Mean(float(values[0]), None, None, 1) if n else None
    t = T_975[n - 2] if n - 2 < len(T_975) else T_975_BEYOND
    mean, reach = fmean(values), t * stdev(values) / math.sqrt(n)
    return Mean(mean, mean - reach, mean + reach, n)


def judge_claim(difference: Mean | None, within: float | None = None) -> ClaimStatus:
    """What a paired difference says about a claim.

    Args:
        difference: of the figure that is claimed to be higher minus the other.
        within: for a claim that two arms are alike, how far they may differ.

    Returns:
        `held`: the whole interval is above 0, or inside +-within. `failed`: it is below 0, or
        outside +-within. `undecided` otherwise, and always with fewer than two seeds.
    """
    if difference is None or difference.low is None or difference.high is None:
        return "undecided"
    low, high = difference.low, difference.high
    if within is not None:
        if -within <= low and high <= within:
            return "held"
        return "failed" if low > within or high < -within else "undecided"
    return "held" if low > 0 else "failed" if high < 0 else "undecided"
