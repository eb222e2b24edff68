"""Which path GRPO takes: a prompt run once for its completions, or TRL's own, once for each.

What the model is says whether its prompts can be shared. The last guard is the first micro-batch,
which is scored and differentiated by TRL's path, too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from boxrl.engines.prefix.images import row_images, spread_images
from boxrl.engines.prefix.kinds import unshared
from boxrl.engines.prefix.shared_prefix import unwrap
from boxrl.engines.prefix.trees import find_trees
from boxrl.engines.training.batches import chunk_groups, find_groups, split_rows, take_rows
from boxrl.engines.training.projections import relative_difference
from boxrl.engines.training.shapes import mapped

ROWS, ROWS_BACKWARDS = 4, 2
"""Completions that are compared: few, for TRL's path needs memory for each."""
NUMBERS = 2**24
"""Of weights whose gradients are compared."""
ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 1e-2}
"""Mean difference of log-probabilities that other kernels alone may make, by precision."""
GRADIENT_ROUNDING = {torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 2e-2}
"""The same of gradients, relative to their norm."""
SLACK = 5.0
"""How many times TRL's own rounding it may be where that is more."""

Scores = Callable[[dict[str, Any], int], Tensor]
"""Log-probabilities "b c" of TRL's arguments and the tokens of a completion, c."""


def path_of_trl(model: Any, options: Mapping[str, Any]) -> str | None:
    """Why training has to take TRL's path; None where prompts can be shared exactly.

    Args:
        model: as it was loaded, unwrapped.
        options: of TRL's config by name; without a `router_aux_loss_coef` the model's own counts.
    """
    if options.get("neftune_noise_alpha"):
        return (
            "train.trl.neftune_noise_alpha draws noise by the length of a row, which is that of a "
            "whole micro-batch where rows are packed"
        )
    text, balance = model.config.get_text_config(), options.get("router_aux_loss_coef")
    own = getattr(text, "router_aux_loss_coef", 0.0) if balance is None else balance
    if hasattr(text, "output_router_logits") and own:
        return "experts are balanced over all rows; train.trl.router_aux_loss_coef=0 ends that"
    return unshared(model)


def path_of_sft(model: Any, options: Mapping[str, Any]) -> str | None:
    """As `path_of_trl`, of SFT, where options cut samples or ask for all logits, too.

    Args:
        model: see `path_of_trl`.
        options: see `path_of_trl`.
    """
    if options.get("max_length") is not None:
        return "train.trl.max_length cuts samples, images among them"
    if options.get("label_smoothing_factor"):
        return "train.trl.label_smoothing_factor asks for the logits of all tokens"
    return path_of_trl(model, options)


