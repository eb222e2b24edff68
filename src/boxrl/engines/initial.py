"""A first recipe for somebody's samples, model and GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from boxrl.config import Recipe
from boxrl.data.samples import read_samples
from boxrl.engines.estimate import GIB, Estimate, estimate
from boxrl.errors import UsageError

WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("full fine-tuning", {"learning_rate": 1e-6}),
    ("LoRA, vision tower frozen", {
        "learning_rate": 1e-5, "freeze_vision": True, "lora": {"r": 64, "alpha": 128},
    }),
    ("QLoRA, vision tower frozen", {
        "learning_rate": 1e-5, "freeze_vision": True,
        "lora": {"r": 64, "alpha": 128, "quantize": "4bit"},
    }),
)  # fmt: skip
"""From the largest to the smallest; the first that fits is taken."""

REWARDS = {
    "detection": ["format", "f1"],
    "grounding": ["format", "iou"],
    "region": ["format", "choice"],
    "counting": ["format", "count"],
}
"""What each task is paid for; rewards that do not apply to a sample are left out by TRL."""


def write_recipe(
    samples: Path, images: Path, model: str, method: str, gpus: int, gpu_memory: float
) -> str:
    """A commented recipe that fits the memory.

    Args:
        samples: the training samples.
        images: their images folder.
        model: folder of the model, or `tiny`.
        method: `grpo` or `sft`.
        gpus: how many.
        gpu_memory: of one, in GB.

    Raises:
        UsageError: nothing fits.
    """
    tasks = sorted({sample.task for sample in read_samples(samples)})
    rewards = list(dict.fromkeys(name for task in tasks for name in REWARDS[task]))
    for way, options in WAYS:
        for micro in (4, 2, 1):
            content = {
                "name": samples.stem, "method": method, "model": model,
                "data": {"train": samples, "images": images}, "rewards": rewards,
                "train": {
                    "max_steps": 500, "prompts_per_step": 8 * gpus, "num_generations": 8,
                    "micro_batch_prompts": micro, **options,
                },
            }  # fmt: skip
            recipe = Recipe.model_validate(content)
            need = estimate(recipe, gpus, "ddp" if gpus == 1 else "zero3")
            if need.peak <= 0.9 * gpu_memory * 1e9:
                return _render(recipe, way, gpus, gpu_memory, need)
    raise UsageError(
        f"{model}: even QLoRA with one prompt at a time needs {need.peak / GIB:.0f} GiB, "
        f"--gpu-memory says {gpu_memory:.0f} GB; take a smaller model or more GPUs"
    )


def _render(recipe: Recipe, way: str, gpus: int, gpu_memory: float, need: Estimate) -> str:
    train, data = recipe.train, recipe.data
    several = f" --launch accelerate --num-processes {gpus} --strategy zero3" if gpus > 1 else ""
    lora = ""
    if train.lora:
        quantize = f", quantize: {train.lora.quantize}" if train.lora.quantize else ""
        lora = f"  lora: {{r: {train.lora.r}, alpha: {train.lora.alpha}{quantize}}}\n"
    grpo = recipe.method == "grpo"
    return f"""\
# {recipe.method.upper()} by {way}; about {need.peak / GIB:.1f} GiB of {gpu_memory:.0f} GB on {gpus} GPU(s).
#   boxrl validate THIS.yaml                  gold answers earn the full reward
#   boxrl train THIS.yaml --dry-run           where the memory goes
#   boxrl train THIS.yaml{several}
name: {recipe.name}
out: runs/{recipe.name}
method: {recipe.method}
model: {recipe.model}
prompt: standard # enhanced lets weak models find the format sooner
data:
  train: {data.train}
  images: {data.images}
  # test: held_out.jsonl                      boxrl data split makes one
rewards: [{", ".join(str(reward) for reward in recipe.rewards)}]
train:
  max_steps: {train.max_steps}
  learning_rate: {train.learning_rate:.1e}
  prompts_per_step: {train.prompts_per_step}
  micro_batch_prompts: {train.micro_batch_prompts} # prompts in memory at once
{f"  num_generations: {train.num_generations} # completions per prompt" if grpo else ""}
  max_completion_length: {train.max_completion_length}
  freeze_vision: {str(train.freeze_vision).lower()}
{lora}  save_steps: 50
  # validate_samples: 200                     scores checkpoints on data.test, keeps the best
"""  # noqa: E501
