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

START = 2
"""Points that count as the start: a fast rise is over before a tenth of the steps."""

CLEAR = 4
"""Standard errors that a rise must have to be one."""


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


def half_rise(steps: Sequence[float], values: Sequence[float]) -> float | None:
    """The step from which a rising curve is past half of its rise for good: it has taken off.

    The rise goes from the mean of the first two points to the highest running mean. The running
    mean that crosses its half has windows of equal reach on both sides, shorter ones at the start:
    a curve that jumps at step 3 has its half at step 3, and one delayed by two steps at step 5.

    Args:
        steps: n ascending steps.
        values: n finite values.

    Returns:
        One of `steps`; None under 10 points, or where the rise is less than four standard errors
        of the difference between start and running mean. Law: adding a constant to the values, or
        multiplying them by a positive one, changes nothing.
    """
    n = len(values)
    if n < MIN_POINTS:
        return None
    reach = smoothing_reach(n)
    smooth = running_mean(values, reach)
    start = float(np.mean(values[:START]))
    rise = float(smooth.max()) - start
    scatter = float(np.std(np.asarray(values) - smooth))
    standard_error = scatter * (1 / START + 1 / (2 * reach + 1)) ** 0.5
    if rise <= max(CLEAR * standard_error, 1e-9 * abs(start)):
        return None
    early = [np.mean(values[: 2 * place + 1]) for place in range(reach)]
    balanced = np.concatenate([early, smooth[reach:]])
    low = np.flatnonzero(balanced < start + rise / 2)
    first = int(low[-1]) + 1 if low.size else 0
    return float(steps[first]) if first < n else None
