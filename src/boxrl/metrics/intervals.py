"""Bootstrap over images: how far a figure would move with other images of the same kind."""

from __future__ import annotations

from functools import lru_cache
from numbers import Integral
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from boxrl.errors import UsageError

Floats = npt.NDArray[np.float64]

RESAMPLES = 1000

FEWEST = 2
"""Images that say something about a figure, from which on it has an interval: drawn again and
again, a single one is always like itself, whatever others would have been."""


class Interval(NamedTuple):
    """Ends of a 95 % interval."""

    low: float
    high: float


@lru_cache(maxsize=1)
def resample(n_images: int, resamples: int, seed: int) -> Floats:
    """How often each image is drawn, with replacement, in every resample.

    Remembered, because each figure of a data set is drawn with the same images.

    Args:
        n_images: images of the data set.
        resamples: how many data sets of the same size to draw.
        seed: equal seeds draw equal data sets, which is what pairs two runs.

    Returns:
        Float "resamples n_images", read-only integers; every row sums to n_images.

    Raises:
        UsageError: `resamples` is no whole number from 1, or `seed` none from 0.
    """
    if not _is_whole(resamples, 1):
        raise UsageError(f"--resamples {resamples}: intervals need 1 or more, 1000 is usual")
    if not _is_whole(seed, 0):
        raise UsageError(f"--seed {seed!r:.40}; expected a whole number, 0 or more")
    rng = np.random.default_rng(seed)
    even = np.full(n_images, 1 / n_images)
    draws: Floats = rng.multinomial(n_images, even, size=resamples).astype(np.float64)
    draws.flags.writeable = False
    return draws


def _is_whole(value: object, lowest: int) -> bool:
    """Whether it is a whole number from `lowest`, of numpy or Python."""
    return isinstance(value, Integral) and int(value) >= lowest


def resample_ratio(draws: Floats, parts: Floats, wholes: Floats) -> Floats:
    """sum(parts) / sum(wholes) of every resample; NaN where the whole is 0.

    Of fewer than FEWEST images with a whole every resample is NaN.

    Args:
        draws: from `resample`, "resamples n_images".
        parts: numerator of every image, "n_images".
        wholes: denominator of every image, "n_images".

    Returns:
        Float "resamples".
    """
    total = draws @ wholes
    out: Floats = np.full(len(draws), np.nan)
    if np.count_nonzero(wholes) < FEWEST:
        return out
    return np.divide(draws @ parts, total, out=out, where=total > 0)


def interval(values: Floats) -> Interval | None:
    """2.5th and 97.5th percentile of the resamples' values "r"; None where all are NaN.

    Source: Efron 1979, "Bootstrap Methods", the percentile interval.
    """
    known = values[~np.isnan(values)]
    if not known.size:
        return None
    low, high = np.percentile(known, (2.5, 97.5)).tolist()
    return Interval(low, high)
