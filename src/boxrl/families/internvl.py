"""InternVL, whose images are cut into tiles."""

from boxrl.families.record import Family

INTERNVL = Family(
    name="internvl",
    frame="grid",
    syntax="internvl",
    grid=1000,
    resizing="tiles",
    side=448,
    model_types=("internvl", "internvl_chat"),
    image_tokens=("<img>", "</img>", "<IMG_CONTEXT>"),
    vision_module="model.vision_tower",
)
