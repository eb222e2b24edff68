"""Completions of one prompt that begin alike: what they have in common is run once.

Answers in boxes begin with the same brackets, often with the same first numbers, and some are the
same to their end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
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


def split_alike(
    completions: Mapping[int, Sequence[int]], worth: float = WORTH, start: int = 0, alike: int = 0
) -> list[Part]:
    """The parts that completions consist of: one part of tokens that several have in common.

    Args:
        completions: tokens of each, one or more, by row.
        worth: tokens that a part has to save which some of its completions end behind; those that
            are the same to their end are one in any case.
        start: tokens at the beginning that stand in other parts.
        alike: tokens at the beginning that are known to be the same in all of them.
    """
    by_next: dict[tuple[int, ...], dict[int, Sequence[int]]] = {}
    for row, tokens in completions.items():
        by_next.setdefault(tuple(tokens[alike : alike + 1]), {})[row] = tokens
    parts = []
    for same in by_next.values():
        columns = zip(*same.values(), strict=False)
        end = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
        longer = {row: tokens for row, tokens in same.items() if len(tokens) > end}
        if longer and (len(same) - 1) * (end - start) < worth:
            parts += split_alike(same, worth, start, end)
        elif end > start:
            parts.append(Part([*same], start, end, split_alike(longer, worth, end, end)))
    return parts
