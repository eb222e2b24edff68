"""Recipes on the packaged tiny model, small enough to train a few steps in a second or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from boxrl.config import Recipe


def tiny_recipe(
    scene_folder: Path, out: Path, *, method: str = "grpo", engine: Any = None, **train: Any
) -> Recipe:
    """GRPO on the scenes of `scene_folder`; `train` overrides its section."""
    return Recipe.model_validate(
        {
            "name": "tiny",
            "method": method,
            "out": out,
            "data": {"train": scene_folder / "samples.jsonl", "images": scene_folder / "images"},
            "rewards": ["format", {"name": "f1", "weight": 2}],
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
