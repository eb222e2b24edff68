"""Shared-prefix forward: a prompt is run once per group, not once per completion.

In detection RL a prompt is about a thousand image tokens and is repeated for every completion of
its group. Here one packed row holds each prompt once, followed by its completions:

    [ prompt_1[:-1] | s_11 | ... | s_1G | prompt_2[:-1] | s_21 | ... ]
    s_gi = [last token of prompt_g] + completion_gi[:-1]

Prompts of one image that begin alike are a tree: what they share stands once as well, and image
features with it:

    [ shared | rest_1 | ... | rest_K | s_11 | ... | s_1G | s_21 | ... | s_KG ]

So are completions of a prompt that begin alike, and equal ones are one (`alike`):

    [ prompt[:-1] | [last prompt token] + begin[:-1] | s_3 | [last of begin] + on_1[:-1] | ... ]

Every completion attends to its own prompt and to itself, so log-probabilities and gradients are
those of the padded batch. Repeating the last token of what is shared gives each position exactly
one label. Images are encoded once per group. No modelling file is patched: attention is a function
registered with transformers, and the layout reaches it as a keyword argument.

What tokens see, windows and image tokens that see each other both ways, the model itself says
(`kinds`). Where a whole prompt sees itself, its last token stays with it, and the copies of it that
the completions begin with are seen by nobody. Layers that only look back hand the state that the
prompt leaves behind to every completion (`recurrent`).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from boxrl.engines.prefix.alike import WORTH, Part, keep_apart, split_alike
from boxrl.engines.prefix.attention import register
from boxrl.engines.prefix.images import join_images
from boxrl.engines.prefix.kernels import no_varlen, on_gpu
from boxrl.engines.prefix.kinds import (
    ATTENTION,
    NAMES,
    TOWER,
    Seen,
    keeps_last,
    layer_kinds,
    looks_back,
    sight,
    split_mask,
)
from boxrl.engines.prefix.last_layer import leave_prompts_out
from boxrl.engines.prefix.layout import Layout, Siblings, Span
from boxrl.engines.prefix.recurrent import share_states
from boxrl.engines.prefix.rows import Rows
from boxrl.engines.prefix.trees import Tree, find_trees


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
    leave_prompts_out(base)


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
    changed = put_windows_back(model)
    try:
        yield
    finally:
        if changed:
            unwrap(model).config.vision_config._attn_implementation = TOWER


def put_windows_back(model: Any) -> bool:
    """Let a vision tower attend by SDPA from here on, window by window, as transformers has it.

    Args:
        model: wrapped or not.

    Returns:
        Whether it did otherwise.
    """
    vision = getattr(unwrap(model).config, "vision_config", None)
    if vision is None or vision._attn_implementation != TOWER:
        return False
    vision._attn_implementation = "sdpa"
    return True


def is_enabled(model: Any) -> bool:
    """Whether `enable` was called on this model."""
    return unwrap(model).config.get_text_config()._attn_implementation in NAMES.values()


class _Row:
    """A packed row as it grows: tokens, their labels and places, and the blocks they stand in."""

    def __init__(self) -> None:
        self.ids: list[Tensor] = []
        self.labels: list[Tensor] = []
        self.places: list[Tensor] = []
        self.blocks: list[Siblings] = []
        self.masks: dict[str, list[Tensor | None]] = {}
        self.total = 0

    def add(self, ids: Tensor, places: Tensor, labels: Tensor | None = None) -> Span:
        """Tokens behind the others; without labels nothing is learned from them."""
        self.ids.append(ids)
        self.places.append(places)
        self.labels.append(torch.full_like(ids, -100) if labels is None else labels)
        self.total += len(ids)
        return Span(self.total - len(ids), len(ids))

    def close(self, block: Siblings, masks: dict[str, Tensor | None]) -> None:
        """The block that the spans added since the last one make."""
        self.blocks.append(block)
        for kind, mask in masks.items():
            self.masks.setdefault(kind, []).append(mask)


class _Prompt(NamedTuple):
    """A prompt of a tree.

    Attributes:
        rows: of its completions.
        ids: Long "p".
        places: "axes p", rope positions.
        seen: by kind of attention layer, None for a plainly causal one.
        context: where it stands in the row but for its last token.
    """

    rows: Sequence[int]
    ids: Tensor
    places: Tensor
    seen: dict[str, Seen | None]
    context: list[Span]


def pack(
    model: Any, rows: Rows, groups: Sequence[Sequence[int]], *, alike: bool = False
) -> tuple[dict[str, Any], Layout]:
    """The packed row's model inputs, labels as `shift_labels` included, and its layout.

    Args:
        model: wrapped or not; asked for its rope positions and for what its tokens see.
        rows: the batch.
        groups: row indices per prompt; the first row of each holds its image.
        alike: whether what completions of a prompt begin with alike stands in the row once.
    """
    inputs, layout, _ = _pack(model, rows, groups, alike)
    return inputs, layout


class Prompts(NamedTuple):
    """Prompts without completions in a packed row, but for the last token of each.

    Attributes:
        inputs: the model's.
        layout: of the row.
        tokens: per prompt Long, which of the row's are its own.
        ends: per prompt, the largest rope position of its last token.
    """

    inputs: dict[str, Any]
    layout: Layout
    tokens: list[Tensor]
    ends: list[Tensor]


def pack_prompts(model: Any, rows: Rows) -> Prompts:
    """Prompts in a packed row, those of one image behind what they share.

    Args:
        model: see `pack`; a prompt's last token must be seen by nobody before it.
        rows: one of each prompt, without completions.
    """
    groups = [[row] for row in range(len(rows.prompt_ids))]
    inputs, layout, prompts = _pack(model, rows, groups, False)
    del inputs["shift_labels"]
    tokens = [torch.cat([span.tokens() for span in prompt.context]) for prompt in prompts]
    return Prompts(inputs, layout, tokens, [prompt.places[:, -1].max() for prompt in prompts])


def _pack(
    model: Any, rows: Rows, groups: Sequence[Sequence[int]], alike: bool
) -> tuple[dict[str, Any], Layout, list[_Prompt]]:
    device = rows.prompt_ids.device
    sums = [mask.sum(1, keepdim=True) for mask in (rows.prompt_mask, rows.completion_mask)]
    # One wait for a GPU.
    known = torch.cat([*sums, rows.completion_ids], 1).tolist()
    lengths = [length for length, *_ in known]
    completions = [ids[:length] for _, length, *ids in known]
    base = unwrap(model)
    row, trees, found = _Row(), find_trees(base, rows, groups), []
    for tree in trees:
        prompts = _add_prompts(row, model, rows, tree, lengths, list(map(len, completions)))
        for prompt in prompts:
            own = {number: completions[number] for number in prompt.rows if completions[number]}
            parts = split_alike(own, _worth(base, prompt)) if alike else keep_apart(own)
            _add_completions(row, rows, prompt, parts)
        found += prompts
    place = torch.cat(row.places, 1)
    inputs: dict[str, Any] = {
        "input_ids": torch.cat(row.ids)[None],
        "shift_labels": torch.cat(row.labels)[None],
        "position_ids": place[:, None] if len(place) > 1 else place,
        # Any 4-D mask is passed through as it is, so no total x total mask is built.
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
    }
    inputs |= join_images([rows.images[tree.groups[0][0]] for tree in trees])
    return inputs, Layout(row.blocks, device, row.masks), found


def _add_prompts(
    row: _Row, model: Any, rows: Rows, tree: Tree, lengths: list[int], completions: list[int]
) -> list[_Prompt]:
    """Put what the prompts of a tree share into the row, and behind it how each of them goes on."""
    found: list[_Prompt] = []
    shared = tree.shared
    for group in tree.groups:
        n, first = lengths[group[0]], group[0]
        ids = rows.prompt_ids[first, -n:]
        types = None if rows.types is None else rows.types[first, -n:]
        longest = max(completions[row] for row in group)
        end, seen = _parts_seen(model, n, longest, types, shared)
        if found:
            head = found[0]
            # What stands behind an image is text, which counts on.
            steps = torch.arange(n - end, device=ids.device)
            places = torch.cat([head.places[:, :end], head.places[:, end : end + 1] + steps], 1)
            found.append(_Prompt(group, ids, places, seen, [*head.context]))
            continue
        image = rows.images[first] or {}
        places = rope_positions(model, ids, types, image.get("image_grid_thw"))
        prefix = row.add(ids[:end], places[:, :end])
        row.close(Siblings([prefix], []), {kind: own and own.prefix for kind, own in seen.items()})
        found.append(_Prompt(group, ids, places, seen, [prefix]))
    if shared is not None:
        _add_rests(row, found, shared)
    return found


def _add_rests(row: _Row, prompts: list[_Prompt], shared: int) -> None:
    """Put into the row how the prompts of a tree go on, but for the last token of each."""
    prefix = prompts[0].context[:]
    rests = [prompt for prompt in prompts if len(prompt.ids) > shared + 1]
    if not rests:
        return
    for prompt in rests:
        prompt.context.append(row.add(prompt.ids[shared:-1], prompt.places[:, shared:-1]))
    longest = max(rests, key=lambda prompt: len(prompt.ids))
    masks = {kind: own and own.rest for kind, own in longest.seen.items()}
    row.close(Siblings([prompt.context[-1] for prompt in rests], prefix), masks)


def _worth(model: Any, prompt: _Prompt) -> float:
    """Tokens that a common beginning has to save, as of `split_alike`; inf for equal ones alone."""
    if looks_back(model):
        return math.inf  # states go on once
    if not on_gpu(model.device):
        return WORTH
    name = model.config.get_text_config()._attn_implementation
    by_block = name == NAMES["sdpa"] or any(prompt.seen.values())
    if by_block or (name == NAMES["auto"] and no_varlen(model.device)):
        return math.inf  # a block more takes 60 kernels a layer, as long as a hundred tokens
    return WORTH


def _add_completions(row: _Row, rows: Rows, prompt: _Prompt, parts: list[Part]) -> None:
    """Put completions of a prompt into the row, and behind what some begin with how they go on.

    Args:
        row: that grows.
        rows: the batch.
        prompt: theirs.
        parts: of the completions; without any the row stays as it is.
    """
    todo = [(parts, prompt.context)] if parts else []
    while todo:
        siblings, context = todo.pop()
        spans, start = [], siblings[0].start
        for part in siblings:
            tokens = rows.completion_ids[part.rows[0]]
            before = tokens[start - 1 : start] if start else prompt.ids[-1:]
            ids = torch.cat([before, tokens[start : part.end - 1]])
            steps = torch.arange(start, part.end, device=ids.device)
            spans.append(row.add(ids, prompt.places[:, -1:] + steps, tokens[start : part.end]))
        longest = max(part.end for part in siblings)
        masks = {kind: own and own.of_answer(start, longest) for kind, own in prompt.seen.items()}
        row.close(Siblings(spans, context, [part.rows for part in siblings]), masks)
        onward = zip(siblings, spans, strict=True)
        todo += [(part.onward, [*context, span]) for part, span in onward if part.onward][::-1]


def _parts_seen(
    model: Any, prompt: int, completion: int, types: Tensor | None, shared: int | None
) -> tuple[int, dict[str, Seen | None]]:
    """Tokens of a prompt that stand first in a row, and what all its parts see, by kind of layer.

    The last prompt token is repeated for every completion, unless others before it see it.
    """
    base = unwrap(model)
    seen = sight(base, prompt, max(completion - 1, 0), types)
    keeps = keeps_last(seen, prompt)
    if shared is None:
        shared = prompt if keeps else prompt - 1
    parts: dict[str, Seen | None] = {}
    for kind in set(layer_kinds(base.config.get_text_config())) & ATTENTION:
        mask = seen.get(kind)
        if mask is None and keeps:
            mask = torch.ones_like(next(iter(seen.values()))).tril()
        parts[kind] = None if mask is None else split_mask(mask, shared, prompt, keeps)
    return shared, parts


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
    inputs, layout = pack(model, rows, groups, alike=True)
    # Before the model runs: a GPU would be waited for.
    scored, real = layout.scored, rows.completion_mask.bool()
    output = model(**inputs, shared_prefix=layout, fused_lm_head=True, use_cache=False)

    def unpack(packed: Tensor) -> Tensor:
        return packed.new_zeros(real.shape).masked_scatter(real, packed[0].index_select(0, scored))

    entropy = None if output.entropy is None else unpack(output.entropy)
    return unpack(output.log_probs), entropy
