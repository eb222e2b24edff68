"""What rewards select for among one policy's draws, for docs/findings.md.

    boxrl experiment run rewards
    python perf/selection.py runs/experiments/rewards
    python perf/findings.py

The policies are the start model and what RL on AP made of it, by the cells of that outcome.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from boxrl.data.files import write_json
from boxrl.data.predictions import read_predictions
from boxrl.data.samples import read_samples
from boxrl.data.synthetic import draw_files
from boxrl.engines.answers import AnswerOptions, answer_samples
from boxrl.engines.build import EngineOptions
from boxrl.evaluate.selection import measure_selection
from boxrl.generation.predict import Sampling
from boxrl.rewards import Reward, build_reward
from boxrl.runs import run_environment

OUT = Path(__file__).parents[1] / "docs" / "findings" / "probe" / "selection.json"
SCENES, DRAWS, SEED = 300, 8, 7
POLICIES = ("ap", 0), ("ap", 1), ("ap", 2)
"""Cells of the outcome whose models are asked, beside the start."""

REWARDS: dict[str, Any] = {
    "f1": "f1",
    "ap": "ap",
    "ap50": "ap50",
    "weighted_sum": "weighted_sum",
    "precision only": {"name": "f1", "beta": 0},
    "recall only": {"name": "f1", "beta": 1000},
    "f1 at .5": {"name": "f1", "thresholds": [0.5]},
    "f1 at .85-.95-.99": {"name": "f1", "thresholds": [0.85, 0.95, 0.99]},
    "cosine": {"name": "cosine", "max_length": 96},
    "cosine, gate only": {"name": "cosine", "max_length": 1_000_000},
    "cosine, length only": {"name": "cosine", "max_length": 96, "correctness": "always"},
    "repetition near .8": {"name": "repetition", "near_iou": 0.8},
}
"""By the name on the page; the first is what the others are compared with."""


def main() -> None:
    """Draw, score and write."""
    (outcome,) = map(Path, sys.argv[1:])
    rewards = [_named(name, spec) for name, spec in REWARDS.items()]
    found = {name: probe(model, rewards) for name, model in policies(outcome)}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    commit = run_environment()["commit"]
    write_json(OUT, {"commit": commit, "scenes": SCENES, "draws": DRAWS, "policies": found})


def policies(outcome: Path) -> Iterator[tuple[str, str]]:
    """(name on the page, model), the start first."""
    cells = json.loads((outcome / "results.json").read_text("utf-8"))["cells"]
    yield "start", "tiny"
    for arm, seed in POLICIES:
        key = cells[arm][str(seed)]["cell"]
        yield f"after RL on {arm}, seed {seed}", str(outcome.parent / "cells" / key / "run/model")


def _named(name: str, spec: Any) -> Reward:
    reward = build_reward(spec)
    return Reward(name, reward.function, reward.settings)


def probe(model: str, rewards: list[Reward]) -> dict[str, Any]:
    """What `measure_selection` says of one policy, six digits of each figure."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        file = draw_files("standard", SCENES, SEED, "select", folder, p_absent=0.3)
        samples, draws = read_samples(file), folder / "predictions.jsonl"
        engine = EngineOptions(model, device="cpu", dtype="float32", threads=1)
        sampling = Sampling(temperature=1.0, max_new_tokens=96, n=DRAWS, seed=SEED, batch_size=64)
        options = AnswerOptions(engine, sampling)
        answered = answer_samples(options, samples, file, folder / "images", draws)
        found = measure_selection(samples, read_predictions(draws), answered.family, rewards)
    text = json.dumps(found)
    rounded: dict[str, Any] = json.loads(text, parse_float=lambda x: float(f"{float(x):.6g}"))
    return rounded


if __name__ == "__main__":
    main()
