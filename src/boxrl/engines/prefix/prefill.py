"""Generation with the prompt prefilled once per group."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from boxrl.engines.prefix.kv_cache import repeat_with_room, share_prompts
from boxrl.engines.prefix.shared_prefix import is_enabled, unwrap


def generate_groups(model: Any, inputs: dict[str, Tensor], group: int, **options: Any) -> Tensor:
    """`model.generate` for prompts that stand `group` times in a row, prefilled once each.

    Args:
        model: unwrapped from DDP; PEFT is fine.
        inputs: what `generate` takes for all rows, left-padded, one image per row: `input_ids`
            Long "b p" and the rest.
        group: rows per prompt; the batch is a multiple of it.
        options: passed on to `generate`.

    Returns:
        Long "b p+c": prompts and completions, as `generate` returns them.
    """
    first = slice(None, None, group)
    texts = ("input_ids", "attention_mask", "mm_token_type_ids")
    once = {name: inputs[name][first] for name in texts if name in inputs}
    images = _first_images(inputs, group, unwrap(model).config.image_token_id)
    return generate_draws(model, once | images, group, **options)


@torch.no_grad()
def generate_draws(model: Any, inputs: dict[str, Tensor], group: int, **options: Any) -> Tensor:
    """`group` completions per prompt, each prompt prefilled once.

    The vision tower and the prompt run once per group, and decoding goes on from the last prompt
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
    core = base.model
    once = dict(inputs)
    for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
        if name in once:
            once[name] = once[name][:, :-1]
    if not hasattr(core, "get_rope_index"):
        # 1-D rope: the positions that generate() itself derives from left padding.
        once["position_ids"] = (once["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=base.config.get_text_config())
    # Through the whole model: FSDP gathers weights in a forward that starts at its root.
    model(**once, past_key_values=cache, use_cache=True, logits_to_keep=1)
    if not (is_enabled(base) and share_prompts(cache, once["attention_mask"], group)):
        repeat_with_room(cache, group)
    if getattr(core, "rope_deltas", None) is not None:
        core.rope_deltas = core.rope_deltas.repeat_interleave(group, 0)
    output: Tensor = model.generate(
        input_ids=inputs["input_ids"].repeat_interleave(group, 0),
        attention_mask=inputs["attention_mask"].repeat_interleave(group, 0),
        past_key_values=cache,
        **options,
    )
    return output


def _first_images(inputs: dict[str, Tensor], group: int, image_token: int) -> dict[str, Tensor]:
    """The images of every group's first row."""
    pixels, grid = inputs.get("pixel_values"), inputs.get("image_grid_thw")
    if pixels is None:
        return {}
    if grid is not None:
        per_image = pixels.split(grid.prod(-1).tolist())
        return {"pixel_values": torch.cat(per_image[::group]), "image_grid_thw": grid[::group]}
    per_row = pixels.split(tiles_per_row(inputs["input_ids"], pixels, image_token))
    return {"pixel_values": torch.cat(per_row[::group])}


def tiles_per_row(ids: Tensor, pixels: Tensor, image_token: int) -> list[int]:
    """How many of the tiles "tiles c h w" belong to each row of "b n" ids.

    InternVL cuts an image into tiles of equally many tokens, more of them for larger images.
    """
    tokens = (ids == image_token).sum(1)
    tiles: list[int] = (tokens * len(pixels) // tokens.sum()).tolist()
    return tiles
