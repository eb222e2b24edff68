"""The tiny VLM: the real Qwen2.5-VL architecture with 1.2 million parameters, or fewer.

Sizes are chosen so that it learns in minutes on a CPU and vLLM still serves it (head size 32).
rope_theta is 10: mrope is the model's only absolute position, and with larger values the
width axis turns too slowly to be seen (0.01 rad per cell at 1000).

The same can be taught to a Qwen3.5, most of whose layers keep a state in place of keys; it is not
shipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
)

from boxrl.data.synthetic import CELL_PX, GRID_PX
from boxrl.engines.tiny.tokenizer import (
    EOS_TOKEN,
    IMAGE_TOKEN,
    NUMBERS,
    PAD_TOKEN,
    build_tokenizer,
    number_ids,
)
from boxrl.families import FAMILIES, Family

MERGE = 2
VISION_DEPTH = 2
INIT_STD = 0.06


@dataclass(frozen=True, slots=True)
class Size:
    """Widths and depth of a tiny VLM.

    Attributes:
        hidden, layers, heads: of the language model; hidden is 32 times heads.
        vision_hidden, vision_heads: of the vision tower's two blocks.
    """

    hidden: int
    layers: int
    heads: int
    vision_hidden: int
    vision_heads: int


SIZES = {
    "base": Size(hidden=128, layers=5, heads=4, vision_hidden=64, vision_heads=2),
    "small": Size(hidden=64, layers=4, heads=2, vision_hidden=32, vision_heads=1),
}
"""The sizes by name; `base` is the one inside the package."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A real architecture that a tiny VLM is built in.

    Attributes:
        family: its family's name.
        patch: side of an image patch in pixels.
        numbers: coordinates below it are single tokens.
        build: the model from the sections of its config, the language model's and the vision
            tower's, and what stands beside them.
    """

    family: str
    patch: int
    numbers: int
    build: Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], Any]

    @property
    def side(self) -> int:
        """Side of the image that the model sees, in pixels: one image token per cell."""
        return GRID_PX // CELL_PX * MERGE * self.patch

    @property
    def seen(self) -> Family:
        """Its family, with the pixel limits of its processor."""
        # A little above, so that rounding never costs a square image a row of patches.
        return FAMILIES[self.family].with_limits(self.side**2, self.side**2 + self.patch**2)


def _build_qwen2_5_vl(text: dict[str, Any], vision: dict[str, Any], others: dict[str, Any]) -> Any:
    rope = {"rope_type": "default", "rope_theta": 10.0, "mrope_section": [4, 6, 6]}
    vision |= {"window_size": GRID_PX, "fullatt_block_indexes": list(range(VISION_DEPTH))}
    config = Qwen2_5_VLConfig(
        text_config=text | {"rope_parameters": rope}, vision_config=vision, **others
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def _build_qwen3_5(text: dict[str, Any], vision: dict[str, Any], others: dict[str, Any]) -> Any:
    """Of four layers the last one attends, the others are linear, as in the published models."""
    heads, layers = text["num_attention_heads"], text["num_hidden_layers"]
    text |= {
        "head_dim": 32,
        "layer_types": [
            "full_attention" if layer % 4 == 3 else "linear_attention" for layer in range(layers)
        ],
        "linear_num_key_heads": heads,
        "linear_num_value_heads": heads,
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 32,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10.0,
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": True,
            "partial_rotary_factor": 1.0,
        },
    }
    vision |= {"num_position_embeddings": 64}
    config = Qwen3_5Config(text_config=text, vision_config=vision, **others)
    return Qwen3_5ForConditionalGeneration(config)


ARCHITECTURES = {
    "qwen2_5_vl": Architecture("qwen2.5-vl", 14, NUMBERS, _build_qwen2_5_vl),
    "qwen3_5": Architecture("qwen3.5", 16, FAMILIES["qwen3.5"].grid + 1, _build_qwen3_5),
}
"""The architectures by name; the first one is that of the packaged models."""
PACKAGED = ARCHITECTURES["qwen2_5_vl"]


def build_processor(
    architecture: Architecture = PACKAGED, tokenizer: PreTrainedTokenizerFast | None = None
) -> Qwen2_5_VLProcessor:
    """Processor of the tiny VLM: every square image becomes 16 image tokens.

    Args:
        architecture: what it prepares images for; 112 x 112 px for the packaged one.
        tokenizer: the architecture's where none is given.
    """
    seen = architecture.seen
    size = {"shortest_edge": seen.min_pixels, "longest_edge": seen.max_pixels}
    options = {"size": size, "patch_size": architecture.patch, "merge_size": MERGE}
    images, videos = Qwen2VLImageProcessor(**options), Qwen2VLVideoProcessor(**options)
    tokenizer = tokenizer or build_tokenizer(architecture.numbers)
    return Qwen2_5_VLProcessor(images, tokenizer, videos, tokenizer.chat_template)


def build_model(
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    size: Size = SIZES["base"],
    architecture: Architecture = PACKAGED,
) -> Any:
    """The tiny VLM with random weights.

    Args:
        tokenizer: of the architecture's processor.
        seed: of the weights.
        size: widths and depth.
        architecture: whose classes it is made of.
    """
    torch.manual_seed(seed)
    text, vision, others = _sections(tokenizer, size, architecture)
    model = architecture.build(text, vision, others)
    _smooth_number_embeddings(model, number_ids(tokenizer, architecture.numbers))
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    return model


def _sections(
    tokenizer: PreTrainedTokenizerFast, size: Size, architecture: Architecture
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The sections of a config that all architectures share."""

    def id_of(token: str) -> int:
        return int(tokenizer.convert_tokens_to_ids(token))

    text = {
        "vocab_size": math.ceil(len(tokenizer) / 16) * 16,
        "hidden_size": size.hidden,
        "intermediate_size": 2 * size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.heads,
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": id_of(EOS_TOKEN),
        "pad_token_id": id_of(PAD_TOKEN),
        "initializer_range": INIT_STD,
    }
    vision = {
        "depth": VISION_DEPTH,
        "hidden_size": size.vision_hidden,
        "intermediate_size": 2 * size.vision_hidden,
        "num_heads": size.vision_heads,
        "patch_size": architecture.patch,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "out_hidden_size": size.hidden,
        "initializer_range": INIT_STD,
    }
    others = {
        "initializer_range": INIT_STD,
        "image_token_id": id_of(IMAGE_TOKEN),
        "video_token_id": id_of("<|video_pad|>"),
        "vision_start_token_id": id_of("<|vision_start|>"),
        "vision_end_token_id": id_of("<|vision_end|>"),
        "tie_word_embeddings": True,
    }
    return text, vision, others


@torch.no_grad()
def _smooth_number_embeddings(model: Any, spellings: list[list[int]]) -> None:
    """Start neighbouring numbers with similar embeddings: a box off by one is nearly right."""
    count = len(spellings[0])
    x = torch.arange(count)[:, None] / count
    frequency = torch.arange(1, 17)[None] * math.pi
    waves = torch.cat([torch.cos(x * frequency), torch.sin(x * frequency)], 1)
    embeddings = model.get_input_embeddings().weight
    hidden = embeddings.shape[1]
    basis = torch.randn(waves.shape[1], hidden) * INIT_STD * 0.7
    smooth = waves / frequency.repeat(1, 2).sqrt() @ basis
    for ids in spellings:
        noise = 0.2 * torch.randn(count, hidden) + 0.5 * torch.randn(1, hidden)
        embeddings[ids] = smooth + INIT_STD * noise
