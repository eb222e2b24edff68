"""One-to-one matching of predicted with target boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from boxrl import boxes
from boxrl.boxes import Matrix, Overlap
from boxrl.types import Detections, Target, fold_label

HIT = 0.5
"""IoU from which a box is on an object; share of a box from which it is in a region."""


class Pair(NamedTuple):
    """Indices of a matched prediction and target."""

    pred: int
    target: int


@lru_cache(maxsize=8)
def overlaps(preds: Detections, targets: Detections, lowest: float) -> list[Overlap]:
    """(prediction, target, IoU) from `lowest` on, remembered for what else scores this answer."""
    return boxes.overlaps(preds.boxes, targets.boxes, lowest)


@lru_cache(maxsize=8)
def label_overlaps(preds: Detections, targets: Detections, lowest: float) -> list[Overlap]:
    """Those of `overlaps` whose folded labels are equal."""
    names, target_names = ([fold_label(x) for x in side.labels] for side in (preds, targets))
    found = overlaps(preds, targets, lowest)
    return [pair for pair in found if names[pair[0]] == target_names[pair[1]]]


def same_label(preds: Sequence[str], targets: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Bool "n m": whether the folded labels are equal."""
    keys: dict[str, int] = {}

    def ids(labels: Sequence[str]) -> npt.NDArray[np.int_]:
        return np.array([keys.setdefault(fold_label(x), len(keys)) for x in labels], dtype=int)

    equal: npt.NDArray[np.bool_] = ids(preds)[:, None] == ids(targets)
    return equal


def take_free(ranked: Iterable[Overlap]) -> list[Overlap]:
    """Of (prediction, target, score), best first, those whose sides no better one has taken."""
    used_preds: set[int] = set()
    used_targets: set[int] = set()
    pairs = []
    for pair in ranked:
        if pair[0] not in used_preds and pair[1] not in used_targets:
            used_preds.add(pair[0])
            used_targets.add(pair[1])
            pairs.append(pair)
    return pairs


def excused(preds: Detections, targets: Detections, regions: Detections) -> frozenset[int]:
    """Predictions that are neither right nor wrong: in a region of their label, on no target.

    As in COCO, targets come first: a prediction that matches one counts wherever it lies.

    Args:
        preds: "n" predicted boxes.
        targets: what is right.
        regions: crowd regions and the like.

    Returns:
        Indices of those of which half or more lies inside one region, and that greedy matching at
        IoU .5 within the label gives no target.
    """
    if not len(regions) or not len(preds):
        return frozenset()
    low = np.maximum(preds.boxes[:, None, :2], regions.boxes[None, :, :2])
    high = np.minimum(preds.boxes[:, None, 2:], regions.boxes[None, :, 2:])
    inside = np.maximum(high - low, 0.0).prod(axis=2)
    share = inside / np.maximum(boxes.area(preds.boxes), boxes.SMALLEST)[:, None]
    within = ((share >= HIT) & same_label(preds.labels, regions.labels)).any(axis=1)
    ranked = sorted(label_overlaps(preds, targets, HIT), key=itemgetter(2), reverse=True)
    matched = {pred for pred, _, _ in take_free(ranked)}
    return frozenset(np.flatnonzero(within).tolist()) - matched


@lru_cache(maxsize=8)
def counted(preds: Detections, target: Target) -> Detections:
    """The predictions that are right or wrong, in their order; remembered for other rewards."""
    left_out = excused(preds, target.detections, target.ignored)
    if not left_out:
        return preds
    kept = [index for index in range(len(preds)) if index not in left_out]
    return Detections(preds.boxes[kept], tuple([preds.labels[index] for index in kept]))


def match_best(scores: Matrix) -> list[Pair]:
    """One-to-one pairs of the highest total score, min(n, m) of them.

    Args:
        scores: "n m", finite.

    Returns:
        Pairs in ascending order of prediction. Law: no other choice of pairs has a higher total.

    Source: the Hungarian method by shortest augmenting paths (Jonker and Volgenant 1987).
    """
    if len(scores) > scores.shape[1]:
        return sorted(Pair(pred, target) for target, pred in match_best(scores.T))
    n, m = scores.shape
    cost = np.zeros((n + 1, m + 1))  # index 0 stands for "none yet"
    cost[1:, 1:] = -scores
    price_row, price_column = np.zeros(n + 1), np.zeros(m + 1)
    row_of = np.zeros(m + 1, dtype=int)
    for row in range(1, n + 1):
        row_of[0], column = row, 0
        shortest, previous = np.full(m + 1, np.inf), np.zeros(m + 1, dtype=int)
        done = np.zeros(m + 1, dtype=bool)
        while row_of[column]:
            done[column] = True
            reduced = cost[row_of[column]] - price_row[row_of[column]] - price_column
            nearer = ~done & (reduced < shortest)
            shortest[nearer], previous[nearer] = reduced[nearer], column
            following = int(np.where(done, np.inf, shortest).argmin())
            step = shortest[following]
            price_row[row_of[done]] += step
            price_column[done] -= step
            shortest[~done] -= step
            column = following
        while column:  # hand the columns over along the path
            row_of[column] = row_of[previous[column]]
            column = int(previous[column])
    owners = row_of[1:]
    columns = np.flatnonzero(owners)
    return sorted(map(Pair, (owners[columns] - 1).tolist(), columns.tolist()))


def enlarges_matching(allowed: npt.NDArray[np.bool_]) -> list[bool]:
    """Whether each row, added after those above it, enlarges the largest one-to-one matching.

    Args:
        allowed: Bool "n m"; which row may be paired with which column.

    Returns:
        n flags; Law: the first k of them sum to the size of the largest matching of k rows.
    """
    return augment_matching([np.flatnonzero(row).tolist() for row in allowed])


def largest_matching(pairs: Sequence[tuple[int, int]]) -> int:
    """Size of the largest one-to-one matching, given the distinct pairs that may be matched."""
    preds, targets = {pred for pred, _ in pairs}, {target for _, target in pairs}
    if len(pairs) in (len(preds), len(targets)):  # one side has no choice
        return min(len(preds), len(targets))
    candidates: dict[int, list[int]] = {}
    for pred, target in pairs:
        candidates.setdefault(target, []).append(pred)
    return sum(augment_matching(list(candidates.values())))


def augment_matching(candidates: Sequence[Sequence[int]]) -> list[bool]:
    """`enlarges_matching` from the columns that each row may be paired with.

    (Augmenting paths: Kuhn 1955.)
    """
    owner: dict[int, int] = {}  # column -> row
    held: dict[int, int] = {}  # row -> column

    def augment(start: int) -> bool:
        parent: dict[int, int] = {}  # column -> the row that reached it
        queue = [start]
        for row in queue:
            for column in candidates[row]:
                if column in parent:
                    continue
                parent[column] = row
                if column in owner:
                    queue.append(owner[column])
                    continue
                while True:  # walk back along the path, handing each column over
                    holder = parent[column]
                    previous = held.get(holder)
                    owner[column], held[holder] = holder, column
                    if previous is None:
                        return True
                    column = previous
        return False

    return [augment(row) for row in range(len(candidates))]
