"""What a training changed: the model before and after it, on held-out samples, paired."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch

from boxrl.config import Recipe, dump_recipe
from boxrl.data.files import write_json
from boxrl.data.samples import read_samples, write_samples
from boxrl.engines.answers import answer_and_evaluate
from boxrl.engines.build import build_engine, recipe_options
from boxrl.evaluate import Evaluation, compare
from boxrl.evaluate.files import METRICS_FILE, PREDICTIONS_FILE, read_evaluation, read_settings
from boxrl.generation.predict import Sampling
from boxrl.runs import START, Run

MOST_COMPARED = 200
"""Held-out samples that are answered twice where the recipe names no `train.validate_samples`."""

BATCH = 16
"""Answers that are generated together, beside a model that was just trained."""


class Change(NamedTuple):
    """The model that a recipe starts from, and the one that it trained.

    Attributes:
        before: of the first.
        after: of the second.
        difference: the paired comparison, see `boxrl.evaluate.compare`.
    """

    before: Evaluation
    after: Evaluation
    difference: dict[str, Any]


def measure_start(recipe: Recipe) -> Evaluation | None:
    """Answer the held-out samples with the model that the recipe starts from.

    Args:
        recipe: of a run whose folder is open; the first `train.validate_samples` samples of its
            `data.test` are asked, greedily, into the run's evals/before.

    Returns:
        None where the recipe names no held-out samples.

    Raises:
        DataError: an answer ended in error.
    """
    return _evaluate(recipe, START, recipe.model) if _has_held_out(recipe) else None


def measure_change(recipe: Recipe) -> Change | None:
    """Answer the held-out samples with the trained model too, into the run's evals/after.

    Called again it goes on where it was interrupted.

    Args:
        recipe: of a run that has ended; see `measure_start`.

    Returns:
        None where the recipe names no held-out samples.

    Raises:
        DataError: an answer ended in error.
        UsageError: another process is writing to the run.
    """
    if not _has_held_out(recipe):
        return None
    with Run(recipe.out, dump_recipe(recipe), {}, resume=True) as run:
        drop_outdated(recipe.out / "evals" / "after", recipe.train.max_steps)
        before = _evaluate(recipe, START, recipe.model)
        after = _evaluate(recipe, "after", str(recipe.out / "model"))
        difference = compare(before, after)
        write_json(recipe.out / "compare.json", {f"{START}|after": difference})
        evals = [*dict.fromkeys([*run.facts.get("evals", ()), START, "after"])]
        run.update(evals=evals, pairs=[[START, "after"]])
    return Change(before, after, difference)


def drop_outdated(folder: Path, steps: int) -> None:
    """Remove answers of a model that was trained further since.

    Args:
        folder: RUN/evals/NAME, whose answers were written with the fact `steps`.
        steps: that the run's model has been trained for.
    """
    if folder.is_dir() and read_settings(folder / PREDICTIONS_FILE).get("steps") != steps:
        shutil.rmtree(folder)


def _has_held_out(recipe: Recipe) -> bool:
    return recipe.data.test is not None or bool(recipe.train.validate_samples)


def _held_out(recipe: Recipe) -> tuple[Path, Path]:
    """The samples that are compared, as a file, and their images."""
    own = recipe.out / "data"
    file, images = recipe.data.test or own / "test.jsonl", recipe.data.images or own / "images"
    count, samples = recipe.train.validate_samples or MOST_COMPARED, read_samples(file)
    if len(samples) <= count:
        return file, images
    write_samples(own / "compared.jsonl", samples[:count])
    return own / "compared.jsonl", images


def _evaluate(recipe: Recipe, name: str, model: str) -> Evaluation:
    """The evaluation of that name, read where it stands already."""
    folder = recipe.out / "evals" / name
    if (folder / METRICS_FILE).is_file():
        return read_evaluation(folder)
    _free_memory()
    file, images = _held_out(recipe)
    engine = build_engine(recipe_options(recipe, model), recipe.prompt, images)
    sampling = Sampling(
        max_new_tokens=recipe.train.max_completion_length, seed=recipe.seed, batch_size=BATCH
    )
    facts: dict[str, Any] = {"model": model, "samples": str(file), "images": str(images)}
    if name == "after":
        facts["steps"] = recipe.train.max_steps
    words = f"{name} training"
    found = answer_and_evaluate(engine, file, folder, sampling, facts, words)
    del engine
    _free_memory()
    return found


def _free_memory() -> None:
    """Let go of models that nobody uses any more; a trainer holds itself, and with it its own."""
    gc.collect()
    torch.cuda.empty_cache()
