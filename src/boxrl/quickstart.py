"""The whole chain, one straight file.

Synthetic scenes -> evaluate the under-trained tiny VLM -> GRPO on box rewards -> evaluate again ->
report. Every step is the one that a 3B model takes.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

from boxrl.config import Recipe, dump_recipe
from boxrl.data.files import write_json
from boxrl.engines.answers import answer_and_evaluate
from boxrl.engines.build import build_engine, recipe_options
from boxrl.evaluate import Evaluation, compare
from boxrl.generation.model_folders import model_folder
from boxrl.generation.predict import Sampling
from boxrl.report import build_report
from boxrl.runs import Run

WAYS = ("greedy", "sampled")


class Chain(NamedTuple):
    """What a quickstart found.

    Attributes:
        evaluations: `before_greedy`, `after_greedy`, `before_sampled`, `after_sampled`.
        differences: per way, the paired comparison of before and after.
        report: the page.
        seconds: wall time of this call.
    """

    evaluations: dict[str, Evaluation]
    differences: dict[str, dict[str, Any]]
    report: Path
    seconds: float


def run_chain(recipe: Recipe, resume: bool) -> Chain:
    """Evaluate, train, evaluate again and report, into the recipe's run folder.

    Args:
        recipe: with synthetic scenes, of which the test split is held out.
        resume: go on with an interrupted run.

    Raises:
        UsageError: the folder holds another run, or nothing to resume.
    """
    from boxrl.engines.loading import quiet
    from boxrl.engines.requirements import check_requirements
    from boxrl.engines.training.train import train, training_samples

    began, out = time.monotonic(), recipe.out
    facts = {
        "name": recipe.name,
        "method": recipe.method,
        "model": recipe.model,
        "evals": [f"{when}_{way}" for way in WAYS for when in ("before", "after")],
        "pairs": [[f"before_{way}", f"after_{way}"] for way in WAYS],
    }
    quiet()
    check_requirements(recipe, model_folder(recipe.model))
    with Run(out, dump_recipe(recipe), facts, resume) as run:
        training_samples(recipe)
        evaluations = _evaluate_model(recipe, recipe.model, "before")
        train(recipe, recipe.method.upper())
        evaluations |= _evaluate_model(recipe, str(out / "model"), "after")
        differences = {
            way: compare(evaluations[f"before_{way}"], evaluations[f"after_{way}"]) for way in WAYS
        }
        named = {f"before_{way}|after_{way}": found for way, found in differences.items()}
        write_json(out / "compare.json", named)
        run.update(seconds=round(time.monotonic() - began, 1))
    build_report(out, out / "report.html")
    return Chain(evaluations, differences, out / "report.html", time.monotonic() - began)


def _evaluate_model(recipe: Recipe, model: str, when: str) -> dict[str, Evaluation]:
    """Greedy and at the training temperature, on the held-out scenes."""
    from boxrl.engines.change import drop_outdated

    data = recipe.out / "data"
    engine = build_engine(recipe_options(recipe, model), recipe.prompt, data / "images")
    facts = {"model": model, "samples": "data/test.jsonl", "images": "data/images"}
    steps = {"steps": recipe.train.max_steps} if when == "after" else {}
    evaluations = {}
    for way, temperature in zip(WAYS, (0.0, recipe.train.temperature), strict=True):
        name = f"{when}_{way}"
        if steps:
            drop_outdated(recipe.out / "evals" / name, steps["steps"])
        sampling = Sampling(
            temperature=temperature,
            max_new_tokens=recipe.train.max_completion_length,
            seed=recipe.seed,
            batch_size=64,
        )
        evaluations[name] = answer_and_evaluate(
            engine, data / "test.jsonl", recipe.out / "evals" / name, sampling, facts | steps, name
        )
    return evaluations
