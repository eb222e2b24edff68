"""Which path GRPO takes: a prompt run once for its completions, or TRL's own, once for each.

What the model is says whether its prompts can be shared. The last guard is the first micro-batch,
which is scored by TRL's path, too.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from boxrl.engines.prefix.images import row_images, spread_images
from boxrl.engines.prefix.kinds import unshared
from boxrl.engines.prefix.trees import find_trees
from boxrl.engines.training.batches import chunk_groups, find_groups, split_rows, take_rows

ROWS = 4
"""Completions that are compared: few, for TRL's path needs memory for each."""
ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 1e-2}
"""Mean difference of log-probabilities that other kernels alone may make, by precision."""
SLACK = 5.0
"""How many times TRL's own rounding it may be where that is more."""

Scores = Callable[[dict[str, Any], int], Tensor]
"""Log-probabilities "b c" of TRL's arguments and the tokens of a completion, c."""


def path_of_trl(model: Any, balance: float | None = None) -> str | None:
    """Why training has to take TRL's path; None where prompts can be shared exactly.

    Args:
        model: as it was loaded, unwrapped.
        balance: TRL's `router_aux_loss_coef`; None takes the model's own.
    """
    text = model.config.get_text_config()
    own = getattr(text, "router_aux_loss_coef", 0.0) if balance is None else balance
    if hasattr(text, "output_router_logits") and own:
        return "experts are balanced over all rows; train.trl.router_aux_loss_coef=0 ends that"
    return unshared(model)


def compared_rows(model: Any, inputs: dict[str, Any], n: int) -> tuple[dict[str, Any], list[range]]:
    """A few completions of a batch, of two prompts of one image where it has such.

    Args:
        model: unwrapped.
        inputs: as of `split_rows`.
        n: tokens of a completion.

    Returns:
        TRL's arguments for them, an image for every row, and the rows of each prompt.
    """
    rows = split_rows(inputs, n)
    (groups,) = chunk_groups(find_groups(rows), len(rows.prompt_ids))
    tree = max(find_trees(model, rows, groups), key=lambda tree: len(tree.groups))
    prompts = tree.groups[:2]
    few = [group[: ROWS // len(prompts)] for group in prompts]
    ends = [0, *accumulate(map(len, few))]
    batch = take_rows(inputs, [row for group in few for row in group])
    return batch, [range(*pair) for pair in pairwise(ends)]


def compare_paths(ours: Tensor, batch: dict[str, Any], trl: Scores, dtype: torch.dtype) -> Tensor:
    """How far a shared prompt's log-probabilities are from TRL's, against TRL's own rounding.

    TRL scores the completions together, padded, and the longest one alone, without padding: what
    differs between these two is rounding.

    Args:
        ours: Float "b c", of completions.
        batch: TRL's arguments for them: `input_ids` and `attention_mask` "b p+c", an image for
            every row, and the rest.
        trl: scores TRL's arguments.
        dtype: that the model computes in.

    Returns:
        Float "2": mean difference over all tokens, and the largest that is rounding.
    """
    n = ours.shape[1]
    real = batch["attention_mask"][:, -n:].bool()
    theirs = trl(batch, n)
    longest = int(real.sum(1).argmax())
    length = max(int(real[longest].sum()), 1)
    alone = trl(pick_row(batch, longest), length)[0]
    found = (ours - theirs)[real].abs().float().sum() / real.sum().clamp(min=1)
    rounding = (theirs[longest, :length] - alone).abs().float().mean()
    floor = ROUNDING.get(dtype, ROUNDING[torch.bfloat16])
    return torch.stack([found, (SLACK * rounding).clamp(min=floor)])


def pick_row(batch: dict[str, Any], row: int) -> dict[str, Any]:
    """One row of a batch without its padding.

    Args:
        batch: of `compare_paths`.
        row: its index.
    """
    mask = batch["attention_mask"]
    single = {
        name: x[row : row + 1, mask[row].bool()]
        for name, x in batch.items()
        if torch.is_tensor(x) and x.shape == mask.shape
    }
    return single | spread_images([row_images(batch, len(mask))[row]])
