"""The architectures of small random models: their configs, and images as they take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor

VOCABULARY, IMAGE, VIDEO, VISION_START, VISION_END = 256, 4, 5, 6, 7
SIDE = 4
"""Image tokens per side of the largest image."""
TOKENS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": VISION_START,
    "vision_end_token_id": VISION_END,
}
PATCH = dict.fromkeys(
    ("qwen2-vl", "qwen2.5-vl", "glm-4v", "glm-4.6v", "internvl", "gemma3"), 14
) | dict.fromkeys(
    ("qwen3-vl", "qwen3-vl-moe", "lfm3-vl", "qwen3.5", "qwen3.5-linear", "qwen3.5-moe"), 16
)
GRIDS = set(PATCH) - {"internvl", "gemma3"}
"""Those that take an image as patches with a grid."""
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
INTERLEAVED = MROPE | {"mrope_section": [4, 2, 2], "mrope_interleaved": True}

Config = dict[str, Any]


def build_architecture(kind: str, vocabulary: int, tokens: dict[str, int]) -> Any:
    """Two layers of width 64, with random weights.

    Args:
        kind: key of ARCHITECTURES.
        vocabulary: tokens.
        tokens: ids of special tokens, by the names of TOKENS.
    """
    text = {
        "vocab_size": vocabulary, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 1024, "initializer_range": 0.1, "tie_word_embeddings": True,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    name, config = ARCHITECTURES[kind](text, tokens | {"tie_word_embeddings": True})
    build = getattr(transformers, f"{name}ForConditionalGeneration")
    model = build(getattr(transformers, f"{name}Config")(**config))
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():  # or all images would look alike
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def _patches(kind: str, **others: Any) -> Config:
    return {
        "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2,
        "out_hidden_size": 64, "patch_size": PATCH[kind], "spatial_merge_size": 2,
        "temporal_patch_size": 2, "initializer_range": 0.1, **others,
    }  # fmt: skip


def _qwen2_vl(text: Config, tokens: Config) -> tuple[str, Config]:
    vision = _patches("qwen2-vl", embed_dim=32, hidden_size=64, mlp_ratio=2)
    return "Qwen2VL", {
        "text_config": text | {"rope_parameters": MROPE}, "vision_config": vision, **tokens
    }  # fmt: skip


def _qwen2_5_vl(text: Config, tokens: Config) -> tuple[str, Config]:
    vision = _patches("qwen2.5-vl", fullatt_block_indexes=[1], window_size=56)
    return "Qwen2_5_VL", {
        "text_config": text | {"rope_parameters": MROPE}, "vision_config": vision, **tokens
    }  # fmt: skip


EXPERTS = {
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48,
    "shared_expert_intermediate_size": 48,
}  # fmt: skip


def _qwen3_vl(moe: bool = False) -> Callable[..., tuple[str, Config]]:
    def build(text: Config, tokens: Config) -> tuple[str, Config]:
        vision = _patches("qwen3-vl", deepstack_visual_indexes=[0, 1], num_position_embeddings=64)
        text = text | {"rope_parameters": INTERLEAVED, "head_dim": 16} | (EXPERTS if moe else {})
        name = "Qwen3VLMoe" if moe else "Qwen3VL"
        return name, {"text_config": text, "vision_config": vision, **tokens}

    return build


def _qwen3_5(layers: tuple[str, ...], moe: bool = False) -> Callable[..., tuple[str, Config]]:
    def build(text: Config, tokens: Config) -> tuple[str, Config]:
        text = text | {
            "num_hidden_layers": len(layers), "layer_types": list(layers), "head_dim": 16,
            "linear_key_head_dim": 16, "linear_value_head_dim": 16, "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "rope_parameters": INTERLEAVED | {"partial_rotary_factor": 1.0},
        }  # fmt: skip
        text |= EXPERTS if moe else {}
        vision = _patches("qwen3.5", num_position_embeddings=64)
        name = "Qwen3_5Moe" if moe else "Qwen3_5"
        return name, {"text_config": text, "vision_config": vision, **tokens}

    return build


def _internvl(text: Config, tokens: Config) -> tuple[str, Config]:
    side = SIDE * 2 * PATCH["internvl"]
    vision = {
        "num_attention_heads": 2, "initializer_range": 0.1, "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 2, "image_size": [side, side],
        "patch_size": [PATCH["internvl"]] * 2,
    }  # fmt: skip
    return "InternVL", {
        "text_config": text | {"model_type": "qwen2"}, "vision_config": vision,
        "image_token_id": tokens["image_token_id"], "tie_word_embeddings": True,
    }  # fmt: skip


def _glm(name: str) -> Callable[..., tuple[str, Config]]:
    def build(text: Config, tokens: Config) -> tuple[str, Config]:
        return name, _glm_config(text, tokens)

    return build


def _glm_config(text: Config, tokens: Config) -> Config:
    text = text | {"rope_parameters": MROPE | {"partial_rotary_factor": 1.0}}
    own = {
        "image_start_token_id": tokens["vision_start_token_id"],
        "image_end_token_id": tokens["vision_end_token_id"],
        **{name: tokens[name] for name in ("image_token_id", "video_token_id")},
    }
    return {"text_config": text, "vision_config": _patches("glm-4v", image_size=112), **own}


def _siglip(**others: Any) -> Config:
    return {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 56, "patch_size": 14, **others,
    }  # fmt: skip


def _gemma3(window: int) -> Callable[..., tuple[str, Config]]:
    def build(text: Config, tokens: Config) -> tuple[str, Config]:
        text = text | {
            "head_dim": 16, "sliding_window": window, "query_pre_attn_scalar": 16,
            "layer_types": ["sliding_attention", "full_attention"],
        }  # fmt: skip
        return "Gemma3", {
            "text_config": text, "vision_config": _siglip(), "mm_tokens_per_image": 4,
            "image_token_index": tokens["image_token_id"],
            "boi_token_index": tokens["vision_start_token_id"],
            "eoi_token_index": tokens["vision_end_token_id"],
        }  # fmt: skip

    return build


def _gemma4(text: Config, tokens: Config) -> tuple[str, Config]:
    text = text | {
        "num_hidden_layers": 4, "head_dim": 16, "global_head_dim": 16, "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"] * 2, "num_kv_shared_layers": 2,
        "use_bidirectional_attention": "vision", "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": text["vocab_size"],
    }  # fmt: skip
    vision = _siglip(num_key_value_heads=2, head_dim=16, position_embedding_size=16)
    vision |= {"pooling_kernel_size": 2, "initializer_range": 0.1}
    return "Gemma4", {
        "text_config": text, "vision_config": vision,
        "image_token_id": tokens["image_token_id"], "video_token_id": tokens["video_token_id"],
        "boi_token_id": tokens["vision_start_token_id"],
        "eoi_token_id": tokens["vision_end_token_id"], "audio_token_id": 3,
    }  # fmt: skip


def _paligemma(model_type: str, **others: Any) -> Callable[..., tuple[str, Config]]:
    def build(text: Config, tokens: Config) -> tuple[str, Config]:
        text = text | {"model_type": model_type, "head_dim": 16, **others}
        return "PaliGemma", {
            "text_config": text, "projection_dim": 64,
            "vision_config": _siglip(model_type="siglip_vision_model", projection_dim=64),
            "image_token_index": tokens["image_token_id"],
        }  # fmt: skip

    return build


def _lfm2_vl(text: Config, tokens: Config) -> tuple[str, Config]:
    text = text | {
        "model_type": "lfm2", "num_hidden_layers": 3, "block_auto_adjust_ff_dim": False,
        "layer_types": ["conv", "full_attention", "conv"],
    }  # fmt: skip
    vision = _siglip(model_type="siglip2_vision_model", num_patches=64)
    del vision["image_size"]
    return "Lfm2Vl", {
        "text_config": text, "vision_config": vision, "projector_hidden_size": 64,
        "image_token_id": tokens["image_token_id"],
    }  # fmt: skip


def _lfm3_vl(text: Config, tokens: Config) -> tuple[str, Config]:
    text = text | {
        "model_type": "lfm3", "num_hidden_layers": 3, "head_dim": 16, "sliding_window": 8,
        "layer_types": ["conv", "sliding_attention", FULL],
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "patch_size": 16,
        "num_attention_heads": 2, "num_key_value_heads": 2, "initializer_range": 0.1,
    }  # fmt: skip
    return "Lfm3Vl", {
        "text_config": text, "vision_config": vision, "projector_hidden_size": 64, **tokens
    }  # fmt: skip


LINEAR, FULL = "linear_attention", "full_attention"
ARCHITECTURES: dict[str, Callable[..., tuple[str, Config]]] = {
    "qwen2-vl": _qwen2_vl,
    "qwen2.5-vl": _qwen2_5_vl,
    "qwen3-vl": _qwen3_vl(),
    "qwen3-vl-moe": _qwen3_vl(moe=True),
    "qwen3.5": _qwen3_5((LINEAR, FULL)),
    "qwen3.5-linear": _qwen3_5((LINEAR, LINEAR)),
    "qwen3.5-moe": _qwen3_5((LINEAR, FULL), moe=True),
    "internvl": _internvl,
    "glm-4v": _glm("Glm4v"),
    "glm-4.6v": _glm("Glm46V"),
    "gemma3": _gemma3(window=4096),
    "gemma3, short window": _gemma3(window=8),
    "gemma4": _gemma4,
    "paligemma": _paligemma("gemma"),
    "paligemma 2": _paligemma(
        "gemma2", sliding_window=8, layer_types=["sliding_attention", FULL],
        query_pre_attn_scalar=16, attn_logit_softcapping=None, final_logit_softcapping=None,
    ),
    "lfm2-vl": _lfm2_vl,
    "lfm3-vl": _lfm3_vl,
}  # fmt: skip
"""Kind -> name of its classes in transformers and what its config is made of."""


def draw_image(kind: str, number: int, generator: torch.Generator) -> tuple[int, dict[str, Tensor]]:
    """Tokens of an image and the model's inputs for it; every second one is smaller if it can be.

    Args:
        kind: key of ARCHITECTURES.
        number: of the image.
        generator: of its pixels.
    """

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    side = SIDE - number % 2
    if kind in GRIDS:
        pixels = noise(4 * side**2, 6 * PATCH[kind] ** 2)
        return side**2, {
            "pixel_values": pixels, "image_grid_thw": torch.tensor([[1, 2 * side, 2 * side]])
        }  # fmt: skip
    if kind == "internvl":
        tiles, length = 2 - number % 2, SIDE * 2 * PATCH[kind]
        return SIDE**2 * tiles, {"pixel_values": noise(tiles, 3, length, length)}
    if kind == "gemma4":
        places = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).flip(1)
        return 4, {"pixel_values": noise(1, 16, 588).sigmoid(), "image_position_ids": places[None]}
    if kind == "lfm2-vl":
        pixels, mask = torch.zeros(1, 64, 588), torch.zeros(1, 64, dtype=torch.long)
        pixels[:, : 4 * side**2], mask[:, : 4 * side**2] = noise(1, 4 * side**2, 588), 1
        shapes = torch.tensor([[2 * side, 2 * side]])
        return side**2, {
            "pixel_values": pixels, "pixel_attention_mask": mask, "spatial_shapes": shapes
        }  # fmt: skip
    n_tokens = 16 if kind.startswith("paligemma") else 4
    return n_tokens, {"pixel_values": noise(1, 3, 56, 56)}
