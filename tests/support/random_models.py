"""Small random vision-language models of three architectures, and batches as TRL holds them."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from trl.trainer.utils import add_fused_lm_head

from boxrl.engines.loading import load_processor
from boxrl.generation.model_folders import model_folder

VOCABULARY, IMAGE, VIDEO, VISION_START, VISION_END = 256, 4, 5, 6, 7
KINDS = ("qwen2.5-vl", "qwen3-vl", "internvl")
PATCH = {"qwen2.5-vl": 14, "qwen3-vl": 16, "internvl": 14}
SIDE = 4
"""Image tokens per side of the largest image."""
TOKENS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": VISION_START,
    "vision_end_token_id": VISION_END,
}


def build_model(kind: str, seed: int = 0) -> Any:
    """Two layers, hidden size 64, with TRL's fused head."""
    model = build_plain_model(kind, seed)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    return model


def build_plain_model(
    kind: str, seed: int = 0, vocabulary: int = VOCABULARY, tokens: dict[str, int] = TOKENS
) -> Any:
    """As transformers loads it; `tokens` are the ids of its special tokens."""
    torch.manual_seed(seed)
    text: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "initializer_range": 0.1,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    vision: dict[str, Any] = {"num_attention_heads": 2, "initializer_range": 0.1}
    qwen_vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": 64,
        "patch_size": PATCH[kind],
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "initializer_range": 0.1,
    }
    tied = {**tokens, "tie_word_embeddings": True}
    if kind == "qwen2.5-vl":
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
        model = Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(
                text_config=text | {"rope_parameters": rope},
                vision_config=qwen_vision | {"fullatt_block_indexes": [1], "window_size": 56},
                **tied,
            )
        )
    elif kind == "qwen3-vl":
        rope = {
            "rope_type": "default",
            "rope_theta": 1e4,
            "mrope_section": [4, 2, 2],
            "mrope_interleaved": True,
        }
        model = Qwen3VLForConditionalGeneration(
            Qwen3VLConfig(
                text_config=text | {"rope_parameters": rope, "head_dim": 16},
                vision_config=qwen_vision
                | {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64},
                **tied,
            )
        )
    else:
        side = SIDE * 2 * PATCH[kind]
        model = InternVLForConditionalGeneration(
            InternVLConfig(
                text_config=text | {"model_type": "qwen2"},
                vision_config=vision
                | {
                    "hidden_size": 32,
                    "intermediate_size": 48,
                    "num_hidden_layers": 2,
                    "image_size": [side, side],
                    "patch_size": [PATCH[kind]] * 2,
                },
                image_token_id=tokens["image_token_id"],
                tie_word_embeddings=True,
            )
        )
    return model


@dataclass
class Batch:
    """A padded batch: prompts on the left, completions on the right, an image for every row."""

    input_ids: Tensor
    attention_mask: Tensor
    n_completion: int
    images: dict[str, Any]

    @property
    def completion_mask(self) -> Tensor:
        """Bool "b c"."""
        return self.attention_mask[:, -self.n_completion :].bool()


def save_folder(kind: str, folder: Path) -> Path:
    """A model folder as a hub has them, on the packaged tokenizer; returns it."""
    config = json.loads((model_folder("tiny") / "config.json").read_text("utf-8"))
    tokens = {name: config[name] for name in TOKENS}
    model = build_plain_model(kind, 0, config["text_config"]["vocab_size"], tokens)
    model.save_pretrained(folder)
    return save_processor(kind, folder)


def save_processor(kind: str, folder: Path) -> Path:
    """The packaged tokenizer with images as the architecture takes them."""
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
                 "processor_config.json"):  # fmt: skip
        shutil.copy(model_folder("tiny") / name, folder)
    processor = json.loads((folder / "processor_config.json").read_text("utf-8"))
    processor["image_processor"]["patch_size"] = PATCH[kind]
    if kind == "internvl":
        side = SIDE * 2 * PATCH[kind]
        processor = {
            "processor_class": "InternVLProcessor",
            "image_seq_length": SIDE**2,
            "image_processor": {
                "image_processor_type": "GotOcr2ImageProcessor", "crop_to_patches": True,
                "size": {"height": side, "width": side}, "min_patches": 2, "max_patches": 2,
            },
            "video_processor": {"video_processor_type": "InternVLVideoProcessor"},
        }  # fmt: skip
        tokenizer = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        tokenizer["extra_special_tokens"] = {
            "start_image_token": "<|vision_start|>", "end_image_token": "<|vision_end|>",
            "context_image_token": "<|image_pad|>", "video_token": "<|video_pad|>",
        }  # fmt: skip
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
        template = (folder / "chat_template.jinja").read_text("utf-8")
        whole = "<|vision_start|><|image_pad|><|vision_end|>"
        (folder / "chat_template.jinja").write_text(template.replace(whole, "<|image_pad|>"))
    (folder / "processor_config.json").write_text(json.dumps(processor))
    return folder


def build_processor(kind: str) -> Any:
    """That of `save_processor`."""
    with tempfile.TemporaryDirectory() as name:
        build_plain_model(kind).config.save_pretrained(name)
        return load_processor(save_processor(kind, Path(name)))


def build_batch(
    kind: str, groups: int, size: int, lengths: tuple[int, ...], seed: int = 0
) -> Batch:
    """Groups with prompts and images of different sizes, completions of uneven length.

    Args:
        kind: architecture.
        groups: prompts.
        size: completions per prompt.
        lengths: completion tokens, cycled over the rows.
        seed: of tokens and pixels.
    """
    generator = torch.Generator().manual_seed(seed)

    def words(count: int) -> Tensor:
        return torch.randint(10, VOCABULARY, (count,), generator=generator)

    prompts, pixels, grids, tiles = [], [], [], []
    for group in range(groups):
        side = SIDE if kind == "internvl" else SIDE - group % 2
        n_tiles = 2 - group % 2 if kind == "internvl" else 1
        image = torch.tensor([VISION_START, *[IMAGE] * side**2 * n_tiles, VISION_END])
        prompt = torch.cat([words(3 + group), image, words(6 - group)])
        patches = 2 * side
        if kind == "internvl":
            length = patches * PATCH[kind]
            pixel = torch.randn(n_tiles, 3, length, length, generator=generator)
        else:
            pixel = torch.randn(patches**2, 6 * PATCH[kind] ** 2, generator=generator)
        prompts += [prompt] * size
        pixels += [pixel] * size
        grids += [torch.tensor([[1, patches, patches]])] * size
        tiles += [n_tiles] * size
    completions = [words(lengths[row % len(lengths)]) for row in range(len(prompts))]
    n_prompt, n_completion = max(map(len, prompts)), max(map(len, completions))
    ids = torch.zeros(len(prompts), n_prompt + n_completion, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        start, end = n_prompt - len(prompt), n_prompt + len(completion)
        ids[row, start:end] = torch.cat([prompt, completion])
        mask[row, start:end] = 1
    images: dict[str, Any] = {"pixel_values": torch.cat(pixels), "num_images": [1] * len(prompts)}
    if kind == "internvl":
        images["num_tiles"] = tiles
    else:
        images["image_grid_thw"] = torch.cat(grids)
        images["mm_token_type_ids"] = (ids == IMAGE).long()
    return Batch(ids, mask, n_completion, images)
