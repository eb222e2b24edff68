"""A first recipe for somebody's samples, model and GPUs."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from boxrl.config import PACKAGED_MODELS, Recipe
from boxrl.data.samples import read_samples
from boxrl.data.stats import at_most, image_tokens
from boxrl.engines.build import EngineOptions, find_family
from boxrl.engines.training.memory import GIB, Estimate, estimate
from boxrl.errors import UsageError
from boxrl.families import Family

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

SMALL = {"learning_rate": 2e-4, "max_completion_length": 96}
"""For the packaged models, as recipes/quickstart.yaml has it; 1e-6 would teach them nothing."""

REWARDS = {
    "detection": ["format", "f1"],
    "grounding": ["format", "iou"],
    "region": ["format", "choice"],
    "counting": ["format", "count"],
}
"""What each task is paid for; rewards that do not apply to a sample are left out by TRL."""


LIMIT_TOKENS = (1280, 512, 256)
"""Tokens of an image that are tried where the model's own limit does not fit, the most first."""


def write_recipe(
    samples: Path,
    images: Path,
    model: str,
    method: str,
    gpus: int,
    gpu_memory: float,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
) -> str:
    """A commented recipe that fits the memory.

    Images are shown as large as some way of training allows; the limit that this takes is stated
    with what it costs in tokens.

    Args:
        samples: the training samples.
        images: their images folder.
        model: folder of the model, or `tiny`.
        method: `grpo` or `sft`.
        gpus: how many.
        gpu_memory: of one, in GB.
        min_pixels: least area of an image as the model sees it; the model's own where None.
        max_pixels: largest area; proposed where None.

    Raises:
        UsageError: no such folder, no positive number, limits that cannot be, or nothing fits.
    """
    _check(images, gpus, gpu_memory)
    read = read_samples(samples)
    tasks = sorted({sample.task for sample in read})
    family = find_family(EngineOptions(model, min_pixels=min_pixels, max_pixels=max_pixels))
    content: dict[str, Any] = {
        "name": _name(samples), "method": method, "model": model,
        "data": {"train": samples, "images": images},
        "rewards": list(dict.fromkeys(name for task in tasks for name in REWARDS[task])),
    }  # fmt: skip
    for limited in _limits(family, named=max_pixels is not None):
        changed = limited.limits() if limited is not family or min_pixels or max_pixels else {}
        content |= {key: changed.get(key) for key in ("min_pixels", "max_pixels")}
        for way, train in _ways(model, gpus):
            recipe = Recipe.model_validate(content | {"train": train})
            need = estimate(recipe, gpus, "ddp" if gpus == 1 else "zero3")
            if need.peak <= 0.9 * gpu_memory * 1e9:
                sizes = Counter({sample.image: sample.size_wh for sample in read}.values())
                limit = _limit_line(recipe, limited, sizes)
                return _render(recipe, way, gpus, gpu_memory, need, limit)
    small = f" and images of {recipe.max_pixels:,} pixels" if recipe.max_pixels else ""
    raise UsageError(
        f"{model}: even QLoRA with one prompt at a time{small} needs {need.peak / GIB:.0f} GiB, "
        f"--gpu-memory says {gpu_memory:.0f} GB; take a smaller model or more GPUs"
    )


def _limits(family: Family, *, named: bool) -> Iterator[Family]:
    """The family as it is, then with smaller and smaller images where nobody named a limit."""
    yield family
    if family.has_limits and not named:
        for tokens in LIMIT_TOKENS:
            if (limit := tokens * family.factor**2) < family.max_pixels:
                yield at_most(family, limit)


