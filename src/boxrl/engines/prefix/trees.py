"""Prompts of one image: which of them share it in a packed row, and how much of their text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from boxrl.engines.prefix.kinds import keeps_last, looks_back, sight
from boxrl.engines.prefix.rows import Rows

BEHIND = "their text stands before the image"
LOOKS_BACK = "the model has layers that only look back"
BOTH_WAYS = "the tokens of a prompt see those behind them"
"""Why prompts of one image do not share it."""


class Tree(NamedTuple):
    """Groups whose prompts begin alike, with one and the same image.

    Attributes:
        groups: row indices of each.
        shared: tokens that all of their prompts begin with; None for a single group.
    """

    groups: list[Sequence[int]]
    shared: int | None = None


def find_trees(model: Any, rows: Rows, groups: Sequence[Sequence[int]]) -> list[Tree]:
    """Groups behind each other that show one image, together; the others by themselves.

    Args:
        model: unwrapped.
        rows: the batch.
        groups: row indices per prompt, together every row once, in order.
    """
    runs: list[list[Sequence[int]]] = []
    for group in groups:
        if runs and same_image(rows.images[runs[-1][0][0]], rows.images[group[0]]):
            runs[-1].append(group)
        else:
            runs.append([group])
    trees = []
    for run in runs:
        shared = find_shared(model, rows, [group[0] for group in run]) if len(run) > 1 else None
        if isinstance(shared, int):
            trees.append(Tree(run, shared))
        else:
            trees += [Tree([group]) for group in run]
    return trees


def why_apart(model: Any, rows: Rows, groups: Sequence[Sequence[int]]) -> str | None:
    """Why the first two prompts of one image do not share it, in words; "" where they do.

    Arguments as `find_trees`.

    Returns:
        None where no two prompts behind each other have one image.
    """
    for one, other in pairwise(groups):
        if same_image(rows.images[one[0]], rows.images[other[0]]):
            shared = find_shared(model, rows, [one[0], other[0]])
            return shared if isinstance(shared, str) else ""
    return None


def same_image(one: dict[str, Tensor] | None, other: dict[str, Tensor] | None) -> bool:
    """Whether two rows show the same image.

    Args:
        one: the model's inputs that hold a row's image, by name, "images ..." or "parts ..."; None
            for none of its own.
        other: as `one`.
    """
    if one is None or other is None:
        return False
    if one is other:
        return True
    if {name: x.shape for name, x in one.items()} != {name: x.shape for name, x in other.items()}:
        return False  # which takes no wait for a GPU
    return all(not x.is_meta and torch.equal(x, other[name]) for name, x in one.items())


def find_shared(model: Any, rows: Rows, firsts: Sequence[int]) -> int | str:
    """Tokens that prompts of one image begin with, all of the image among them, or why not.

    Arguments as `find_beginning`.
    """
    if looks_back(model):
        return LOOKS_BACK
    return find_beginning(model, rows, firsts)


def find_beginning(model: Any, rows: Rows, firsts: Sequence[int]) -> int | str:
    """As `find_shared`, where all that follows on a beginning is one part, answers included.

    At least one token of every prompt is not among them: the last, which answers begin with.

    Args:
        model: unwrapped.
        rows: the batch.
        firsts: a row of each prompt.
    """
    config, first = model.config, firsts[0]
    index = torch.tensor(firsts, device=rows.prompt_ids.device)
    ids, mask = (x.index_select(0, index).tolist() for x in (rows.prompt_ids, rows.prompt_mask))
    prompts = [
        [token for token, real in zip(*pair, strict=True) if real]
        for pair in zip(ids, mask, strict=True)
    ]
    shared = 0
    for tokens in zip(*(prompt[:-1] for prompt in prompts), strict=False):
        if len(set(tokens)) > 1:
            break
        shared += 1
    if not shared or any(config.image_token_id in prompt[shared:] for prompt in prompts):
        return BEHIND
    length = len(prompts[0])
    types = None if rows.types is None else rows.types[first, -length:]
    seen = sight(model, length, 0, types)
    if keeps_last(seen, length) or any(bool(x[:shared, shared:].any()) for x in seen.values()):
        return BOTH_WAYS
    return shared
