"""A first recipe for somebody's samples, model and GPUs."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from boxrl.config import Recipe
from boxrl.data.samples import read_samples
from boxrl.data.stats import at_most, image_tokens
from boxrl.data.summary import read_summary
from boxrl.engines.build import EngineOptions
from boxrl.engines.known_models import find_config, find_known_family
from boxrl.engines.steps import plan_steps
from boxrl.engines.training.load import token_counter
from boxrl.engines.training.memory import (
    GIB,
    Estimate,
    estimate,
    least,
    needed_with_vllm,
    vllm_share,
)
from boxrl.errors import UsageError
from boxrl.families import Family
from boxrl.prompts import render_target
from boxrl.rewards import OF_TASK
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

EPOCHS = {"grpo": 10, "sft": 3}
"""Times through few samples, by method."""

NARROW = 512
"""A language model of fewer channels has some million weights, as the packaged ones."""

NARROW_RATE = {"grpo": 2e-4, "sft": 1e-3}
"""Learning rates of narrow models, which those of WAYS would teach nothing."""

NARROW_EPOCHS = EPOCHS | {"sft": 30}
"""To a narrow model a label that it does not know is a row of single letters."""

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
    summary: Path | None = None,
) -> str:
    """A commented recipe that fits the data and the memory.

    Steps go several times through few samples and once through many; answers may be half as long
    again as the longest right one. Images are shown as large as some way of training allows; the
    limit that this takes is stated with what it costs in tokens.

    Args:
        samples: the training samples.
        images: their images folder.
        model: folder of the model, `tiny`, or the name of a published model.
        method: `grpo` or `sft`.
        gpus: how many.
        gpu_memory: of one, in GB.
        min_pixels: least area of an image as the model sees it; the model's own where None.
        max_pixels: largest area; proposed where None.
        validation: held-out samples, whose images lie in `images` too: the best checkpoint is
            kept by them, and the trained model compared with its start.
        summary: figures of the samples, which are not read then.

    Raises:
        UsageError: no such folder, too few samples, no positive number, limits that cannot be, or
            nothing fits.
    """
    _check(images if summary is None else None, gpus, gpu_memory)
    family = find_known_family(EngineOptions(model, min_pixels=min_pixels, max_pixels=max_pixels))
    if summary is None:
        read = read_samples(samples)
        number, largest = len(read), None
    else:
        told = read_summary(summary)
        read = largest = told.largest(family)
        number = told.samples
    tasks = sorted({sample.task for sample in read})
    content: dict[str, Any] = {
        "name": _name(samples), "method": method, "model": model,
        "data": {"train": samples, "test": validation, "images": images},
        "rewards": ["format", *dict.fromkeys(OF_TASK[task] for task in tasks)],
    }  # fmt: skip
    answer = _longest_answer(read, family, model)
    epochs, options = _pace(model, method, answer)
    if validation is not None and gpus == 1:
        options["validate_samples"] = min(len(read_samples(validation)), VALIDATED)
    for limited in _limits(family, named=max_pixels is not None):
        changed = limited.limits() if limited is not family or min_pixels or max_pixels else {}
        content |= {key: changed.get(key) for key in ("min_pixels", "max_pixels")}
        for way, trains in _ways(epochs, number, gpus, options).items():
            recipes = [Recipe.model_validate(content | {"train": train}) for train in trains]
            recipe, need, needed = _largest_fit(recipes, gpus, 0.9 * gpu_memory * 1e9, largest)
            if need is not None:
                sizes = Counter({sample.image: sample.size_wh for sample in read}.values())
                limit = _limit_line(recipe, limited, sizes)
                facts = Facts(way, gpus, gpu_memory, need, limit, number, answer)
                return _render(recipe, facts)
    shrunk = f" and images of {recipe.max_pixels:,} pixels" if recipe.max_pixels else ""
    raise UsageError(
        f"{model}: even QLoRA with one prompt at a time{shrunk} needs {needed / GIB:.1f} GiB; of "
        f"--gpu-memory {gpu_memory:g} GB it may take {0.9 * gpu_memory * 1e9 / GIB:.1f} GiB; take "
        "a smaller model or more GPUs"
    )


def _largest_fit(
    recipes: Sequence[Recipe], gpus: int, most: float, samples: list[Sample] | None
) -> tuple[Recipe, Estimate | None, float]:
    """The first recipe that fits and its estimate, else the last one; and the bytes it needs.

    Args:
        recipes: that differ in the prompts of a micro-batch alone, the most first.
        gpus: how many.
        most: bytes of one that may be taken.
        samples: see `estimate`.
    """
    strategy, smallest = "ddp" if gpus == 1 else "zero3", recipes[-1]
    if (needed := least(smallest, gpus, strategy)) > most:
        return smallest, None, needed  # whatever a micro-batch is
    need = estimate(smallest, gpus, strategy, samples)
    if need.peak > most:
        return smallest, None, need.peak
    one = smallest.train.micro_batch_prompts or 1
    for recipe in recipes[:-1]:
        more = (recipe.train.micro_batch_prompts or 1) / one - 1
        if need.training + 0.8 * more * need.memory["activations"] > most:
            continue  # it grows nearly by the prompt
        larger = estimate(recipe, gpus, strategy, samples)
        if larger.peak <= most:
            return recipe, larger, larger.peak
    return smallest, need, need.peak


def _limits(family: Family, *, named: bool) -> Iterator[Family]:
    """The family as it is, then with smaller and smaller images where nobody named a limit."""
    yield family
    if family.has_limits and not named:
        for tokens in LIMIT_TOKENS:
            if (limit := tokens * family.factor**2) < family.max_pixels:
                yield at_most(family, limit)


def _pace(model: str, method: str, answer: int) -> tuple[int, dict[str, Any]]:
    """Times through few samples, and keys of `train`, by the width of the model."""
    narrow = _is_narrow(model)
    length = max(96 if narrow else 1024, -(-answer * 3 // 64) * 32)
    if narrow:
        rate = {"learning_rate": NARROW_RATE[method]}
        return NARROW_EPOCHS[method], {"max_completion_length": length, **rate}
    return EPOCHS[method], {"max_completion_length": length}


def _ways(
    epochs: int, samples: int, gpus: int, options: dict[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """How it is trained -> train sections of fewer and fewer prompts in a micro-batch."""
    found: dict[str, list[dict[str, Any]]] = {}
    for way, trained in WAYS:
        for micro in (4, 2, 1):
            if micro > 1 and samples < micro * gpus:
                continue
            plan = plan_steps(epochs, samples, gpus, micro)
            section = {
                "max_steps": plan.max_steps, "prompts_per_step": plan.prompts_per_step,
                "num_generations": 8, "micro_batch_prompts": micro,
                "save_steps": plan.save_steps, **trained, **options,
            }  # fmt: skip
            found.setdefault(way, []).append(section)
    return found


def _longest_answer(samples: Sequence[Sample], family: Family, model: str) -> int:
    """Tokens of the longest right answer, the one that ends it included."""
    gold = {render_target(sample, family) for sample in samples if family.takes(sample.size_wh)}
    longest = sorted(gold, key=len)[-LONGEST_READ:]
    return max(map(token_counter(model), longest), default=0) + 1


def _limit_line(recipe: Recipe, family: Family, sizes: Counter[tuple[int, int]]) -> str:
    """The recipe's pixel limits with their price, or what a limit would save."""
    if not family.has_limits:
        return ""

    def price(shown: Family) -> str:
        tokens = image_tokens(sizes, shown)
        return f"{tokens['mean']:,.0f} tokens an image, at most {tokens['max']:,}"

    if recipe.max_pixels is None:
        smaller = next(iter(list(_limits(family, named=False))[1:]), None)
        if smaller is None or price(smaller) == price(family):
            return ""
        return f"# max_pixels: {smaller.max_pixels} # {price(smaller)}; now {price(family)}\n"
    own = find_known_family(EngineOptions(recipe.model))
    least = f"min_pixels: {recipe.min_pixels}\n" if recipe.min_pixels != own.min_pixels else ""
    price_now = f"{price(family)}; at the model's own limit {price(own)}"
    return f"{least}max_pixels: {recipe.max_pixels} # {price_now}\n"