def compared_rows(
    model: Any, inputs: dict[str, Any], n: int, count: int
) -> tuple[dict[str, Any], list[range]]:
    """A few completions of a batch, of two prompts of one image where it has such.

    Args:
        model: unwrapped.
        inputs: as of `split_rows`.
        n: tokens of a completion.
        count: of the completions, at most.

    Returns:
        TRL's arguments for them, an image for every row, and the rows of each prompt.
    """
    rows = split_rows(inputs, n)
    (groups,) = chunk_groups(find_groups(rows), len(rows.prompt_ids))
    tree = max(find_trees(model, rows, groups), key=lambda tree: len(tree.groups))
    prompts = tree.groups[:2]
    few = [group[: count // len(prompts)] for group in prompts]
    ends = [0, *accumulate(map(len, few))]
    batch = take_rows(inputs, [row for group in few for row in group])
    return batch, [range(*pair) for pair in pairwise(ends)]


def compare_first(
    model: Any,
    inputs: dict[str, Any],
    n: int,
    ours: Callable[..., Tensor],
    trl: Callable[..., Tensor],
    plainly: Callable[[Any], AbstractContextManager[None]],
    dtype: torch.dtype,
    *,
    backwards: bool,
) -> tuple[Tensor, Tensor]:
    """How far apart the two paths are on a few rows of a batch.

    Args:
        model: wrapped or not.
        inputs: TRL's arguments, `input_ids` and `attention_mask` "b p+n" among them.
        n: tokens of a completion, padding included.
        ours: `Scores` of a model and the rows of each prompt, which is run once.
        trl: `Scores` of a model, as TRL has them.
        plainly: a block in which a model is TRL's, forwards and, where layers are computed again,
            backwards.
        dtype: that the model computes in.
        backwards: whether gradients are compared, too; the process then holds whole weights.

    Returns:
        Float "1 2" or "2 2", of `compare_paths` and `compare_gradients`, and how many tokens were
        compared.
    """
    batch, groups = compared_rows(unwrap(model), inputs, n, ROWS)
    with torch.no_grad(), without_dropout(model):
        scores = ours(model, groups, batch, n)
        with plainly(model):
            found = [compare_paths(scores, batch, partial(trl, model), dtype)]
    if backwards:
        batch, groups = compared_rows(unwrap(model), inputs, n, ROWS_BACKWARDS)
        single = getattr(model, "module", model)  # DDP would wait for all gradients
        weights = sample_weights(single)
        with without_dropout(model):
            gradients = differentiate(ours(single, groups, batch, n), weigh(batch, n), weights)
            with plainly(single):
                found.append(
                    compare_gradients(
                        single, gradients, batch, n, partial(trl, single), weights, dtype
                    )
                )
    return torch.stack(found), batch["attention_mask"][:, -n:].sum()


def describe_difference(found: Tensor) -> str:
    """What differs by more than rounding, in words; nothing where nothing does.

    Args:
        found: Float "processes k 2", of `compare_first`.
    """
    words = (
        "log-probabilities of the first micro-batch differ from TRL's path by {:.2g} on average, "
        "where rounding makes {:.2g}",
        "gradients of the first micro-batch differ from TRL's path by {:.2g} of their norm, where "
        "rounding makes {:.2g}",
    )
    for said, (differences, allowed) in zip(words, found.permute(1, 2, 0), strict=False):
        if (differences > allowed).any():
            return said.format(float(differences.max()), float(allowed.max()))
    return ""


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
    return torch.stack([found, (SLACK * rounding).clamp(min=ROUNDING[dtype])])


def compare_gradients(
    model: nn.Module,
    ours: dict[str, Tensor],
    batch: dict[str, Any],
    n: int,
    trl: Scores,
    weights: dict[str, Tensor],
    dtype: torch.dtype,
) -> Tensor:
    """How far a shared prompt's gradients are from TRL's, against TRL's own rounding.

    TRL differentiates completions together, padded, every layer's output rounded anew, and one by
    one, without padding: what differs between these two is rounding.

    Args:
        model: that is differentiated.
        ours: "*" by name, of `differentiate`.
        batch: as of `compare_paths`.
        n: tokens of a completion, padding included.
        trl: scores TRL's arguments.
        weights: "*" whose gradients are compared, by name.
        dtype: that the model computes in.

    Returns:
        Float "2": norm of the difference over the gradients', NaN without any, and the largest
        that is rounding.
    """
    factors = weigh(batch, n)
    with rounding_anew(model, dtype):
        scores = trl(batch, n)
    padded = differentiate(scores, factors, weights)
    alone = {name: torch.zeros_like(x) for name, x in padded.items()}
    for row, length in enumerate(batch["attention_mask"][:, -n:].sum(1).tolist()):
        if length:
            scores = trl(pick_row(batch, row), length)
            own = differentiate(scores, factors[row : row + 1, :length], weights)
            alone = {name: x + own[name] for name, x in alone.items()}
    found, rounding = (relative_difference(x, alone) for x in (ours, padded))
    allowed = max(SLACK * rounding, GRADIENT_ROUNDING[dtype])
    return torch.tensor([found, allowed], device=factors.device)


def differentiate(scores: Tensor, factors: Tensor, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients "*" by name, in float32, of a sum of scores.

    Args:
        scores: Float "b c".
        factors: Float "b c", of each in the sum.
        weights: "*" by name.
    """
    total = (scores * factors).sum()
    found = torch.autograd.grad(total, list(weights.values()), materialize_grads=True)
    return {name: x.float() for name, x in zip(weights, found, strict=True)}


def weigh(batch: dict[str, Any], n: int) -> Tensor:
    """Float "b n", 0 on padding: every token counts differently, so none makes up for another.

    Args:
        batch: as of `compare_paths`.
        n: tokens of a completion, padding included.
    """
    real = batch["attention_mask"][:, -n:]
    return (
        torch.randn(real.shape, generator=torch.Generator().manual_seed(0)).to(real.device) * real
    )


@contextmanager
def rounding_anew(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Within the block every layer's output is one that `dtype` might as well have made of it.

    Args:
        model: of transformers.
        dtype: that it computes in.
    """
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]

    def shift(place: int, _: Any, __: Any, output: Any) -> Any:
        def shifted(x: Tensor) -> Tensor:
            if not x.is_floating_point():
                return x
            waves = torch.cos(place + place * torch.arange(x.shape[-1], device=x.device))
            return (x * (1 + torch.finfo(dtype).eps / 2 * waves)).to(x.dtype)

        return mapped(shifted, output)

    handles = [
        layer.register_forward_hook(partial(shift, place)) for place, layer in enumerate(layers, 1)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def sample_weights(model: nn.Module) -> dict[str, Tensor]:
    """Trained weights "*" by name, drawn by chance, the same every time, of `NUMBERS` at most.

    Args:
        model: whose weights this process holds whole.
    """
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    chosen: dict[str, Tensor] = {}
    free = NUMBERS
    for name, weight in random.Random(0).sample(trained, len(trained)):
        if weight.numel() <= free:
            chosen[name] = weight
            free -= weight.numel()
    return chosen


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Within the block nothing is dropped; layers are still computed again backwards.

    Args:
        model: in training or not.
    """
    training = model.training
    model.eval()
    for module in model.modules() if training and torch.is_grad_enabled() else ():
        module.training = getattr(module, "gradient_checkpointing", False)
    try:
        yield
    finally:
        model.train(training)


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
