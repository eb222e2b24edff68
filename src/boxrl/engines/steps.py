"""Whether a recipe's steps can be trained on its samples, and how many are sensible; no torch."""

from __future__ import annotations

import math
from typing import NamedTuple

from boxrl.config import Recipe
from boxrl.data.files import is_whole
from boxrl.errors import UsageError

LEAST, MOST = 10, 1000
"""Steps of a first recipe."""


def check_steps(recipe: Recipe, samples: int, processes: int = 1) -> None:
    """Refuse a recipe by which nothing would be trained.

    Args:
        recipe: sizes of a step.
        samples: how many there are to train on.
        processes: that share the prompts of a step.

    Raises:
        UsageError: no step or no generation can be filled, or the prompts of a step cannot be dealt
            to the processes.
    """
    prompts = recipe.train.prompts_per_step
    if recipe.method == "grpo" and samples < prompts:
        raise UsageError(
            f"train.prompts_per_step is {prompts} and there are {samples} samples, so no step "
            f"could be filled and nothing would be trained; set train.prompts_per_step to at most "
            f"{samples}"
        )
    micro = recipe.train.micro_batch_prompts or max(prompts // processes, 1)
    if prompts % (micro * processes):
        raise UsageError(
            f"train.prompts_per_step is {prompts}; expected a multiple of micro_batch_prompts x "
            f"processes = {micro} x {processes}"
        )
    if recipe.method == "grpo":
        check_generation(prompts_generated(recipe, micro * processes), samples)


def prompts_generated(recipe: Recipe, unit: int) -> int:
    """Prompts of a generation as far as the recipe says so, else 0.

    What it does not say, TRL's config says once it is built.

    Args:
        recipe: sizes of a step.
        unit: prompts that all processes run at once.
    """
    trl = recipe.train.trl
    steps, rows = trl.get("steps_per_generation"), trl.get("generation_batch_size")
    if is_whole(rows):
        return rows // recipe.train.num_generations
    return steps * unit if is_whole(steps) and "per_device_train_batch_size" not in trl else 0


def check_generation(prompts: int, samples: int) -> None:
    """Refuse a generation that the samples do not fill: TRL drops what is left of them, here all.

    Args:
        prompts: of a generation, of all processes.
        samples: how many there are to train on.

    Raises:
        UsageError: there are fewer samples than prompts.
    """
    if samples < prompts:
        raise UsageError(
            f"train.trl: a generation is of {prompts} prompts and there are {samples} samples, so "
            "none could be filled and nothing would be trained; lower steps_per_generation or "
            f"generation_batch_size to at most {samples} prompts"
        )


class Plan(NamedTuple):
    """The steps of a first recipe.

    Attributes:
        max_steps: optimizer steps.
        prompts_per_step: prompts of one of them.
        save_steps: steps between checkpoints.
        epochs: times through the samples.
    """

    max_steps: int
    prompts_per_step: int
    save_steps: int
    epochs: float


def plan_steps(epochs: int, samples: int, gpus: int, micro: int) -> Plan:
    """Steps that fit the data: several times through few samples, once through many.

    Args:
        epochs: times through few samples.
        samples: how many there are to train on.
        gpus: that share the prompts of a step.
        micro: prompts of one forward pass.

    Raises:
        UsageError: there are fewer samples than GPUs.
    """
    unit = micro * gpus
    if samples < unit:
        raise UsageError(
            f"{samples} samples cannot be dealt to {gpus} GPU(s); take at most {samples}: --gpus"
        )
    prompts = min(8 * gpus, samples) // unit * unit
    steps = min(max(math.ceil(epochs * samples / prompts), LEAST), MOST)
    return Plan(steps, prompts, min(50, math.ceil(steps / 4)), steps * prompts / samples)
