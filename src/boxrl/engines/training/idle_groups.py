"""Groups whose completions earned alike teach nothing: they are scored without a backward pass.

Their advantages are 0, so nothing of the loss depends on their weights' gradients; all that is
logged of them, entropy and clipping, takes the forward pass alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from boxrl.engines.prefix.rows import Rows
from boxrl.engines.prefix.shared_prefix import log_probs, unwrap


def earned_alike(rewards: Tensor, size: int) -> Tensor:
    """Bool "b", rows of groups in which every completion earned the same.

    TRL subtracts the mean, which rounds: equal rewards then have advantages next to 0.

    Args:
        rewards: Float "b", NaN where nothing could be said of a completion.
        size: rows of a group, which stand together.
    """
    by_group = rewards.view(-1, size)
    highest = by_group.nan_to_num(nan=-torch.inf).amax(1)
    lowest = by_group.nan_to_num(nan=torch.inf).amin(1)
    return (lowest >= highest).repeat_interleave(size)


def rows_at_rest(advantages: Tensor) -> set[int]:
    """Rows from which nothing is learned.

    Args:
        advantages: Float "b", or "b c" by token.
    """
    return set((advantages == 0).view(len(advantages), -1).all(1).nonzero()[:, 0].tolist())


def log_probs_of_learning(
    model: Any, rows: Rows, groups: Sequence[Sequence[int]], idle: set[int], distributed: bool
) -> tuple[Tensor, Tensor | None]:
    """`log_probs`, whose gradients run through groups with something to learn alone.

    Law: log-probabilities and entropies are those of all rows, to float rounding; so are gradients
    of what depends on rows that are not idle.

    Args:
        model: wrapped or not, not sharded.
        rows: the batch.
        groups: row indices per prompt, together every row once, in order.
        idle: rows from which nothing is learned.
        distributed: whether processes wait for each other's gradients: one group then always
            runs backwards.

    Returns:
        "b c" both; no entropies where the head gives none.
    """
    live = [group for group in groups if not idle.issuperset(group)]
    if not live and distributed:
        live = [groups[0]]
    if len(live) == len(groups):
        return log_probs(model, rows, groups)
    rest = [group for group in groups if group not in live]
    parts = []
    if live:
        parts.append(_score(model, rows, live))
    with torch.no_grad():
        # Not through DDP, which has all processes run forwards together.
        parts.append(_score(getattr(model, "module", model), rows, rest))
    logps, entropies = zip(*(found for _, found in parts), strict=True)
    index = torch.cat([chosen for chosen, _ in parts]).argsort()
    whole = torch.cat(logps).index_select(0, index)
    if not live:
        whole = whole + _no_gradient(model)
    if any(entropy is None for entropy in entropies):
        return whole, None
    return whole, torch.cat(entropies).index_select(0, index)


def _score(
    model: Any, rows: Rows, groups: Sequence[Sequence[int]]
) -> tuple[Tensor, tuple[Tensor, Tensor | None]]:
    """Rows of some groups, Long "n", and their log-probabilities and entropies, "n c" each."""
    chosen = [row for group in groups for row in group]
    places = {row: place for place, row in enumerate(chosen)}
    index = torch.tensor(chosen, device=rows.prompt_ids.device)

    def taken(x: Tensor) -> Tensor:
        return x.index_select(0, index)

    part = Rows(
        taken(rows.prompt_ids),
        taken(rows.prompt_mask),
        taken(rows.completion_ids),
        taken(rows.completion_mask),
        None if rows.types is None else taken(rows.types),
        [rows.images[row] for row in chosen],
    )
    return index, log_probs(model, part, [[places[row] for row in group] for group in groups])


def _no_gradient(model: Any) -> Tensor:
    """0, with a gradient of 0 for every weight: without one an optimizer would let it rest."""
    weights = [p.flatten()[0].float() for p in unwrap(model).parameters() if p.requires_grad]
    return 0 * torch.stack(weights).sum()
