"""Google's: PaliGemma, Gemma and Gemini, which write y first."""

from dataclasses import replace

from boxrl.families.record import Family

# The last of the 1024 location tokens stands for the far edge, as in big_vision's own reader.
PALIGEMMA = Family(
    name="paligemma",
    frame="grid",
    syntax="loc",
    axes="yxyx",
    grid=1023,
    resizing="square",
    side=224,
    model_types=("paligemma",),
    image_tokens=("<image>",),
    vision_module="model.vision_tower",
)

GEMMA = Family(
    name="gemma",
    frame="grid",
    box_key="box_2d",
    axes="yxyx",
    grid=1000,
    resizing="square",
    side=896,
    model_types=("gemma3",),
    image_tokens=("<start_of_image>", "<image_soft_token>", "<end_of_image>"),
    vision_module="model.vision_tower",
)

GEMMA_4 = replace(
    GEMMA,
    name="gemma4",
    resizing="fill",
    side=0,
    factor=48,
    side_tokens=280,
    model_types=("gemma4", "gemma4_unified"),
    image_tokens=("<|image>", "<|image|>", "<image|>"),
)

GEMINI_2 = Family(name="gemini-2", frame="grid", box_key="box_2d", axes="yxyx", grid=1000)
"""Up to Gemini 3.5."""

GEMINI_3_6 = replace(GEMINI_2, name="gemini-3.6", syntax="wrapped")
"""And later: its structured output."""
