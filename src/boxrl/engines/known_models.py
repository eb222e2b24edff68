"""Sizes of published models by name: what a training takes can be said before a download."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers

from boxrl.engines.build import EngineOptions, find_family
from boxrl.engines.loading import read_config
from boxrl.families import FAMILIES, Family, build_family
from boxrl.generation.hub import find_cached
from boxrl.generation.model_folders import PACKAGED, config_folder


class Tower(NamedTuple):
    """A vision tower, and the rope of its language model."""

    depth: int
    width: int
    inner: int
    others: dict[str, Any]
    rope: dict[str, Any]


class Text(NamedTuple):
    """A language model: sizes as config.json names them, and whether its head is its embeddings."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    tied: bool


def _qwen2(inner: int) -> Tower:
    windows = {"window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31], "patch_size": 14}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    return Tower(32, 1280, inner, windows, rope)


def _qwen3(depth: int, width: int, inner: int, taps: list[int]) -> Tower:
    others = {
        "deepstack_visual_indexes": taps, "patch_size": 16, "num_position_embeddings": 2304,
    }  # fmt: skip
    rope = {
        "rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20],
        "mrope_interleaved": True,
    }  # fmt: skip
    return Tower(depth, width, inner, others, rope)


_SMALL, _LARGE = _qwen3(24, 1024, 4096, [5, 11, 17]), _qwen3(27, 1152, 4304, [8, 16, 24])

SIZES: dict[str, tuple[Text, Tower]] = {
    "Qwen2.5-VL-3B": (Text(2048, 11008, 36, 16, 2, 151936, True), _qwen2(3420)),
    "Qwen2.5-VL-7B": (Text(3584, 18944, 28, 28, 4, 152064, False), _qwen2(3420)),
    "Qwen2.5-VL-32B": (Text(5120, 27648, 64, 40, 8, 152064, False), _qwen2(3456)),
    "Qwen2.5-VL-72B": (Text(8192, 29568, 80, 64, 8, 152064, False), _qwen2(3456)),
    "Qwen3-VL-2B": (Text(2048, 6144, 28, 16, 8, 151936, True), _SMALL),
    "Qwen3-VL-4B": (Text(2560, 9728, 36, 32, 8, 151936, True), _SMALL),
    "Qwen3-VL-8B": (Text(4096, 12288, 36, 32, 8, 151936, False), _LARGE),
    "Qwen3-VL-32B": (Text(5120, 25600, 64, 64, 8, 151936, False), _LARGE),
}
"""From the models' config.json on the hub."""

HEAD = 128
"""Width of an attention head of all of them."""


def find_config(model: str) -> Any:
    """The config of a model that is here; of others, that of the published model so named.

    Args:
        model: packaged name, folder, or id on the hub.

    Raises:
        UsageError: neither there nor known by name, and not to be fetched.
    """
    name = None if _is_there(model) else _known_name(model)
    return read_config(config_folder(model)) if name is None else build_config(name)


def find_known_family(options: EngineOptions) -> Family:
    """The family of a model that is here; of others, that of the published model so named.

    Args:
        options: model, family and pixel limits.

    Raises:
        UsageError: see `build.find_family` and `find_config`.
    """
    name = None if _is_there(options.model) else _known_name(options.model)
    if name is None:
        return find_family(options)
    named = options.family or _family_name(name)
    return build_family(named, options.min_pixels, options.max_pixels)


def build_config(name: str) -> Any:
    """The config of a published model.

    Args:
        name: key of SIZES.
    """
    text, tower = SIZES[name]
    sizes = text._asdict()
    tied = sizes.pop("tied")
    sizes |= {"head_dim": HEAD, "max_position_embeddings": 128_000, "tie_word_embeddings": tied}
    sizes["rope_parameters"] = tower.rope
    vision = {
        "depth": tower.depth, "hidden_size": tower.width, "intermediate_size": tower.inner,
        "num_heads": 16, "out_hidden_size": text.hidden_size, "spatial_merge_size": 2,
        "temporal_patch_size": 2, **tower.others,
    }  # fmt: skip
    (model_type, *_) = FAMILIES[_family_name(name)].model_types
    return transformers.AutoConfig.for_model(
        model_type, text_config=sizes, vision_config=vision, tie_word_embeddings=tied,
        dtype=torch.bfloat16,
    )  # fmt: skip


def _is_there(model: str) -> bool:
    return model in PACKAGED or Path(model).is_dir() or find_cached(model) is not None


def _known_name(model: str) -> str | None:
    """The published model whose name a folder or id begins with, such as ...-Instruct."""
    name = Path(model).name.lower()
    begins = (known for known in SIZES if f"{name}-".startswith(f"{known.lower()}-"))
    return next(begins, None)


def _family_name(known: str) -> str:
    return max((name for name in FAMILIES if known.lower().startswith(name)), key=len)
