"""Workarounds for TRL 1.16's vLLM prompts and weight sync.

Prompts: to a vLLM in its own process TRL hands those of its processor, in which an image already
stands as one token per patch, together with the image; vLLM expands the first of these tokens once
more, and answers another prompt than the trainer learns from (trl issue 6294). A server gets images
apart, and its prompts as they are.
Images: vLLM resizes them by the limits in the model folder. Where the recipe names others, vLLM is
handed images in the size that these give, which its processor leaves alone.
Weights: where an image was seen before, vLLM reuses what the vision tower made of it; TRL sends
the new weights and leaves that as it was, in both modes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from boxrl.errors import MissingExtra, UsageError
from boxrl.families import Family, read_family

Tokens = list[list[int]]


def require_vllm(device: str) -> None:
    """Refuse what would fail after minutes.

    Args:
        device: the recipe's `engine.device`.

    Raises:
        MissingExtra: vLLM is not installed.
        UsageError: no GPU is to train on.
    """
    if device == "cpu" or not torch.cuda.is_available():
        raise UsageError(
            "train.trl.use_vllm: vLLM takes new weights on a CUDA device only, got a CPU, where it "
            "repacks those it has loaded; set train.trl.use_vllm=false"
        )
    if importlib.util.find_spec("vllm") is None:
        raise MissingExtra("train.trl.use_vllm", "vllm")


def unexpanded(processor: Any, prompts: Any, **template: Any) -> Tokens:
    """Token ids of chat prompts with one placeholder per image, as vLLM takes them.

    Args:
        processor: the model's.
        prompts: chats, one per row.
        template: options of the chat template.
    """
    texts = processor.apply_chat_template(
        prompts, add_generation_prompt=True, tokenize=False, **template
    )
    ids: Tokens = processor.tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids


def expanding(generate: Callable[..., Any], placeholders: Tokens) -> Callable[..., Any]:
    """`VLLMGeneration.generate` that hands vLLM the unexpanded prompts.

    Law: what vLLM answers is, token by token, the prompt that the trainer learns from.

    Args:
        generate: TRL's.
        placeholders: the same prompts as `unexpanded` gives them.
    """

    def generate_checked(prompts: Tokens, **options: Any) -> Any:
        answers = generate(prompts=placeholders, **options)
        for row, (seen, meant) in enumerate(zip(answers[0], prompts, strict=True)):
            if list(seen) != list(meant):
                raise UsageError(
                    f"train.trl.use_vllm: vLLM answers a prompt of {len(seen)} tokens where the "
                    f"trainer's has {len(meant)} (row {row} of the batch); both must size images "
                    "alike: compare the image processor's files in the model folder, or set "
                    "train.trl.use_vllm=false"
                )
        return answers

    return generate_checked


def limits_named(folder: Path, family: Family) -> bool:
    """Whether images must be brought into the recipe's pixel limits before vLLM gets them.

    Args:
        folder: of the model, whose own limits vLLM keeps to.
        family: with the recipe's.

    Raises:
        UsageError: the recipe's limits are wider, and vLLM would narrow them again.
    """
    own = read_family(folder, family.name)
    if own.limits() == family.limits():
        return False
    if family.min_pixels < own.min_pixels or family.max_pixels > own.max_pixels:
        raise UsageError(
            f"train.trl.use_vllm: vLLM keeps to the pixel limits in the model folder, "
            f"{own.min_pixels:,} to {own.max_pixels:,}; min_pixels {family.min_pixels:,} and "
            f"max_pixels {family.max_pixels:,} are wider: narrow them, or change the folder's"
        )
    return True


def shown_images(images: Any, family: Family) -> Any:
    """Images as vLLM takes them, in the size that the family's pixel limits give them.

    Args:
        images: per row a list of pictures, or None; as TRL has them.
        family: with the recipe's limits.
    """
    if images is None or not family.has_limits:
        return images

    def resized(image: Image.Image) -> Image.Image:
        size = family.input_size_wh(image.size)
        return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)

    return [row and [resized(image) for image in row] for row in images]


def forget_images(engine: Any) -> None:
    """Let every synchronization of weights also drop the images that old weights have encoded.

    Args:
        engine: TRL's VLLMGeneration.
    """
    synchronize = engine.sync_weights

    def sync_weights() -> None:
        synchronize()
        if engine.mode == "colocate":
            engine.llm.llm_engine.reset_encoder_cache()
        elif engine.accelerator.is_main_process:
            client = engine.vllm_client
            client.session.post(f"{client.base_url}/reset_encoder_cache").raise_for_status()

    engine.sync_weights = sync_weights
