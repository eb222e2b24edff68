"""Models made to name places: Rex-Omni, LocateAnything, Florence-2, and Molmo 2, which points."""

from dataclasses import replace

from boxrl.families.qwen import QWEN2_5_VL
from boxrl.families.record import Family

# Its config says no more than that it is a Qwen2.5-VL: it has to be named.
REX_OMNI = replace(QWEN2_5_VL, name="rex-omni", frame="grid", syntax="rex", grid=999)

LOCATE_ANYTHING = Family(
    name="locateanything",
    frame="grid",
    syntax="locate",
    grid=1000,
    model_types=("locateanything",),
)

FLORENCE_2 = Family(
    name="florence-2",
    frame="bins",
    syntax="florence",
    grid=1000,
    resizing="square",
    side=768,
    side_tokens=577,
    model_types=("florence2",),
    image_tokens=("<image>",),
    vision_module="model.vision_tower",
    runs=False,
)

MOLMO_2 = Family(
    name="molmo2",
    frame="grid",
    syntax="molmo",
    grid=1000,
    resizing="molmo",
    model_types=("molmo2",),
    image_tokens=(
        "<|image|>",
        "<im_patch>",
        "<im_col>",
        "<im_start>",
        "<low_res_im_start>",
        "<im_end>",
    ),
    vision_module="model.vision_tower",
)