def _ways(model: str, gpus: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """(how it is trained, the recipe's train section), from the largest to the smallest."""
    small = SMALL if model in PACKAGED_MODELS else {}
    for way, options in WAYS:
        for micro in (4, 2, 1):
            yield (
                way,
                {
                    "max_steps": 500, "prompts_per_step": 8 * gpus, "num_generations": 8,
                    "micro_batch_prompts": micro, **options, **small,
                },
            )  # fmt: skip


def _limit_line(recipe: Recipe, family: Family, sizes: Counter[tuple[int, int]]) -> str:
    """The recipe's pixel limits with their price, or what a limit would save."""
    if not family.has_limits:
        return ""

    def price(shown: Family) -> str:
        tokens = image_tokens(sizes, shown)
        return f"{tokens['mean']:,.0f} tokens an image, at most {tokens['max']:,}"

    if recipe.max_pixels is None:
        smaller = next(iter(list(_limits(family, named=False))[1:]), None)
        if smaller is None:
            return ""
        return f"# max_pixels: {smaller.max_pixels} # {price(smaller)}; now {price(family)}\n"
    own = find_family(EngineOptions(recipe.model))
    least = f"min_pixels: {recipe.min_pixels}\n" if recipe.min_pixels != own.min_pixels else ""
    price_now = f"{price(family)}; at the model's own limit {price(own)}"
    return f"{least}max_pixels: {recipe.max_pixels} # {price_now}\n"


def _check(images: Path, gpus: int, gpu_memory: float) -> None:
    if not images.is_dir():
        raise UsageError(f"--images: no folder {images}")
    if gpus < 1:
        raise UsageError(f"--gpus must be at least 1, got {gpus}")
    if not 0 < gpu_memory < math.inf:
        raise UsageError(f"--gpu-memory must be a positive number of GB, got {gpu_memory:g}")


def _name(samples: Path) -> str:
    """The file's name as far as a recipe's name, and with it the run folder, may hold it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", samples.stem).strip("-.") or "samples"


def _scalar(value: str | Path | None) -> str:
    """A text as one YAML scalar, quoted where YAML would read it as something else."""
    text = str(value)
    style = "'" if text[:1].isdigit() else None  # recipes read 1e6 as a number, PyYAML does not
    text = yaml.safe_dump(text, default_style=style, width=math.inf, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _render(
    recipe: Recipe, way: str, gpus: int, gpu_memory: float, need: Estimate, limit: str
) -> str:
    train, data = recipe.train, recipe.data
    several = f" --launch accelerate --num-processes {gpus} --strategy zero3" if gpus > 1 else ""
    lora = ""
    if train.lora:
        quantize = f", quantize: {train.lora.quantize}" if train.lora.quantize else ""
        lora = f"  lora: {{r: {train.lora.r}, alpha: {train.lora.alpha}{quantize}}}\n"
    group = ""
    if recipe.method == "grpo":
        group = f"  num_generations: {train.num_generations} # completions per prompt\n"
    return f"""\
# {recipe.method.upper()} by {way}; about {need.peak / GIB:.1f} GiB of {gpu_memory:.0f} GB on {gpus} GPU(s).
#   boxrl validate THIS.yaml                  gold answers earn the full reward
#   boxrl train THIS.yaml --dry-run           where the memory goes
#   boxrl train THIS.yaml{several}
name: {_scalar(recipe.name)}
out: {_scalar(f"runs/{recipe.name}")}
method: {recipe.method}
model: {_scalar(recipe.model)}
{limit}prompt: standard # enhanced lets weak models find the format sooner
data:
  train: {_scalar(data.train)}
  images: {_scalar(data.images)}
  # test: held_out.jsonl                      boxrl data split makes one
rewards: [{", ".join(entry.reward.name for entry in recipe.rewards)}]
train:
  max_steps: {train.max_steps}
  learning_rate: {train.learning_rate:.1e}
  prompts_per_step: {train.prompts_per_step}
  micro_batch_prompts: {train.micro_batch_prompts} # prompts in memory at once
{group}  max_completion_length: {train.max_completion_length}
  freeze_vision: {str(train.freeze_vision).lower()}
{lora}  save_steps: 50
  # validate_samples: 200                     scores checkpoints on data.test, keeps the best
"""  # noqa: E501
