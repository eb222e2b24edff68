"""Shared-prefix forward: a prompt is run once per group, not once per completion.

In detection RL a prompt is about a thousand image tokens and is repeated for every completion of
its group. Here one packed row holds each prompt once, followed by its completions:

    [ prompt_1[:-1] | s_11 | ... | s_1G | prompt_2[:-1] | s_21 | ... ]
    s_gi = [last token of prompt_g] + completion_gi[:-1]

Every completion attends to its own prompt and to itself, so log-probabilities and gradients are
those of the padded batch. Repeating the last prompt token gives each position exactly one
label. Images are encoded once per group. No modelling file is patched: attention is a function
registered with transformers, and the layout reaches it as a keyword argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import is_flash_attn_2_available

NAME = "boxrl_shared_prefix"


class Group(NamedTuple):
    """One prompt in the packed row: `prefix` tokens from `start`, then the suffixes."""

    start: int
    prefix: int
    suffixes: list[int]


class Layout:
    """Where everything lies in a packed row of `total` tokens; built once, read by every layer.

    A plain class on purpose: FSDP copies dataclasses among the keyword arguments per module.

    Attributes:
        groups: in order; together they fill the row.
        rows: per group Long "g c", token index of each suffix position; padding repeats a token.
        real: per group Long, which of the g*c positions are no padding.
        masks: per group Bool "1 1 c p+c": a suffix sees its prefix, then itself up to each token.
    """

    def __init__(self, groups: Sequence[Group], device: torch.device) -> None:
        self.groups = list(groups)
        self.device = device
        self.rows: list[Tensor] = []
        self.real: list[Tensor] = []
        self.masks: list[Tensor] = []
        for group in groups:
            lengths = torch.tensor(group.suffixes)
            n = max(group.suffixes)
            offsets = torch.arange(n)
            starts = group.start + group.prefix + lengths.cumsum(0) - lengths
            real = offsets < lengths[:, None]
            rows = torch.where(real, starts[:, None] + offsets, group.start)
            # Padding stands behind every real token of its row, so causality hides it.
            mask = torch.ones(n, group.prefix + n, dtype=torch.bool).tril(group.prefix)
            self.rows.append(rows.to(device))
            self.real.append(real.flatten().nonzero()[:, 0].to(device))
            self.masks.append(mask[None, None].to(device))

    @cached_property
    def varlen(self) -> VarLen:
        """The same layout as sequences of different lengths, for kernels that take those."""
        keys, n_queries, n_keys = [], [], []
        for group in self.groups:
            prefix = torch.arange(group.start, group.start + group.prefix)
            keys.append(prefix)
            n_queries.append(group.prefix)
            n_keys.append(group.prefix)
            start = group.start + group.prefix
            for length in group.suffixes:
                keys += [prefix, torch.arange(start, start + length)]
                n_queries.append(length)
                n_keys.append(group.prefix + length)
                start += length

        def ends(lengths: list[int]) -> Tensor:
            return torch.tensor([0, *lengths]).cumsum(0).to(self.device, torch.int32)

        index = torch.cat(keys).to(self.device)
        return VarLen(index, ends(n_queries), ends(n_keys), max(n_queries), max(n_keys))


class VarLen(NamedTuple):
    """Prefixes and suffixes as sequences; each query sees the keys up to it, from the right.

    Attributes:
        keys: Long, token index of every sequence's keys: a suffix has its prefix's and its own.
        query_ends, key_ends: Int "sequences+1", cumulative lengths from 0.
        max_queries, max_keys: of one sequence.
    """

    keys: Tensor
    query_ends: Tensor
    key_ends: Tensor
    max_queries: int
    max_keys: int


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    shared_prefix: Layout | None = None,
    is_causal: bool | None = None,
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
    flash = query.is_cuda and query.dtype != torch.float32 and is_flash_attn_2_available()
    attend = attend_varlen if flash else attend_by_group
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
    """SDPA per group: causal over its prefix, then all its suffixes as one batch.

    Query heads that share a key head stand behind each other as queries of that head, so that
    keys and values are not repeated for them.
    """
    sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]
    shared_by = query.shape[1] // key.shape[1]
    states = (query, key, value)
    outputs: list[Tensor] = []
    for group, rows, real, mask in zip(
        layout.groups, layout.rows, layout.real, layout.masks, strict=True
    ):
        prefix = [x[:, :, group.start : group.start + group.prefix] for x in states]
        causal = sdpa(module, *prefix, None, dropout, scaling, is_causal=True, **kwargs)
        outputs.append(causal[0])
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
            mask.repeat(1, 1, shared_by, 1),
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


AttentionInterface.register(NAME, attention)
# Ordinary padded batches still need their mask; without this they would silently get none.
AttentionMaskInterface.register(NAME, sdpa_mask)


def unwrap(model: Any) -> Any:
    """The model itself inside DDP, DeepSpeed and PEFT wrappers."""
    while hasattr(model, "module"):
        model = model.module
    # Not by peft_config, which peft hangs on the model inside too.
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def enable(model: Any) -> None:
    """Let the language model use shared-prefix attention; the vision tower stays on SDPA."""
    unwrap(model).set_attn_implementation({"text_config": NAME, "vision_config": "sdpa"})


def is_enabled(model: Any) -> bool:
    """Whether `enable` was called on this model."""
    return bool(unwrap(model).config.get_text_config()._attn_implementation == NAME)


class Rows(NamedTuple):
    """A batch as TRL holds it: prompts left-padded, completions right-padded.

    Attributes:
        prompt_ids, prompt_mask: "b p".
        completion_ids, completion_mask: "b c".
        mm_token_type_ids: "b p" or None.
        images: per row (pixel values, grid or None), None for a row whose image is its group's.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    completion_ids: Tensor
    completion_mask: Tensor
    mm_token_type_ids: Tensor | None
    images: list[tuple[Tensor, Tensor | None] | None]

    def between(self, start: int, end: int) -> Rows:
        """The rows from `start` up to `end`."""
        return Rows(*(x if x is None else x[start:end] for x in self))  # type: ignore[arg-type]


