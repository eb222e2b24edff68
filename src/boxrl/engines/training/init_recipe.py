"""A first recipe for somebody's samples, model and GPUs."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from tokenizers import Tokenizer

from boxrl.config import PACKAGED_MODELS, Recipe
from boxrl.data.samples import read_samples
from boxrl.data.stats import at_most, image_tokens
from boxrl.engines.build import EngineOptions, find_family
from boxrl.engines.loading import model_errors
from boxrl.engines.steps import plan_steps
from boxrl.engines.training.memory import GIB, Estimate, estimate
from boxrl.errors import UsageError
from boxrl.families import Family
from boxrl.generation.model_folders import model_folder
from boxrl.prompts import render_target
from boxrl.types import Sample

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


VALIDATED = 200
"""Held-out samples that checkpoints are scored on, at most."""

LONGEST_READ = 50
"""Right answers that are counted in tokens, the longest in characters."""

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
    validation: Path | None = None,
) -> str:
    """A commented recipe that fits the data and the memory.

    Steps go several times through few samples and once through many; answers may be half as long
    again as the longest right one. Images are shown as large as some way of training allows; the
    limit that this takes is stated with what it costs in tokens.

    Args:
        samples: the training samples.
        images: their images folder.
        model: folder of the model, or `tiny`.
        method: `grpo` or `sft`.
        gpus: how many.
        gpu_memory: of one, in GB.
        min_pixels: least area of an image as the model sees it; the model's own where None.
        max_pixels: largest area; proposed where None.
        validation: held-out samples, whose images lie in `images` too: the best checkpoint is
            kept by them, and the trained model compared with its start.

    Raises:
        UsageError: no such folder, too few samples, no positive number, limits that cannot be, or
            nothing fits.
    """
    _check(images, gpus, gpu_memory)
    read = read_samples(samples)
    tasks = sorted({sample.task for sample in read})
    family = find_family(EngineOptions(model, min_pixels=min_pixels, max_pixels=max_pixels))
    content: dict[str, Any] = {
        "name": _name(samples), "method": method, "model": model,
        "data": {"train": samples, "test": validation, "images": images},
        "rewards": list(dict.fromkeys(name for task in tasks for name in REWARDS[task])),
    }  # fmt: skip
    least = SMALL if model in PACKAGED_MODELS else {}
    answer = _longest_answer(read, family, model_folder(model))
    fits = max(int(least.get("max_completion_length", 1024)), -(-answer * 3 // 64) * 32)
    options = {**least, "max_completion_length": fits}
    if validation is not None and gpus == 1:
        options["validate_samples"] = min(len(read_samples(validation)), VALIDATED)
    for limited in _limits(family, named=max_pixels is not None):
        changed = limited.limits() if limited is not family or min_pixels or max_pixels else {}
        content |= {key: changed.get(key) for key in ("min_pixels", "max_pixels")}
        for way, train in _ways(method, len(read), gpus, options):
            recipe = Recipe.model_validate(content | {"train": train})
            need = estimate(recipe, gpus, "ddp" if gpus == 1 else "zero3")
            if need.peak <= 0.9 * gpu_memory * 1e9:
                sizes = Counter({sample.image: sample.size_wh for sample in read}.values())
                limit = _limit_line(recipe, limited, sizes)
                facts = Facts(way, gpus, gpu_memory, need, limit, len(read), answer)
                return _render(recipe, facts)
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


def _ways(
    method: str, samples: int, gpus: int, options: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(how it is trained, the recipe's train section), from the largest to the smallest."""
    for way, trained in WAYS:
        for micro in (4, 2, 1):
            if micro > 1 and samples < micro * gpus:
                continue
            plan = plan_steps(method, samples, gpus, micro)
            yield (
                way,
                {
                    "max_steps": plan.max_steps, "prompts_per_step": plan.prompts_per_step,
                    "num_generations": 8, "micro_batch_prompts": micro,
                    "save_steps": plan.save_steps, **trained, **options,
                },
            )  # fmt: skip


def _longest_answer(samples: Sequence[Sample], family: Family, folder: Path) -> int:
    """Tokens of the longest right answer; half its characters where no tokenizer is found."""
    gold = {render_target(sample, family) for sample in samples if family.takes(sample.size_wh)}
    longest = sorted(gold, key=len)[-LONGEST_READ:]
    path = folder / "tokenizer.json"
    if not path.is_file():
        return max((len(text) // 2 for text in longest), default=0)
    with model_errors(folder):
        tokenizer = Tokenizer.from_file(str(path))
    return max((len(tokenizer.encode(text).ids) for text in longest), default=0)


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


class Facts(NamedTuple):
    """What the comments of a recipe say.

    Attributes:
        way: how it is trained.
        gpus: how many there are.
        gpu_memory: of one, in GB.
        need: what a step takes.
        limit: lines about pixel limits.
        samples: how many there are to train on.
        answer: tokens of the longest right answer.
    """

    way: str
    gpus: int
    gpu_memory: float
    need: Estimate
    limit: str
    samples: int
    answer: int


def _render(recipe: Recipe, facts: Facts) -> str:
    train, data, gpus = recipe.train, recipe.data, facts.gpus
    several = f" --launch accelerate --num-processes {gpus} --strategy zero3" if gpus > 1 else ""
    epochs = train.max_steps * train.prompts_per_step / facts.samples
    lora = ""
    if train.lora:
        quantize = f", quantize: {train.lora.quantize}" if train.lora.quantize else ""
        lora = f"  lora: {{r: {train.lora.r}, alpha: {train.lora.alpha}{quantize}}}\n"
    group = ""
    if recipe.method == "grpo":
        group = f"  num_generations: {train.num_generations} # completions per prompt\n"
    test = "  # test: held_out.jsonl                      boxrl data split makes one"
    if data.test is not None:
        test = f"  test: {_scalar(data.test)}"
    validate = "  # validate_samples: 200                     scores checkpoints on data.test, keeps the best"  # noqa: E501
    if train.validate_samples:
        validate = f"  validate_samples: {train.validate_samples} # scores checkpoints on data.test, keeps the best"  # noqa: E501
    return f"""\
# {recipe.method.upper()} by {facts.way}; about {facts.need.peak / GIB:.1f} GiB of {facts.gpu_memory:.0f} GB on {gpus} GPU(s).
#   boxrl validate THIS.yaml                  gold answers earn the full reward
#   boxrl train THIS.yaml --dry-run           where the memory goes
#   boxrl train THIS.yaml{several}
# The run goes to {recipe.out}, or the first free of {recipe.out}-2, -3, ...; out: FOLDER names another.
name: {_scalar(recipe.name)}
method: {recipe.method}
model: {_scalar(recipe.model)}
{facts.limit}prompt: standard # enhanced lets weak models find the format sooner
data:
  train: {_scalar(data.train)}
  images: {_scalar(data.images)}
{test}
rewards: [{", ".join(entry.reward.name for entry in recipe.rewards)}]
train:
  max_steps: {train.max_steps} # {epochs:.1f} times through {facts.samples:,} samples
  learning_rate: {train.learning_rate:.1e}
  prompts_per_step: {train.prompts_per_step}
  micro_batch_prompts: {train.micro_batch_prompts} # prompts in memory at once
{group}  max_completion_length: {train.max_completion_length} # the longest right answer has {facts.answer} tokens
  freeze_vision: {str(train.freeze_vision).lower()}
{lora}  save_steps: {train.save_steps}
{validate}
"""  # noqa: E501
