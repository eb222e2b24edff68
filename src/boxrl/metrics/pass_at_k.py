"""Several answers to one question: the best of k, and the one that the others agree with."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np
import numpy.typing as npt


def best_of_k(values: Sequence[float], k: int) -> float:
    """Expected maximum of k of the n values, drawn without replacement.

    Args:
        values: one per answer, n >= k of them.
        k: answers that are drawn, at least 1.

    Returns:
        sum over the sorted values of C(i, k-1) / C(n, k) * value_i, i from 0. Law: k = 1 is the
        mean, k = n the maximum, and with values of 0 and 1 it is pass@k, unbiased:
        1 - C(n-c, k) / C(n, k) for c ones.

    Raises:
        ValueError: k is not in 1..n.

    Source of pass@k: Chen et al. 2021 (arXiv 2107.03374).

    >>> best_of_k([0.0, 1.0, 0.0, 0.0], 2)
    0.5
    """
    n = len(values)
    if not 1 <= k <= n:
        raise ValueError(f"k must be between 1 and the number of values {n}, got {k}")
    total = comb(n, k)
    return sum(comb(i, k - 1) / total * value for i, value in enumerate(sorted(values)))


def most_agreed(agreement: npt.NDArray[np.float64]) -> int:
    """The answer that the others agree with most: self-consistency without a vote.

    Boxes are never exactly equal, so answers cannot be counted; the one of the greatest mean
    agreement stands for the majority. Where answers are right or wrong it is the majority's.

    Args:
        agreement: "n n" in [0, 1], how well answer j does were answer i the truth; any diagonal.

    Returns:
        Its index; of equals the first.
    """
    others = agreement.astype(np.float64)
    np.fill_diagonal(others, 0.0)
    return int(others.sum(axis=0).argmax())