def pack(model: Any, rows: Rows, groups: Sequence[Sequence[int]]) -> tuple[dict[str, Any], Layout]:
    """The packed row's model inputs, labels as `shift_labels` included, and its layout.

    Args:
        model: wrapped or not; asked for its rope positions.
        rows: the batch.
        groups: row indices per prompt; the first row of each holds its image.
    """
    device = rows.prompt_ids.device
    lengths = rows.completion_mask.sum(1).tolist()
    ids, labels, positions, layout, total = [], [], [], [], 0
    for group in groups:
        keep = rows.prompt_mask[group[0]].bool()
        prompt = rows.prompt_ids[group[0]][keep]
        kinds = None if rows.mm_token_type_ids is None else rows.mm_token_type_ids[group[0]][keep]
        image = rows.images[group[0]]
        place = rope_positions(model, prompt, kinds, image[1] if image else None)
        prefix = len(prompt) - 1
        ids.append(prompt[:-1])
        labels.append(torch.full((prefix,), -100, device=device))
        positions.append(place[:, :-1])
        for row in group:
            completion = rows.completion_ids[row, : lengths[row]]
            if len(completion):
                ids.append(torch.cat([prompt[-1:], completion[:-1]]))
                labels.append(completion)
                steps = torch.arange(lengths[row], device=device)
                positions.append(place[:, -1:] + steps)
        layout.append(Group(total, prefix, [lengths[row] for row in group]))
        total += prefix + sum(lengths[row] for row in group)
    place = torch.cat(positions, 1)
    inputs: dict[str, Any] = {
        "input_ids": torch.cat(ids)[None],
        "shift_labels": torch.cat(labels)[None],
        "position_ids": place[:, None] if len(place) > 1 else place,
        # Any 4-D mask is passed through as it is, so no total x total mask is built.
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
    }
    images = [image for group in groups if (image := rows.images[group[0]]) is not None]
    if images:
        inputs["pixel_values"] = torch.cat([pixels for pixels, _ in images])
        grids = [grid for _, grid in images if grid is not None]
        if grids:
            inputs["image_grid_thw"] = torch.cat(grids)
    return inputs, Layout(layout, device)


def rope_positions(model: Any, prompt: Tensor, kinds: Tensor | None, grid: Tensor | None) -> Tensor:
    """Rope positions of one unpadded prompt: "3 p" for mrope models, "1 p" for the others."""
    core = unwrap(model).model
    plain = torch.arange(len(prompt), device=prompt.device)[None]
    if not hasattr(core, "get_rope_index"):
        return plain
    if grid is None or kinds is None:
        return plain.expand(3, -1)
    positions, _ = core.get_rope_index(
        prompt[None], mm_token_type_ids=kinds[None], image_grid_thw=grid
    )
    place: Tensor = positions[:, 0]
    return place


def log_probs(
    model: Any, rows: Rows, groups: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities and entropies of completion tokens, "b c" each, 0 on padding.

    Law: equal to the padded batch's, per token and in every gradient, to float rounding.

    Args:
        model: with TRL's fused head, wrapped or not.
        rows: the batch.
        groups: row indices per prompt, together every row once, in order.

    Returns:
        Both; no entropies where the head gives none, as that of a reference copy.
    """
    inputs, layout = pack(model, rows, groups)
    output = model(**inputs, shared_prefix=layout, fused_lm_head=True, use_cache=False)
    scored = inputs["shift_labels"] != -100
    real = rows.completion_mask.bool()

    def unpack(packed: Tensor) -> Tensor:
        return packed.new_zeros(real.shape).masked_scatter(real, packed[scored])

    entropy = None if output.entropy is None else unpack(output.entropy)
    return unpack(output.log_probs), entropy
