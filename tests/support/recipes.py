"""Recipes on the packaged tiny model, small enough to train a few steps in a second or two."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from boxrl.config import Recipe
from boxrl.data.samples import read_samples, write_samples
from boxrl.data.synthetic import LABELS

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


def write_questions(scenes: Path, file: Path, each: int = 2) -> Path:
    """Up to three questions about every image of `scenes`; the second has no answer."""
    asked = []
    for sample in read_samples(scenes / "samples.jsonl"):
        absent = next(label for label in LABELS if label not in sample.labels)
        none = replace(sample, id=f"{sample.id}-no", labels=(absent,), objects=())
        more = replace(sample, id=f"{sample.id}-more", labels=(*sample.labels, absent))
        asked += [sample, none, more][:each]
    write_samples(file, asked)
    return file
