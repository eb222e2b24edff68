"""Training runs of recipes, on the CPU or on a phantom GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from boxrl.config import Recipe
from boxrl.engines.training import grpo, train
from boxrl.generation.model_folders import model_folder
from tests.support.recipes import tiny_recipe

from .gpu import Gpu, phantom_gpu

STEADY = {"adam_epsilon": 1e-4}
"""AdamW then keeps rounding out of gradients that are next to zero."""


def recipe_of(folder: Path, out: Path, device: str, **options: Any) -> Recipe:
    """Two steps of two prompts; `options` override the train section, `engine` its own."""
    section: dict[str, Any] = {
        "learning_rate": 1e-4, "prompts_per_step": 2, "max_completion_length": 24,
        **options, "trl": STEADY | options.get("trl", {}),
    }  # fmt: skip
    if device != "cpu":  # else the phantom's memory chooses
        section["trl"] = {"activation_checkpointing": True, **section["trl"]}
    engine = {**section.pop("engine", {}), "device": device}
    return tiny_recipe(folder, out, engine=engine, **section)


def build(recipe: Recipe) -> Any:
    """The trainer of a recipe, its model loaded."""
    return train._build(recipe, model_folder(recipe.model), None)


def run(trainer: Any, recipe: Recipe) -> None:
    """Train, and save no model."""
    train._run_trainer(trainer, recipe, recipe.name)


def ran(recipe: Recipe) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl of a run from its start to its end."""
    train.train_run(recipe)
    lines = (recipe.out / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def ran_on_phantom(recipe: Recipe, **options: Any) -> tuple[list[dict[str, Any]], Gpu]:
    """The same on a phantom GPU, and what was counted there."""
    with phantom_gpu(**options) as gpu:
        return ran(recipe), gpu


def letters(completions: Any, **_: Any) -> list[float]:
    """What a random model can earn, unlike anything for boxes."""
    return [len(set(completion[0]["content"])) / 10 for completion in completions]


@pytest.fixture
def reward_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random models are paid for what they can do."""
    monkeypatch.setattr(grpo, "TRLReward", lambda *_, **__: letters)
