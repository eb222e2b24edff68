"""One-to-one matching of predicted with target boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from boxrl.boxes import Matrix
from boxrl.types import fold_label


class Pair(NamedTuple):
    """Indices of a matched prediction and target."""

    pred: int
    target: int


def same_label(preds: Sequence[str], targets: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Bool "n m": whether the folded labels are equal."""
    keys: dict[str, int] = {}

    def ids(labels: Sequence[str]) -> npt.NDArray[np.int_]:
        return np.array([keys.setdefault(fold_label(x), len(keys)) for x in labels], dtype=int)

    equal: npt.NDArray[np.bool_] = ids(preds)[:, None] == ids(targets)
    return equal


def match_greedy(scores: Matrix, threshold: float) -> list[Pair]:
    """Repeatedly take the highest score among unmatched pairs, while it is >= `threshold`.

    Args:
        scores: "n m", usually IoU; equal scores go to the lowest prediction, then target index.
        threshold: lowest score that may match.

    Returns:
        Disjoint pairs in descending order of score.
    """
    rows, columns = np.nonzero(scores >= threshold)
    if not rows.size:
        return []
    order = np.argsort(-scores[rows, columns], kind="stable")
    used_rows: set[int] = set()
    used_columns: set[int] = set()
    pairs = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            pairs.append(Pair(row, column))
    return pairs


def count_matches(allowed: npt.NDArray[np.bool_]) -> int:
    """Size of the largest one-to-one matching in a bipartite graph.

    Greedy matching can depend on the order of equal scores; the largest matching cannot.

    Args:
        allowed: Bool "n m"; which prediction may be paired with which target.

    Returns:
        The number of pairs, at most min(n, m). Law: permuting rows or columns changes nothing.
        (Augmenting paths: Kuhn 1955.)
    """
    candidates = [np.flatnonzero(column).tolist() for column in allowed.T]
    owner: dict[int, int] = {}  # pred -> target
    held: dict[int, int] = {}  # target -> pred

    def augment(start: int) -> bool:
        parent: dict[int, int] = {}  # pred -> the target that reached it
        queue = [start]
        for target in queue:
            for pred in candidates[target]:
                if pred in parent:
                    continue
                parent[pred] = target
                if pred in owner:
                    queue.append(owner[pred])
                    continue
                while True:  # walk back along the path, handing each prediction over
                    holder = parent[pred]
                    previous = held.get(holder)
                    owner[pred], held[holder] = holder, pred
                    if previous is None:
                        return True
                    pred = previous
        return False

    return sum(augment(target) for target in range(len(candidates)))
