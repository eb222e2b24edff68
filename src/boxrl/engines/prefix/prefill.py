"""Generation with the prompt prefilled once per group, and its image once for all its prompts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from boxrl.engines.prefix import live_rows
from boxrl.engines.prefix.images import (
    BY_TOKEN,
    count_first,
    join_images,
    row_images,
    tiles_per_row,
    token_types,
)
from boxrl.engines.prefix.kinds import keeps_last, sight
from boxrl.engines.prefix.kv_cache import cache_argument, repeat_with_room, share_prompts
from boxrl.engines.prefix.rows import Rows
from boxrl.engines.prefix.shared_prefix import is_enabled, pack_prompts, unwrap
from boxrl.engines.prefix.trees import find_trees


def generate_groups(model: Any, inputs: dict[str, Tensor], group: int, **options: Any) -> Tensor:
    """`model.generate` for prompts that stand `group` times in a row, prefilled once each.

    Args:
        model: unwrapped from DDP; PEFT is fine.
        inputs: what `generate` takes for all rows, left-padded, one image per row, or the
            pixel values of each prompt's first: `input_ids` Long "b p" and the rest.
        group: rows per prompt; the batch is a multiple of it.
        options: passed on to `generate`.

    Returns:
        Long "b p+c": prompts and completions, as `generate` returns them.
    """
    ids = inputs["input_ids"]
    others: dict[str, Any] = {name: x for name, x in inputs.items() if name not in BY_TOKEN}
    others = count_first(others, len(ids), group)
    others = _with_tiles(unwrap(model), {**others, "input_ids": ids})
    once = {name: x[::group] for name, x in inputs.items() if name in BY_TOKEN}
    once |= join_images(row_images(others, len(ids))[::group])
    return generate_draws(model, once, group, **options)


@torch.no_grad()
def generate_draws(model: Any, inputs: dict[str, Tensor], group: int, **options: Any) -> Tensor:
    """`group` completions per prompt, each prompt prefilled once.

    The vision tower and the prompt run once per group, what prompts of one image behind each other
    begin with runs once for all of them, and decoding goes on from the last prompt
    token. With shared-prefix attention enabled all completions of a prompt read one copy of its
    keys and values; otherwise these are repeated. Law: the same tokens as generating for every
    row, greedy, and sampled with the same random state.

    Args:
        model: unwrapped from DDP; PEFT is fine.
        inputs: what `generate` takes, left-padded, one row per prompt: `input_ids` Long "n p" and
            the rest.
        group: completions per prompt.
        options: passed on to `generate`.

    Returns:
        Long "n*group p+c": prompts and completions, those of a prompt in a row.
    """
    base = unwrap(model)
    cache = _prefill_by_image(model, inputs) or _prefill(model, inputs)
    prompt_mask = inputs["attention_mask"][:, :-1]
    if not (is_enabled(base) and share_prompts(cache, prompt_mask, group)):
        repeat_with_room(cache, group)
    if getattr(base.model, "rope_deltas", None) is not None:
        base.model.rope_deltas = base.model.rope_deltas.repeat_interleave(group, 0)
    return live_rows.generate(
        model,
        input_ids=inputs["input_ids"].repeat_interleave(group, 0),
        attention_mask=inputs["attention_mask"].repeat_interleave(group, 0),
        **_held(base, cache),
        **options,
    )


def _held(base: Any, cache: DynamicCache) -> dict[str, DynamicCache]:
    """The cache as an argument of the model."""
    return {cache_argument(type(base).forward) or "past_key_values": cache}


def _prefill(model: Any, inputs: dict[str, Tensor]) -> DynamicCache:
    """Keys and values of the prompts but for their last tokens, which `generate` runs."""
    base = unwrap(model)
    keeps = _keeps_last(base, inputs)
    once = {name: x[:, :-1] if name in BY_TOKEN and not keeps else x for name, x in inputs.items()}
    if not hasattr(base.model, "get_rope_index"):
        # 1-D rope: the positions that generate() itself derives from left padding.
        places = (once["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        prepared = base.prepare_inputs_for_generation(once["input_ids"], position_ids=places)
        once["position_ids"] = prepared["position_ids"]
    cache = DynamicCache(config=base.config.get_text_config())
    if keeps:
        cache.activate_past_recording()
    # Through the whole model: FSDP gathers weights in a forward that starts at its root.
    model(**once, **_held(base, cache), use_cache=True, logits_to_keep=1)
    if keeps:
        cache.crop(-1)  # generate() runs the last prompt token again, over all of them
    return cache


def _prefill_by_image(model: Any, inputs: dict[str, Any]) -> DynamicCache | None:
    """As `_prefill`, prompts of one image behind what they share; None where none share any."""
    base = unwrap(model)
    cache = DynamicCache(config=base.config.get_text_config())
    if not is_enabled(base) or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    images = row_images(_with_tiles(base, inputs), len(ids))
    rows = Rows(ids, mask, ids[:, :0], mask[:, :0], token_types(inputs), images)
    trees = find_trees(base, rows, [[row] for row in range(len(ids))])
    if len(trees) == len(ids):
        return None
    packed = pack_prompts(model, rows)
    model(
        **packed.inputs,
        **_held(base, cache),
        shared_prefix=packed.layout,
        use_cache=True,
        logits_to_keep=1,
    )
    index = torch.zeros(len(ids), ids.shape[1] - 1, dtype=torch.long)
    for row, own in zip(index, packed.tokens, strict=True):
        row[len(row) - len(own) :] = own
    for layer in cache.layers:
        layer.keys, layer.values = (
            states[0][:, index.to(ids.device)].transpose(0, 1).contiguous()
            for states in (layer.keys, layer.values)
        )
    if hasattr(base.model, "rope_deltas"):
        base.model.rope_deltas = (torch.stack(packed.ends) + 1 - mask.sum(1))[:, None]
    return cache


def _with_tiles(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs of rows with an image each, and how many tiles these have where there are such."""
    if "pixel_values" not in inputs or "image_grid_thw" in inputs:
        return inputs
    return {**inputs, "num_tiles": tiles_per_row(inputs, model.config.image_token_id)}


def _keeps_last(model: Any, inputs: dict[str, Tensor]) -> bool:
    """Whether the last token of the prompts has to be prefilled with the others."""
    types = token_types(inputs)
    if types is None:
        return False
    first = types[0][inputs["attention_mask"][0].bool()]
    return keeps_last(sight(model, len(first), 0, first), len(first))
