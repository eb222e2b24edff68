"""GLM-V."""

from boxrl.families.record import Family

GLM_4V = Family(
    name="glm-4v",
    frame="grid",
    syntax="glm",
    grid=1000,
    factor=0,
    model_types=("glm4v", "glm4v_moe"),
    image_token="<|image|>",
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
