from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxrl.metrics.pass_at_k import best_of_k, most_agreed

values_and_k = st.lists(st.floats(0, 1), min_size=1, max_size=7).flatmap(
    lambda values: st.tuples(st.just(values), st.integers(1, len(values)))
)


@given(values_and_k)
def test_best_of_k_is_the_mean_maximum_of_every_choice(case: tuple[list[float], int]) -> None:
    values, k = case
    maxima = [max(choice) for choice in combinations(values, k)]
    assert best_of_k(values, k) == pytest.approx(sum(maxima) / len(maxima))


@given(st.integers(1, 20), st.data())
def test_zeros_and_ones_give_pass_at_k(n: int, data: st.DataObject) -> None:
    right, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    values = [1.0] * right + [0.0] * (n - right)
    assert best_of_k(values, k) == pytest.approx(1 - comb(n - right, k) / comb(n, k))


@pytest.mark.parametrize("k", [0, 3])
def test_k_outside_the_draws_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match="between 1 and the number of values 2"):
        best_of_k([0.0, 1.0], k)


def test_the_majority_is_most_agreed_and_the_diagonal_does_not_count() -> None:
    answers = ["b", "a", "c", "a", "a", "b"]
    agreement = np.array([[float(x == y) for y in answers] for x in answers])
    assert most_agreed(agreement) == 1
    np.fill_diagonal(agreement, [100, 0, 0, 0, 0, 0])
    assert most_agreed(agreement) == 1
    assert agreement[0, 0] == 100
