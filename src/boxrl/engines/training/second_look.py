"""Who looks a second time at boxes while GRPO trains: the model that a recipe names as verifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from boxrl.config import Recipe
from boxrl.engines.build import EngineOptions, build_engine
from boxrl.engines.devices import own_gpu
from boxrl.generation.verify import as_verifier, verify_boxes
from boxrl.rewards.trl import Verifier
from boxrl.types import Detections, Sample


def build_verifier(recipe: Recipe, images: Path) -> Verifier | None:
    """P(yes) of each box by the recipe's verifier; None where it names none.

    Asking leaves the training's own randomness as it was.

    Args:
        recipe: names it, and where a local one runs.
        images: folder that the samples' image paths start at.

    Raises:
        UsageError: it cannot be loaded, or nobody names its family.
    """
    if recipe.verifier is None:
        return None
    engine = as_verifier(build_engine(verifier_options(recipe), "none", images))

    def verify(asked: Sequence[tuple[Sample, Detections]]) -> Sequence[Sequence[float]]:
        with torch.random.fork_rng(own_gpu()):  # by itself it wakes every GPU it sees
            return verify_boxes(engine, asked)

    return verify


def verifier_options(recipe: Recipe) -> EngineOptions:
    """How the recipe's verifier is run or reached; on the device of the training."""
    named = recipe.verifier
    assert named is not None
    asked = EngineOptions(named.model, family=named.family, thinking=named.thinking)
    if not named.is_local:
        return replace(asked, engine="openai", base_urls=named.base_urls)
    run = recipe.engine
    return replace(asked, device=run.device, dtype=run.dtype, threads=run.threads)
