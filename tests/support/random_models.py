"""Small random vision-language models, and batches as TRL holds them."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from trl.trainer.utils import add_fused_lm_head

from boxrl.engines.loading import load_processor
from boxrl.engines.tiny.tokenizer import IMAGE_FIRST
from boxrl.generation.model_folders import model_folder
from tests.support.architectures import (
    GRIDS,
    IMAGE,
    PATCH,
    SIDE,
    TOKENS,
    VIDEO,
    VISION_END,
    VISION_START,
    VOCABULARY,
    build_architecture,
    draw_image,
)

__all__ = [
    "IMAGE", "IMAGE_FIRST", "KINDS", "TOKENS", "VIDEO", "Batch", "build_batch", "build_model",
    "build_plain_model", "build_processor", "save_folder", "save_processor",
]  # fmt: skip

KINDS = ("qwen2.5-vl", "qwen3-vl", "internvl")
"""Architectures that most tests run on."""


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
    return build_architecture(kind, vocabulary, tokens)


@dataclass
class Batch:
    """A padded batch: prompts on the left, completions on the right, an image for every row."""

    input_ids: Tensor
    attention_mask: Tensor
    n_completion: int
    images: dict[str, Any]

    @property
    def inputs(self) -> dict[str, Any]:
        """TRL's arguments."""
        return {
            "input_ids": self.input_ids, "attention_mask": self.attention_mask, **self.images
        }  # fmt: skip

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
    kind: str,
    groups: int,
    size: int,
    lengths: tuple[int, ...],
    seed: int = 0,
    questions: int = 1,
) -> Batch:
    """Groups with prompts and images of different sizes, completions of uneven length.

    Args:
        kind: architecture.
        groups: prompts.
        size: completions per prompt.
        lengths: completion tokens, cycled over the rows.
        seed: of tokens and pixels.
        questions: prompts of an image, which stand behind each other and begin alike.
    """
    generator = torch.Generator().manual_seed(seed)

    def words(count: int) -> Tensor:
        return torch.randint(10, VOCABULARY, (count,), generator=generator)

    prompts, pictures = [], []
    for group in range(groups):
        if group % questions == 0:
            n_tokens, picture = draw_image(kind, group // questions, generator)
            image = torch.tensor([VISION_START, *[IMAGE] * n_tokens, VISION_END])
            head = torch.cat([words(3 + group), image])
        prompts += [torch.cat([head, words(6 - group % 6)])] * size
        pictures += [picture] * size
    completions = [words(lengths[row % len(lengths)]) for row in range(len(prompts))]
    n_prompt, n_completion = max(map(len, prompts)), max(map(len, completions))
    ids = torch.zeros(len(prompts), n_prompt + n_completion, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        start, end = n_prompt - len(prompt), n_prompt + len(completion)
        ids[row, start:end] = torch.cat([prompt, completion])
        mask[row, start:end] = 1
    images: dict[str, Any] = {
        name: torch.cat([picture[name] for picture in pictures]) for name in pictures[0]
    }
    images["num_images"] = [1] * len(prompts)
    if kind in ("internvl", "lfm2-vl"):
        images["num_tiles"] = [len(picture["pixel_values"]) for picture in pictures]
    types = (ids == IMAGE).long()
    if kind.startswith("paligemma"):  # 1 is what is answered
        types[:, n_prompt:] = 1
        types[:, :n_prompt] = 0
    if kind in GRIDS or kind == "gemma4":
        images["mm_token_type_ids"] = types
    elif kind.startswith(("gemma3", "paligemma")):
        images["token_type_ids"] = types
    return Batch(ids, mask, n_completion, images)


def adapt(model: Any, reentrant: bool = False) -> Any:
    """The model in training, with LoRA that changes it and activations that are computed again."""
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    torch.manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    return model
