"""Qwen-VL: markers and a grid in 2, JSON in pixels of the resized image in 2.5, a grid from 3."""

from dataclasses import replace

from boxrl.families.record import Family

_IMAGE_TOKENS = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

QWEN2_VL = Family(
    name="qwen2-vl",
    frame="grid",
    syntax="qwen2",
    grid=1000,
    resizing="smart",
    factor=28,
    min_pixels=56 * 56,
    max_pixels=16384 * 28 * 28,
    model_types=("qwen2_vl",),
    image_tokens=_IMAGE_TOKENS,
    vision_module="model.visual",
)

QWEN2_5_VL = Family(
    name="qwen2.5-vl",
    frame="resized",
    resizing="smart",
    factor=28,
    min_pixels=56 * 56,
    max_pixels=16384 * 28 * 28,
    model_types=("qwen2_5_vl",),
    image_tokens=_IMAGE_TOKENS,
    vision_module="model.visual",
)

QWEN3_VL = Family(
    name="qwen3-vl",
    frame="grid",
    grid=1000,
    resizing="smart",
    factor=32,
    min_pixels=65_536,
    max_pixels=16_777_216,
    model_types=("qwen3_vl", "qwen3_vl_moe"),
    image_tokens=_IMAGE_TOKENS,
    vision_module="model.visual",
)

QWEN3_5 = replace(QWEN3_VL, name="qwen3.5", model_types=("qwen3_5", "qwen3_5_moe"))
