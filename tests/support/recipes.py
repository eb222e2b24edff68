"""Recipes on the packaged tiny model, small enough to train a few steps in a second or two."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from boxrl.config import Recipe

NO_DEEPSPEED = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None,
    reason='needs DeepSpeed: pip install -c constraints.txt -e ".[deepspeed]"',
)
ZERO = [pytest.param(name, marks=NO_DEEPSPEED) for name in ("zero2", "zero3")]
"""The strategies of DeepSpeed, as parameters of a test."""


def tiny_recipe(
    scene_folder: Path,
    out: Path,
    *,
    method: str = "grpo",
    model: str = "tiny",
    rewards: Any = ("format", {"name": "f1", "weight": 2}),
    engine: Any = None,
    **train: Any,
) -> Recipe:
    """GRPO on the scenes of `scene_folder`; `train` overrides its section."""
    return Recipe.model_validate(
        {
            "name": "tiny",
            "method": method,
            "model": model,
            "out": out,
            "data": {"train": scene_folder / "samples.jsonl", "images": scene_folder / "images"},
            "rewards": list(rewards),
            "train": {
                "max_steps": 2,
                "learning_rate": 1e-2,
                "prompts_per_step": 4,
                "num_generations": 4,
                "max_completion_length": 32,
                **train,
            },
            "engine": {"device": "cpu", "dtype": "float32", "threads": 1, **(engine or {})},
        }
    )
