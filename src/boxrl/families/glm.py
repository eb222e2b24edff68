"""GLM-V."""

from dataclasses import replace

from boxrl.families.record import Family

GLM_4V = Family(
    name="glm-4v",
    frame="grid",
    syntax="glm",
    grid=1000,
    resizing="glm",
    factor=28,
    min_pixels=112 * 112 // 2,
    max_pixels=15_000 * 28 * 28 // 2,
    limit_frames=2,
    model_types=("glm4v", "glm4v_moe"),
    image_tokens=(
        "<|begin_of_image|>",
        "<|end_of_image|>",
        "<|image|>",
        "<|begin_of_video|>",
        "<|end_of_video|>",
        "<|video|>",
    ),
    vision_module="model.visual",
)

GLM_4_6V = replace(GLM_4V, name="glm-4.6v", model_types=("glm46v",))
