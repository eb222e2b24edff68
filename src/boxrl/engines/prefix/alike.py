"""Completions of one prompt that begin alike: what they have in common is run once.

Answers in boxes begin with the same brackets, often with the same first numbers, and some are the
same to their end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise, takewhile
from operator import eq
from typing import NamedTuple

WORTH = 16
"""Tokens that a common beginning has to save: attention reads the prompt once more for it."""


class Part(NamedTuple):
    """Tokens of completions that are alike up to the end of them.

    Attributes:
        rows: of the batch, whose completions these are.
        start, end: which of their tokens.
        onward: how those go on that do.
    """

    rows: list[int]
    start: int
    end: int
    onward: list[Part]


def keep_apart(completions: Mapping[int, Sequence[int]]) -> list[Part]:
    """Every completion as a part of its own; see `split_alike`."""
    return [Part([row], 0, len(tokens), []) for row, tokens in completions.items()]


def split_alike(completions: Mapping[int, Sequence[int]], worth: float = WORTH) -> list[Part]:
    """The parts that completions consist of: one part of tokens that several have in common.

    Args:
        completions: tokens of each, one or more, by row.
        worth: tokens that a part has to save which different completions begin with; those that
            are the same to their end are one in any case.
    """
    rows: dict[tuple[int, ...], list[int]] = {}
    for row, tokens in completions.items():
        rows.setdefault(tuple(tokens), []).append(row)
    # Those that begin alike stand together, the shortest first.
    distinct, same = zip(*sorted(rows.items()), strict=True) if rows else ((), ())
    alike = [_count_alike(*pair) for pair in pairwise(distinct)]
    parts: list[Part] = []
    todo = [(0, len(distinct), 0, parts)]
    while todo:  # no recursion: it would be as deep as there are rows
        first, last, start, found = todo.pop()
        if first == last:
            continue
        end = min(alike[first : last - 1], default=len(distinct[first]))
        if last - first == 1 or (last - first - 1) * (end - start) >= worth:
            found.append(Part(sorted(chain(*same[first:last])), start, end, []))
            start, found = end, found[-1].onward
            first += len(distinct[first]) == end
        cuts = [first, *(n for n in range(first + 1, last) if alike[n - 1] == end), last]
        todo += [(*pair, start, found) for pair in pairwise(cuts)][::-1]
    return parts


def _count_alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens that both begin with."""
    return sum(1 for _ in takewhile(bool, map(eq, one, other)))
