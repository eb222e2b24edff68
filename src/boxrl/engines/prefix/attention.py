"""Attention of a packed row: every span sees itself and what its block sees of the row.

The row is laid out as `shared_prefix` describes it. Attention functions are registered with
transformers, and the layout reaches them as a keyword argument: no modelling file is patched.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from boxrl.engines.prefix.kernels import (
    attend_flex,
    attend_varlen,
    attend_windows,
    takes_varlen,
)
from boxrl.engines.prefix.kinds import NAMES, TOWER, kind_of
from boxrl.engines.prefix.layout import Layout


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    shared_prefix: Layout | None = None,
    is_causal: bool | None = None,
    choice: str = "auto",
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention by a packed row's layout where one is given, else plain SDPA.

    Keys that are `kv_cache.ApartLayer`'s, or have fewer rows than the query (`kv_cache.Draws`), are
    those of draws whose prompt stands once.

    Args:
        module: the attention layer.
        query: "1 heads total d" with a layout.
        key: "1 kv_heads total d" with a layout.
        value: as `key`.
        attention_mask: used without a layout only.
        shared_prefix: the packed row's layout.
        is_causal: used without a layout only.
        choice: a key of `kinds.NAMES`; only `attend_by_block` knows masks and dropout.
        scaling: of the scores.
        dropout: of the attention weights.
        kwargs: passed on to SDPA.

    Returns:
        "1 total heads d" and None, as transformers expects.
    """
    options: dict[str, Any] = {"scaling": scaling, "dropout": dropout, **kwargs}
    if hasattr(key, "apart"):
        return attend_apart(query, key, value, scaling), None
    if key.shape[0] != query.shape[0]:
        return attend_draws(query, key, value, **options), None
    if shared_prefix is None:
        plain: tuple[Tensor, None] = ALL_ATTENTION_FUNCTIONS["sdpa"](
            module, query, key, value, attention_mask, is_causal=is_causal, **options
        )
        return plain
    in_one_call = kind_of(module) not in shared_prefix.masks and not dropout
    if in_one_call and choice == "flex":
        return attend_flex(query, key, value, shared_prefix, scaling), None
    if in_one_call and choice != "sdpa" and takes_varlen(query, value):
        return attend_varlen(query, key, value, shared_prefix, scaling), None
    return attend_by_block(module, query, key, value, shared_prefix, **options), None


