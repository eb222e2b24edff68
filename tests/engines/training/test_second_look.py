"""The verifier of a recipe: asked as `boxrl verify` asks, and a GRPO run that learns from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from boxrl.config import Recipe  # noqa: E402
from boxrl.data.samples import read_samples  # noqa: E402
from boxrl.data.synthetic import draw_files  # noqa: E402
from boxrl.engines.training.second_look import build_verifier, verifier_options  # noqa: E402
from boxrl.engines.training.train import train_run  # noqa: E402
from boxrl.types import Detections  # noqa: E402


def recipe(folder: Path, **changes: object) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "x",
            "method": "grpo",
            "out": folder / "run",
            "data": {"train": folder / "train.jsonl", "images": folder / "images"},
            "rewards": ["format", "verified"],
            "verifier": {"model": "tiny-taught"},
            "train": {
                "max_steps": 1, "prompts_per_step": 1, "num_generations": 2,
                "max_completion_length": 48,
            },
            "engine": {"device": "cpu", "dtype": "float32", "threads": 1},
        }
        | changes
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    draw_files("standard", 4, 0, "train", folder)
    return folder


def test_asking_leaves_the_trainings_own_randomness_alone(folder: Path) -> None:
    look = build_verifier(recipe(folder), folder / "images")
    assert look is not None
    samples = read_samples(folder / "train.jsonl")
    asked = [(sample, Detections.from_objects(sample.targets)) for sample in samples]
    before = torch.get_rng_state()
    found = look(asked)
    assert torch.equal(torch.get_rng_state(), before)
    assert list(map(len, found)) == [len(boxes) for _, boxes in asked]
    assert look([(samples[0], Detections.from_objects([]))]) == [()]


def test_a_run_pays_what_the_verifier_says(folder: Path) -> None:
    train_run(recipe(folder))
    rows = [json.loads(x) for x in (folder / "run/completions.jsonl").read_text().splitlines()]
    paid = [row["rewards"]["verified"] for row in rows]
    assert len(paid) == 2
    assert all(0 <= value <= 1 for value in paid)


def test_servers_are_asked_where_the_recipe_names_them(folder: Path) -> None:
    named = {"model": "big", "family": "qwen3-vl", "base_urls": ["http://localhost:1/v1"]}
    options = verifier_options(recipe(folder, verifier=named))
    assert (options.engine, options.model, options.device) == ("openai", "big", "auto")
    assert verifier_options(recipe(folder)).device == "cpu"
    assert build_verifier(recipe(folder, rewards=["f1"], verifier=None), folder) is None
