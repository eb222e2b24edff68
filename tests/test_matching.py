import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from boxrl import matching
from boxrl.matching import (
    enlarges_matching,
    match_best,
    same_label,
    take_free,
)

GRAPHS = arrays(bool, st.tuples(st.integers(0, 5), st.integers(0, 5)))
SCORES = arrays(
    np.float64,
    st.tuples(st.integers(0, 6), st.integers(0, 6)),
    elements=st.sampled_from([0.0, 0.3, 0.5, 0.5, 0.7, 1.0]),
)


def count_matches(allowed: np.ndarray) -> int:
    """Size of the largest matching, row by row of targets."""
    return sum(enlarges_matching(allowed.T))


def largest_matching(allowed: np.ndarray) -> int:
    """Brute force over every assignment of predictions to targets."""
    preds, targets = allowed.shape
    slots = [*range(targets), *[None] * preds]
    return max(
        sum(
            target is not None and bool(allowed[pred, target]) for pred, target in enumerate(chosen)
        )
        for chosen in itertools.permutations(slots, preds)
    )


@given(arrays(bool, st.tuples(st.integers(0, 3), st.integers(0, 3))))
def test_count_matches_equals_brute_force(allowed: np.ndarray) -> None:
    assert count_matches(allowed) == largest_matching(allowed)


@given(GRAPHS)
def test_the_largest_matching_of_pairs_is_that_of_rows(allowed: np.ndarray) -> None:
    pairs = [(int(row), int(column)) for row, column in np.argwhere(allowed)]
    assert matching.largest_matching(pairs) == count_matches(allowed)


@given(GRAPHS, st.randoms(use_true_random=False))
def test_count_matches_does_not_depend_on_order(allowed: np.ndarray, rng: object) -> None:
    rows, columns = list(range(allowed.shape[0])), list(range(allowed.shape[1]))
    rng.shuffle(rows)  # type: ignore[attr-defined]
    rng.shuffle(columns)  # type: ignore[attr-defined]
    assert count_matches(allowed[rows][:, columns]) == count_matches(allowed)


def test_count_matches_reassigns_where_greedy_would_lose_a_pair() -> None:
    assert count_matches(np.array([[True, True], [True, False]])) == 2


@given(SCORES)
def test_greedy_pairs_are_disjoint_descending_and_maximal(scores: np.ndarray) -> None:
    ranked = sorted(((r, c, v) for (r, c), v in np.ndenumerate(scores) if v >= 0.5),
                    key=lambda pair: -pair[2])  # fmt: skip
    pairs = take_free(ranked)
    rows, columns = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    values = [pair[2] for pair in pairs]
    assert len(rows) == len(columns) == len(pairs)
    assert values == sorted(values, reverse=True)
    left = [r for r in range(scores.shape[0]) if r not in rows]
    free = [c for c in range(scores.shape[1]) if c not in columns]
    assert all(scores[r, c] < 0.5 for r in left for c in free)


def test_labels_match_after_casefold_and_whitespace_folding() -> None:
    same = same_label(["Red  Circle", "STRASSE", "dog"], ["red circle", "straße", "cat"])
    np.testing.assert_array_equal(same, [[True, False, False], [False, True, False], [False] * 3])


@given(GRAPHS)
def test_flags_of_enlarging_rows_add_up_to_the_largest_matching(allowed: np.ndarray) -> None:
    flags = enlarges_matching(allowed)
    assert [sum(flags[:k]) for k in range(len(allowed) + 1)] == [
        count_matches(allowed[:k]) for k in range(len(allowed) + 1)
    ]


@given(SCORES.filter(lambda scores: max(scores.shape) <= 5))
def test_match_best_has_the_highest_total(scores: np.ndarray) -> None:
    pairs = match_best(scores)
    n, m = scores.shape
    small, large = (scores, m) if n <= m else (scores.T, n)
    totals = [
        sum(small[row, column] for row, column in enumerate(columns))
        for columns in itertools.permutations(range(large), min(n, m))
    ]
    assert len({pair.pred for pair in pairs}) == len({pair.target for pair in pairs}) == min(n, m)
    assert abs(sum(scores[pair] for pair in pairs) - max(totals)) < 1e-9
