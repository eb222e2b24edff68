"""Assistants of other makers: MiniCPM-V, DeepSeek-VL2, LFM2-VL, Kimi-VL.

Their processors cut images in ways that no coordinate depends on. Those of DeepSeek-VL2,
MiniCPM-V 4.5 and Kimi-VL are their makers' own code: nothing is computed for them. A folder with a
processor of a known class (`cutting`), as Kimi K2.5's, says so itself.
"""

from boxrl.families.record import Family

# Of 4.6 and later nobody has said how they write boxes.
MINICPM_V_4_5 = Family(
    name="minicpm-v-4.5",
    frame="grid",
    syntax="minicpm",
    grid=1000,
    model_types=("minicpmv",),
    image_tokens=("<image>", "</image>", "<slice>", "</slice>", "<unk>"),
    vision_module="vpm",
)

DEEPSEEK_VL2 = Family(
    name="deepseek-vl2",
    frame="grid",
    syntax="deepseek",
    grid=999,
    model_types=("deepseek_vl_v2",),
    image_tokens=("<image>",),
    vision_module="vision",
)

LFM2_VL = Family(
    name="lfm2-vl",
    frame="shares",
    box_key="bbox",
    grid=1000,
    resizing="lfm2",
    model_types=("lfm2_vl",),
    image_tokens=("<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>"),
    vision_module="model.vision_tower",
)

KIMI_VL = Family(
    name="kimi-vl",
    frame="shares",
    grid=1000,
    model_types=("kimi_vl", "kimi_k25"),
    image_tokens=(
        "<|media_start|>",
        "<|media_content|>",
        "<|media_pad|>",
        "<|media_end|>",
    ),
    vision_module="model.vision_tower",
)
