"""A run folder as `boxrl quickstart` leaves it, made without a model: faulty and good answers."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from boxrl.data.files import write_json
from boxrl.data.predictions import Prediction, read_predictions, render_prediction
from boxrl.data.samples import read_samples, write_samples
from boxrl.data.synthetic import World, scenes
from boxrl.engines.tiny.faults import render_faulty_target
from boxrl.evaluate import Evaluation, compare, evaluate, files
from boxrl.evaluate.files import read_settings
from boxrl.families import FAMILIES, Family
from boxrl.prompts import render_target
from boxrl.types import Sample

FAMILY = FAMILIES["qwen2.5-vl"]
EVALS = ("before_greedy", "after_greedy", "before_sampled", "after_sampled")
RESAMPLES = 20
FAULTY_SHARE = {
    "before_greedy": 0.6,
    "after_greedy": 0.1,
    "before_sampled": 1,
    "after_sampled": 0.3,
}


def build_run(path: Path, samples: int = 24, steps: int = 60) -> Path:
    """A finished run with four evaluations and training curves."""
    drawn = list(scenes(World(scale=2), samples, 3, "test"))
    images = path / "data" / "images"
    images.mkdir(parents=True)
    for scene in drawn:
        scene.image.save(images / scene.sample.image)
    asked = [scene.sample for scene in drawn]
    write_samples(path / "data" / "test.jsonl", asked)
    pairs = [["before_greedy", "after_greedy"], ["before_sampled", "after_sampled"]]
    facts = {"name": "quickstart", "status": "done", "method": "grpo", "seconds": 431.0}
    write_json(path / "run.json", facts | {"model": "tiny", "evals": list(EVALS), "pairs": pairs})
    environment = {"versions": {"numpy": "2.4", "torch": "2.13.0"}, "commit": "0123456789abcdef"}
    write_json(path / "environment.json", environment | {"platform": "Linux"})
    (path / "recipe.yaml").write_text(
        "name: quickstart\nmethod: grpo\nrewards: [format, {name: f1, weight: 2}]\n"
    )
    write_jsonl(path / "metrics.jsonl", [training_step(step) for step in range(1, steps + 1)])
    found = {
        name: write_evaluation(path, name, asked, faulty_answer(FAULTY_SHARE[name]))
        for name in EVALS
    }
    compared = {f"{a}|{b}": compare(found[a], found[b], resamples=RESAMPLES) for a, b in pairs}
    write_json(path / "compare.json", compared)
    return path


def write_evaluation(
    run: Path, name: str, samples: list[Sample], answer: Callable[[Sample], str]
) -> Evaluation:
    """evals/NAME with one answer per sample, evaluated."""
    folder = run / "evals" / name
    folder.mkdir(parents=True, exist_ok=True)
    meta = {"samples": "data/test.jsonl", "images": "data/images", "family": FAMILY.name}
    sampling = {"temperature": 0.0 if "greedy" in name else 1.0, "max_new_tokens": 96}
    write_json(
        folder / "predictions.meta.json", meta | {"prompt": "standard", "sampling": sampling}
    )
    with (folder / "predictions.jsonl").open("w", encoding="utf-8") as file:
        for sample in samples:
            text = answer(sample)
            file.write(
                render_prediction(Prediction(sample.id, text, len(text) // 3, "stop")) + "\n"
            )
    return evaluate_again(run, name)


def evaluate_again(run: Path, name: str, **rules: Any) -> Evaluation:
    """Judge the predictions of evals/NAME as they are now, with `evaluate`'s rules."""
    folder, samples = run / "evals" / name, run / "data" / "test.jsonl"
    settings = read_settings(folder / "predictions.jsonl")
    answers = read_predictions(folder / "predictions.jsonl")
    asked = [sample for sample in read_samples(samples) if sample.id in answers]
    found = evaluate(asked, answers, FAMILY, settings=settings, resamples=RESAMPLES, **rules)
    return files.write_evaluation(folder, found, samples=samples)


def faulty_answer(share: float, family: Family = FAMILY) -> Callable[[Sample], str]:
    """Answers of which about `share` hold faults; the same on every call."""

    def answer(sample: Sample) -> str:
        rng = random.Random(f"{sample.id}/{share}")
        if rng.random() < share:
            return render_faulty_target(sample, family, rng)
        return render_target(sample, family)

    return answer


def training_step(step: int) -> dict[str, Any]:
    """A row of metrics.jsonl whose rewards rise and whose length falls."""
    rise = 1 - math.exp(-step / 20)
    noise = 0.04 * math.sin(step * 2.7)
    return {
        "step": step,
        "time_s": 2.5 * step,
        "loss": 0.01 * noise,
        "reward": 0.9 + 1.7 * rise + noise,
        "reward_std": 0.4 * (1 - rise),
        "rewards": {"format": 0.4 + 0.58 * rise, "f1": 0.2 + 0.45 * rise + noise},
        "completion_length": 42 - 14 * rise + 10 * noise,
        "zero_variance": 0.1 + 0.3 * rise,
        "clipped": 0.2 * (1 - rise),
        "entropy": 0.9 - 0.6 * rise,
        "kl": None,
        "grad_norm": 1.5 + noise,
        "learning_rate": 2e-4,
    }


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
