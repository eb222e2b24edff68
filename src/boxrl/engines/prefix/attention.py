"""Attention of a packed row: every completion sees its own prompt and itself.

The row is laid out as `shared_prefix` describes it. Attention functions are registered with
transformers, and the layout reaches them as a keyword argument: no modelling file is patched.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import is_flash_attn_2_available

from boxrl.engines.prefix.kinds import NAMES, kind_of
from boxrl.engines.prefix.layout import Layout


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    shared_prefix: Layout | None = None,
    is_causal: bool | None = None,
    flex: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention over prefixes and suffixes where a layout is given, else plain SDPA.

    Keys with fewer rows than the query are those of `kv_cache.Draws`: prompts that stand once.

    Args:
        module: the attention layer.
        query: "1 heads total d" with a layout.
        key: "1 kv_heads total d" with a layout.
        value: as `key`.
        attention_mask: used without a layout only.
        shared_prefix: the packed row's layout.
        is_causal: used without a layout only.
        flex: compile a kernel for the layout.
        kwargs: scaling, dropout; passed on.

    Returns:
        "1 total heads d" and None, as transformers expects.
    """
    if key.shape[0] != query.shape[0]:
        return attend_draws(query, key, value, **kwargs), None
    if shared_prefix is None:
        plain: tuple[Tensor, None] = ALL_ATTENTION_FUNCTIONS["sdpa"](
            module, query, key, value, attention_mask, is_causal=is_causal, **kwargs
        )
        return plain
    if kind_of(module) in shared_prefix.masks:
        return attend_by_group(module, query, key, value, shared_prefix, **kwargs), None
    flash = query.is_cuda and query.dtype != torch.float32 and is_flash_attn_2_available()
    attend = attend_flex if flex else attend_varlen if flash else attend_by_group
    return attend(module, query, key, value, shared_prefix, **kwargs), None


def attend_by_group(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> Tensor:
    """SDPA per group: over its prefix, then over all its suffixes as one batch.

    Query heads that share a key head stand behind each other as queries of that head, so that
    keys and values are not repeated for them.

    Args:
        module: the attention layer, as SDPA of transformers takes it.
        query: "1 heads tokens d", the packed groups.
        key: "1 kv_heads tokens d".
        value: as `key`.
        layout: where each group's prefix and suffixes stand.
        scaling: of the scores.
        dropout: of the attention weights.
        kwargs: passed on to SDPA.

    Returns:
        "1 tokens heads d".
    """
    sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]
    shared_by = query.shape[1] // key.shape[1]
    states = (query, key, value)
    outputs: list[Tensor] = []
    masks = layout.masks.get(kind_of(module)) or [None] * len(layout.groups)
    for number, (group, rows, real, mask) in enumerate(
        zip(layout.groups, layout.rows, layout.real, masks, strict=True)
    ):
        prefix = [x[:, :, group.start : group.start + group.prefix] for x in states]
        own_mask = mask and mask.prefix[None, None]
        seen = sdpa(module, *prefix, own_mask, dropout, scaling, is_causal=mask is None, **kwargs)
        outputs.append(seen[0])
        if not rows.numel():
            continue  # every completion of the group is masked
        own = [
            x[0].index_select(1, rows.flatten()).unflatten(1, rows.shape).transpose(0, 1)
            for x in states
        ]
        keys, values = (
            torch.cat([shared.expand(len(rows), -1, -1, -1), suffix], 2)
            for shared, suffix in zip(prefix[1:], own[1:], strict=True)
        )
        output = F.scaled_dot_product_attention(
            own[0].unflatten(1, (-1, shared_by)).flatten(2, 3),
            keys,
            values,
            layout.suffix_mask(number, mask).repeat(shared_by, 1)[None, None],
            dropout,
            scale=scaling,
        )
        by_row = output.unflatten(2, (shared_by, -1)).flatten(1, 2).transpose(1, 2)
        outputs.append(by_row.flatten(0, 1).index_select(0, real)[None])
    return torch.cat(outputs, 1)


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


def attend_varlen(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    kernel: Any = None,
    **kwargs: Any,
) -> Tensor:
    """One call of a variable-length kernel over all prefixes and suffixes of the row.

    Args:
        module: the attention layer.
        query: "1 heads total d".
        key: "1 kv_heads total d".
        value: as `key`.
        layout: of the row.
        kernel: an attention function of transformers that takes cumulative lengths and aligns
            causality to the right; flash-attention by default.
        kwargs: passed on.
    """
    kernel = kernel or ALL_ATTENTION_FUNCTIONS["flash_attention_2"]
    varlen = layout.varlen
    output: Tensor = kernel(
        module,
        query,
        key.index_select(2, varlen.keys),
        value.index_select(2, varlen.keys),
        None,
        is_causal=True,
        cu_seq_lens_q=varlen.query_ends,
        cu_seq_lens_k=varlen.key_ends,
        max_length_q=varlen.max_queries,
        max_length_k=varlen.max_keys,
        **kwargs,
    )[0]
    return output


def attend_flex(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scaling: float | None = None,
    **_: Any,
) -> Tensor:
    """Flex attention of torch over the whole row; on a CPU it has no backward.

    Args:
        module: the attention layer.
        query: "1 heads total d".
        key: "1 kv_heads total d".
        value: as `key`.
        layout: of the row.
        scaling: of the scores.
    """
    kernel = _compiled_flex() if query.is_cuda else flex_attention
    shared = query.shape[1] != key.shape[1]
    output: Tensor = kernel(
        query, key, value, block_mask=layout.block_mask, scale=scaling, enable_gqa=shared
    )
    return output.transpose(1, 2)


@cache
def _compiled_flex() -> Any:
    """One kernel for rows of every length."""
    return torch.compile(flex_attention, dynamic=True)


def register() -> None:
    """Make these functions known to transformers, by the names of NAMES."""
    for choice, name in NAMES.items():
        AttentionInterface.register(name, partial(attention, flex=choice == "flex"))
        # Ordinary padded batches still need their mask; without this they would silently get none.
        AttentionMaskInterface.register(name, sdpa_mask)