def _check(images: Path | None, gpus: int, gpu_memory: float) -> None:
    if images is not None and not images.is_dir():
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


def _is_narrow(model: str) -> bool:
    """Whether a model is too small for the settings of large ones."""
    return bool(find_config(model).get_text_config().hidden_size < NARROW)


def _vllm_line(recipe: Recipe, facts: Facts) -> str:
    """A proposal that vLLM draw the completions, where it fits beside what the trainer keeps."""
    if recipe.method != "grpo" or _is_narrow(recipe.model):
        return ""
    asleep = {"use_vllm": True, "vllm_enable_sleep_mode": True}
    train = recipe.train.model_copy(update={"trl": asleep})
    with_vllm, available = recipe.model_copy(update={"train": train}), facts.gpu_memory * 1e9
    kept = replace(facts.need, generating=facts.need.kept)
    needed = needed_with_vllm(with_vllm, kept, available)
    if needed > 0.9 * available:
        return ""
    return (
        "  # trl: {use_vllm: true, vllm_enable_sleep_mode: true} # vLLM draws the completions, in "
        f"{vllm_share(with_vllm) * available / GIB:.1f} GiB that sleep while it trains; "
        f"{needed / GIB:.1f} GiB in all\n"
    )


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
{_vllm_line(recipe, facts)}"""  # noqa: E501
