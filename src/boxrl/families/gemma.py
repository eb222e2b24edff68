"""Google's: PaliGemma and Gemma, which write y first and see an image at one fixed size."""

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
