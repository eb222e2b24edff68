"""Activation checkpointing where memory asks for it, and nowhere else.

It runs every forward pass of training twice. Whether a step fits without it is known before: the
dry run counts it.
"""

from __future__ import annotations

from typing import NamedTuple

from boxrl.config import Recipe
from boxrl.engines.training.memory import (
    GIB,
    SHARES_STATE,
    Estimate,
    estimate,
    vllm_share,
)
from boxrl.types import Sample

NAMES = ("activation_checkpointing", "gradient_checkpointing")
"""What transformers calls it, by version."""
ROOM = 0.8
"""Share of the memory that a step without it may take: estimates are made of the first samples."""


class Settled(NamedTuple):
    """A recipe that says whether activations are computed again.

    Attributes:
        recipe: with the choice under `train.trl`.
        need: what a step of it takes.
        said: the choice in words; "" where it was the recipe's own.
    """

    recipe: Recipe
    need: Estimate
    said: str


def is_open(
    recipe: Recipe, available: float | None, processes: int = 1, shares: bool = False
) -> bool:
    """Whether there is something to choose: the recipe does not say, and a GPU is known.

    Args:
        recipe: what is trained.
        available: bytes of a GPU; None where there is none.
        processes: that train.
        shares: whether they share weights or gradients. What such a step takes is known less well,
            so there it stays as it is by default.
    """
    # Options of checkpointing alone ask for it, too; TRL refuses them where it is off.
    options = recipe.train.trl
    named = any(name in options or f"{name}_kwargs" in options for name in NAMES)
    sharded = processes > 1 and shares
    return not (named or sharded or available is None or recipe.engine.device == "cpu")


def settle(
    recipe: Recipe,
    available: float | None,
    processes: int = 1,
    strategy: str = "ddp",
    samples: list[Sample] | None = None,
) -> Settled:
    """Choose whether activations are computed again, where the recipe does not.

    Args:
        recipe: what is trained.
        available: bytes of a GPU; None where there is none.
        processes: see `estimate`.
        strategy: see `estimate`.
        samples: see `estimate`.

    Raises:
        UsageError: see `estimate`.
    """
    if available is None or not is_open(recipe, available, processes, strategy in SHARES_STATE):
        return Settled(recipe, estimate(recipe, processes, strategy, samples), "")
    left = (ROOM - vllm_share(recipe)) * available
    kept = _choose(recipe, False)
    need = estimate(kept, processes, strategy, samples)
    if need.training <= left:
        return Settled(kept, need, "activations are kept: a step runs each forward pass once")
    again = _choose(recipe, True)
    said = (
        "activations are computed again in the backward pass: kept, they would take "
        f"{need.training / GIB:.1f} GiB, above {ROOM:.0%} of what is there"
    )
    return Settled(again, estimate(again, processes, strategy, samples), said)


def _choose(recipe: Recipe, again: bool) -> Recipe:
    train = recipe.train.model_copy(update={"trl": {**recipe.train.trl, NAMES[0]: again}})
    return recipe.model_copy(update={"train": train})
