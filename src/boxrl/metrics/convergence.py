"""When a curve takes off and how far it has come: learning curves as numbers.

Source: boxrl, after what the VLM-R1-OVD blog reads off its plots by eye.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MIN_POINTS = 10
"""Fewer points make no curve."""

TAKEN_OFF = 0.1
"""Share of the whole rise from which a curve counts as risen."""


def running_mean(values: Sequence[float], reach: int) -> Floats:
    """Mean of the up to 2 * reach + 1 values around each, shape "n"; ends use what there is."""
    totals = np.concatenate([[0.0], np.cumsum(np.asarray(values, dtype=np.float64))])
    places = np.arange(len(values))
    low, high = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    means: Floats = (totals[high] - totals[low]) / (high - low)
    return means


def smoothing_reach(n: int) -> int:
    """Half the window that steadies a curve of n points: 4 % of it, at least 2 points."""
    return max(2, n // 25)


def take_off(steps: Sequence[float], values: Sequence[float]) -> float | None:
    """The step from which a rising curve has left its start for good.

    That is where the running mean last climbs past its start + 10 % of its rise, the start being
    the mean of the first tenth of the points and the rise going up to the highest running mean.

    Args:
        steps: n ascending steps.
        values: n finite values.

    Returns:
        One of `steps`; None under 10 points, or where the rise is less than five standard errors
        of the running mean. Law: adding a constant to the values, or multiplying
        them by a positive one, changes nothing.
    """
    n = len(values)
    if n < MIN_POINTS:
        return None
    smooth = running_mean(values, smoothing_reach(n))
    start = float(np.mean(values[: max(n // 10, 3)]))
    rise = float(smooth.max()) - start
    scatter = float(np.std(np.asarray(values) - smooth))
    standard_error = scatter / (2 * smoothing_reach(n) + 1) ** 0.5
    if rise <= max(5 * standard_error, 1e-9 * abs(start)):
        return None
    low = np.flatnonzero(smooth < start + TAKEN_OFF * rise)
    first = int(low[-1]) + 1 if low.size else 0
    return float(steps[first]) if first < n else None