def attend_by_block(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> Tensor:
    """SDPA per block of the row: its spans as one batch, over what all of them see and themselves.

    Args:
        module: the attention layer, as SDPA of transformers takes it.
        query: "1 heads tokens d", the packed row.
        key: "1 kv_heads tokens d".
        value: as `key`.
        layout: where the blocks stand.
        scaling: of the scores.
        dropout: of the attention weights.
        kwargs: passed on to SDPA.

    Returns:
        "1 tokens heads d".
    """
    sdpa, kind = ALL_ATTENTION_FUNCTIONS["sdpa"], kind_of(module)
    masks = layout.masks.get(kind, [None] * len(layout.blocks))
    outputs: list[Tensor] = []
    for number, (block, mask) in enumerate(zip(layout.blocks, masks, strict=True)):
        if block.context or len(block.spans) > 1:
            own_mask = layout.mask(number, kind)
            outputs.append(
                _attend_siblings(query, key, value, layout, number, own_mask, scaling, dropout)
            )
            continue
        (span,) = block.spans
        own = [x[:, :, span.start : span.end] for x in (query, key, value)]
        seen = None if mask is None else mask[None, None]
        outputs.append(
            sdpa(module, *own, seen, dropout, scaling, is_causal=mask is None, **kwargs)[0]
        )
    return torch.cat(outputs, 1)


def _attend_siblings(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    number: int,
    mask: Tensor,
    scaling: float | None,
    dropout: float,
) -> Tensor:
    """SDPA over the spans of a block as one batch: "1 tokens heads d" of the block.

    Query heads that share a key head stand behind each other as queries of that head, so that
    keys and values are not repeated for them.
    """
    block, shared_by = layout.blocks[number], query.shape[1] // key.shape[1]
    own, keys, values = (_spans_of(x, layout, number) for x in (query, key, value))
    if block.adjoins:
        keys, values = (x[:, :, block.context[0].start : block.spans[0].end] for x in (key, value))
    else:
        keys, values = (
            torch.cat(
                [x[:, :, s.start : s.end].expand(len(own), -1, -1, -1) for s in block.context]
                + [part],
                2,
            )
            for x, part in ((key, keys), (value, values))
        )
    output = F.scaled_dot_product_attention(
        own.unflatten(1, (-1, shared_by)).flatten(2, 3),
        keys,
        values,
        mask.repeat(shared_by, 1)[None, None],
        dropout,
        scale=scaling,
    )
    by_row = output.unflatten(2, (shared_by, -1)).flatten(1, 2).transpose(1, 2)
    if len(by_row) == 1:  # without padding
        return by_row
    return by_row.flatten(0, 1).index_select(0, layout.real[number])[None]


def _spans_of(states: Tensor, layout: Layout, number: int) -> Tensor:
    """The spans of a block as a batch, "g heads c d", of states "1 heads tokens d"."""
    spans, rows = layout.blocks[number].spans, layout.rows[number]
    if len(spans) == 1:
        return states[:, :, spans[0].start : spans[0].end]
    chosen = states[0].index_select(1, rows.flatten())
    return chosen.unflatten(1, rows.shape).transpose(0, 1)


def attend_draws(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None = None, **_: Any
) -> Tensor:
    """One token of every draw over the keys of its prompt and its own.

    All draws and query heads that share a key head stand behind each other as its queries.

    Args:
        query: "n*g heads 1 d".
        key: "n kv_heads p+g*m d", with its `kv_cache.Draws` as the attribute `draws`.
        value: as `key`.
        scaling: of the scores.

    Returns:
        "n*g 1 heads d".
    """
    draws = key.draws  # type: ignore[attr-defined]
    n, kv_heads, length, width = key.shape
    shared_by = query.shape[1] // kv_heads
    by_head = query.view(n, draws.group, kv_heads, shared_by, width).permute(0, 2, 3, 1, 4)
    mask = draws.mask(length, shared_by, query.dtype)
    output = F.scaled_dot_product_attention(
        by_head.flatten(2, 3), key, value, mask, scale=scaling
    ).unflatten(2, (shared_by, -1))
    return output.permute(0, 3, 1, 2, 4).reshape(len(query), 1, -1, width)


def attend_apart(query: Tensor, key: Tensor, value: Tensor, scaling: float | None = None) -> Tensor:
    """One token of every draw over the keys of its prompt and over its own, in one softmax.

    Args:
        query: "n*g heads 1 d".
        key: "n*kv_heads*g m d", with its `kv_cache.ApartLayer` as the attribute `apart`.
        value: as `key`.
        scaling: of the scores.

    Returns:
        "n*g 1 heads d".
    """
    layer = key.apart  # type: ignore[attr-defined]
    group, width, p = layer.group, query.shape[-1], layer.prompt_keys.shape[1]
    scale = width**-0.5 if scaling is None else scaling
    by_head = query.view(-1, group, layer.heads, query.shape[1] // layer.heads, width)
    own = by_head.transpose(1, 2).reshape(len(key), -1, width)
    all_draws = own.view(len(layer.prompt_keys), -1, width)
    nothing = own.new_zeros(1, 1, 1)
    unseen = nothing if layer.unseen is None else layer.unseen
    of_prompt = torch.baddbmm(unseen, all_draws, layer.prompt_keys.mT, alpha=scale)
    of_own = torch.baddbmm(nothing, own, key.mT, alpha=scale)
    scores = torch.cat([of_prompt, of_own.reshape(*all_draws.shape[:2], -1)], -1)
    weights = scores.softmax(-1)
    output = torch.baddbmm(
        torch.bmm(weights[..., :p], layer.prompt_values).view_as(own),
        weights.view(*own.shape[:2], -1)[..., p:],
        value,
    )
    by_draw = output.view(-1, layer.heads, group, *own.shape[1:]).transpose(1, 2)
    return by_draw.reshape(len(query), 1, -1, width)


def register() -> None:
    """Make these functions known to transformers, by the names of NAMES and TOWER."""
    functions = {name: partial(attention, choice=choice) for choice, name in NAMES.items()}
    for name, function in {**functions, TOWER: attend_windows}.items():
        AttentionInterface.register(name, function)
        # Ordinary padded batches still need their mask; without this they would silently get none.
        AttentionMaskInterface.register(name, sdpa_mask)
