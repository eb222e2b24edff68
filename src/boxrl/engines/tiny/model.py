"""The tiny VLM: the real Qwen2.5-VL architecture with 1.2 million parameters, or fewer.

Sizes are chosen so that it learns in minutes on a CPU and vLLM still serves it (head size 32).
rope_theta is 10: mrope is the model's only absolute position, and with larger values the
width axis turns too slowly to be seen (0.01 rad per cell at 1000).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from boxrl.data.synthetic import GRID_PX
from boxrl.engines.tiny.tokenizer import (
    EOS_TOKEN,
    IMAGE_TOKEN,
    NUMBERS,
    PAD_TOKEN,
    build_tokenizer,
    number_ids,
)

PATCH = 14
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


def build_processor() -> Qwen2_5_VLProcessor:
    """Processor of the tiny VLM: every square image becomes 112 x 112 px, 16 image tokens."""
    # A little above 112 x 112, so that rounding never costs a square image a row of patches.
    size = {"shortest_edge": GRID_PX**2, "longest_edge": GRID_PX**2 + PATCH**2}
    options = {"size": size, "patch_size": PATCH, "merge_size": MERGE}
    images, videos = Qwen2VLImageProcessor(**options), Qwen2VLVideoProcessor(**options)
    tokenizer = build_tokenizer()
    return Qwen2_5_VLProcessor(images, tokenizer, videos, tokenizer.chat_template)


def build_model(
    tokenizer: PreTrainedTokenizerFast, seed: int, size: Size = SIZES["base"]
) -> Qwen2_5_VLForConditionalGeneration:
    """The tiny VLM with random weights."""
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(_build_config(tokenizer, size))
    _smooth_number_embeddings(model, tokenizer)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    return model


def _build_config(tokenizer: PreTrainedTokenizerFast, size: Size) -> Qwen2_5_VLConfig:
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
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10.0,
            "mrope_section": [4, 6, 6],
        },
    }
    vision = {
        "depth": VISION_DEPTH,
        "hidden_size": size.vision_hidden,
        "intermediate_size": 2 * size.vision_hidden,
        "num_heads": size.vision_heads,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "window_size": GRID_PX,
        "out_hidden_size": size.hidden,
        "fullatt_block_indexes": list(range(VISION_DEPTH)),
        "initializer_range": INIT_STD,
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        initializer_range=INIT_STD,
        image_token_id=id_of(IMAGE_TOKEN),
        video_token_id=id_of("<|video_pad|>"),
        vision_start_token_id=id_of("<|vision_start|>"),
        vision_end_token_id=id_of("<|vision_end|>"),
        tie_word_embeddings=True,
    )


@torch.no_grad()
def _smooth_number_embeddings(
    model: Qwen2_5_VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Start neighbouring numbers with similar embeddings: a box off by one is nearly right."""
    x = torch.arange(NUMBERS)[:, None] / NUMBERS
    frequency = torch.arange(1, 17)[None] * math.pi
    waves = torch.cat([torch.cos(x * frequency), torch.sin(x * frequency)], 1)
    embeddings = model.get_input_embeddings().weight
    hidden = embeddings.shape[1]
    basis = torch.randn(waves.shape[1], hidden) * INIT_STD * 0.7
    smooth = waves / frequency.repeat(1, 2).sqrt() @ basis
    for ids in number_ids(tokenizer):
        noise = 0.2 * torch.randn(NUMBERS, hidden) + 0.5 * torch.randn(1, hidden)
        embeddings[ids] = smooth + INIT_STD * noise
