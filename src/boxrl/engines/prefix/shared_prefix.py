"""Shared-prefix forward: a prompt is run once per group, not once per completion.

In detection RL a prompt is about a thousand image tokens and is repeated for every completion of
its group. Here one packed row holds each prompt once, followed by its completions:

    [ prompt_1[:-1] | s_11 | ... | s_1G | prompt_2[:-1] | s_21 | ... ]
    s_gi = [last token of prompt_g] + completion_gi[:-1]

Every completion attends to its own prompt and to itself, so log-probabilities and gradients are
those of the padded batch. Repeating the last prompt token gives each position exactly one
label. Images are encoded once per group. No modelling file is patched: attention is a function
registered with transformers, and the layout reaches it as a keyword argument.

What tokens see, windows and image tokens that see each other both ways, the model itself says
(`kinds`). Where a whole prompt sees itself, its last token stays with it, and the copies of it that
the completions begin with are seen by nobody. Layers that only look back hand the state that the
prompt leaves behind to every completion (`recurrent`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from boxrl.engines.prefix.attention import register
from boxrl.engines.prefix.images import join_images
from boxrl.engines.prefix.kernels import on_gpu
from boxrl.engines.prefix.kinds import (
    ATTENTION,
    NAMES,
    TOWER,
    keeps_last,
    layer_kinds,
    sight,
    split_mask,
)
from boxrl.engines.prefix.layout import Group, Layout, Mask
from boxrl.engines.prefix.recurrent import share_states


def unwrap(model: Any) -> Any:
    """The model itself inside DDP, DeepSpeed and PEFT wrappers."""
    while hasattr(model, "module"):
        model = model.module
    # Not by peft_config, which peft hangs on the model inside too.
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def enable(model: Any, attention: str = "auto") -> None:
    """Let the language model use shared-prefix attention.

    On a GPU the windows of a vision tower are attended to in one call, unless SDPA is asked for.

    Args:
        model: wrapped or not.
        attention: a key of `kinds.NAMES`.
    """
    register()
    base = unwrap(model)
    base.set_attn_implementation({"text_config": NAMES[attention]})
    if _has_windows(base):
        tower = TOWER if on_gpu(base.device) and attention != "sdpa" else "sdpa"
        base.config.vision_config._attn_implementation = tower
    share_states(base)


def _has_windows(model: Any) -> bool:
    """Whether its vision tower attends by SDPA within parts of a row of patches."""
    vision = getattr(model.config, "vision_config", None)
    if vision is None or vision._attn_implementation not in ("sdpa", TOWER):
        return False
    return any(
        getattr(module, "config", None) is vision
        and "cu_seqlens" in inspect.signature(module.forward).parameters
        for module in model.modules()
    )


@contextmanager
def plain_windows(model: Any) -> Iterator[None]:
    """Within the block a vision tower attends by SDPA, window by window, as transformers has it.

    Args:
        model: wrapped or not.
    """
    vision = getattr(unwrap(model).config, "vision_config", None)
    if vision is None or vision._attn_implementation != TOWER:
        yield
        return
    vision._attn_implementation = "sdpa"
    try:
        yield
    finally:
        vision._attn_implementation = TOWER


def is_enabled(model: Any) -> bool:
    """Whether `enable` was called on this model."""
    return unwrap(model).config.get_text_config()._attn_implementation in NAMES.values()


class Rows(NamedTuple):
    """A batch as TRL holds it: prompts left-padded, completions right-padded.

    Attributes:
        prompt_ids, prompt_mask: "b p".
        completion_ids, completion_mask: "b c".
        types: "b p", what the processor says of each prompt token, such as 1 for images; or None.
        images: per row the model's inputs that hold its image, by name; None for a row whose image
            is its group's.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    completion_ids: Tensor
    completion_mask: Tensor
    types: Tensor | None
    images: list[dict[str, Tensor] | None]

    def between(self, start: int, end: int) -> Rows:
        """The rows from `start` up to `end`."""
        return Rows(*(x if x is None else x[start:end] for x in self))  # type: ignore[arg-type]


def pack(model: Any, rows: Rows, groups: Sequence[Sequence[int]]) -> tuple[dict[str, Any], Layout]:
    """The packed row's model inputs, labels as `shift_labels` included, and its layout.

    Args:
        model: wrapped or not; asked for its rope positions and for what its tokens see.
        rows: the batch.
        groups: row indices per prompt; the first row of each holds its image.
    """
    device = rows.prompt_ids.device
    both = torch.stack([rows.prompt_mask.sum(1), rows.completion_mask.sum(1)])
    prompts, lengths = both.tolist()  # one wait for a GPU
    ids, labels, positions, layout, total = [], [], [], [], 0
    masks: dict[str, list[Mask | None]] = {}
    for group in groups:
        real = slice(rows.prompt_ids.shape[1] - prompts[group[0]], None)
        prompt = rows.prompt_ids[group[0], real]
        types = None if rows.types is None else rows.types[group[0], real]
        image = rows.images[group[0]] or {}
        place = rope_positions(model, prompt, types, image.get("image_grid_thw"))
        longest = max(lengths[row] for row in group)
        prefix, seen = _masks(model, len(prompt), longest, types)
        for kind, mask in seen.items():
            masks.setdefault(kind, []).append(mask)
        ids.append(prompt[:prefix])
        labels.append(torch.full((prefix,), -100, device=device))
        positions.append(place[:, :prefix])
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
    inputs |= join_images([rows.images[group[0]] for group in groups])
    return inputs, Layout(layout, device, masks)


def _masks(
    model: Any, prompt: int, completion: int, types: Tensor | None
) -> tuple[int, dict[str, Mask | None]]:
    """Tokens of a group's prefix, and its masks by kind of attention layer.

    The last prompt token is repeated for every completion, unless others before it see it.
    """
    base = unwrap(model)
    seen = sight(base, prompt, max(completion - 1, 0), types)
    keeps = keeps_last(seen, prompt)
    masks: dict[str, Mask | None] = {}
    for kind in set(layer_kinds(base.config.get_text_config())) & ATTENTION:
        mask = seen.get(kind)
        if mask is None and keeps:
            mask = torch.ones_like(next(iter(seen.values()))).tril()
        masks[kind] = None if mask is None else split_mask(mask, prompt, keeps)
    return prompt if keeps else prompt - 1, masks


def rope_positions(model: Any, prompt: Tensor, types: Tensor | None, grid: Tensor | None) -> Tensor:
    """Rope positions of one unpadded prompt: "3 p" for mrope models, "1 p" for the others.

    Args:
        model: may be wrapped.
        prompt: Long "p".
        types: Long "p", 1 on image tokens; None where the model knows none.
        grid: Long "images 3", patches along time, height and width; None without images.
    """
    core = unwrap(model).model
    plain = torch.arange(len(prompt), device=prompt.device)[None]
    if not hasattr(core, "get_rope_index"):
        return plain
    if grid is None or types is None:
        return plain.expand(3, -1)
    positions, _ = core.get_rope_index(
        prompt[None], mm_token_type_ids=types[None], image_grid_thw=grid
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
    scored, real = layout.completions, rows.completion_mask.bool()

    def unpack(packed: Tensor) -> Tensor:
        return packed.new_zeros(real.shape).masked_scatter(real, packed[0].index_select(0, scored))

    entropy = None if output.entropy is None else unpack(output.entropy)
    return unpack(output.log_probs), entropy
