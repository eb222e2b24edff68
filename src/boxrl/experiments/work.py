"""What the process of one cell does: train, answer the held-out sets, evaluate.

    python -m boxrl.experiments.work CELL_FOLDER

It lives as long as its standard input is open: when whoever started it dies or lets go, training
ends after the current step with a checkpoint, and the next call goes on from there.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxrl.config import Recipe
from boxrl.data.files import write_json
from boxrl.errors import BoxrlError
from boxrl.guard.files import parse_yaml, read_json_object
from boxrl.runs import AVERAGE

if TYPE_CHECKING:
    from boxrl.generation.predict import Engine, Sampling

BATCH = 64
"""Scenes that are answered together."""

SPENT = "spent.jsonl"
"""Of a cell: one line per process, its processor seconds."""


def main(folder: Path) -> int:
    """Do what is left to do of a cell; returns the exit status."""
    path = folder / "cell.json"
    cell = read_json_object(path)
    recipe = Recipe.model_validate(parse_yaml(cell["recipe"]))
    with (folder / ".lock").open("w") as lock:
        # Two grids may share a cell: the second one waits and finds it finished.
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if cell["trained"]:
                train_once(recipe)
            test(recipe, cell["trained"], cell["tests"])
        except BoxrlError as error:
            print(f"boxrl: {error}", file=sys.stderr)  # noqa: T201
            return error.exit_status
        except KeyboardInterrupt:
            return 130
        finally:
            with (folder / SPENT).open("a", encoding="utf-8") as handle:
                handle.write(json.dumps({"cpu": time.process_time()}) + "\n")
    return 0


def train_once(recipe: Recipe) -> None:
    """Train, go on training, or find the training finished."""
    from boxrl.engines.training.train import train_run

    run = recipe.out / "run.json"
    started = run.is_file()
    if started and read_json_object(run)["status"] == "done":
        return
    if not started:
        shutil.rmtree(recipe.out, ignore_errors=True)  # killed before its first file stood
    train_run(recipe, resume=started)
    shutil.rmtree(recipe.out / "checkpoints", ignore_errors=True)


def test(recipe: Recipe, trained: bool, tests: Iterable[Mapping[str, Any]]) -> None:
    """Answer and evaluate every test that has no metrics yet."""
    from boxrl.engines.build import build_engine, recipe_options
    from boxrl.generation.predict import with_questions

    def build(model: str) -> Engine:
        options = recipe_options(recipe, model)
        return build_engine(options, recipe.prompt, Path(left[0]["images"]))

    left = [item for item in tests if not (Path(item["folder"]) / "metrics.json").is_file()]
    for folder in dict.fromkeys(_answering(recipe, trained, item["way"]) for item in left):
        items = [item for item in left if _answering(recipe, trained, item["way"]) == folder]
        engine = build(folder)
        start = build(recipe.model) if any(item["way"] == "drift" for item in items) else engine
        for item in items:
            images = Path(item["images"])
            asked = with_questions(engine, images=images)
            if item["way"] == "drift":
                _measure_drift(recipe, with_questions(start, images=images), asked, item)
            else:
                _test_once(recipe, asked, item)


def _answering(recipe: Recipe, trained: bool, way: str) -> str:
    """The model that answers: as trained, the mean of its last weights, or as it was."""
    if not trained:
        return recipe.model
    return str(recipe.out / (AVERAGE if way == "averaged" else "model"))


def _measure_drift(recipe: Recipe, start: Any, engine: Any, item: Mapping[str, Any]) -> None:
    from boxrl.data.samples import read_samples
    from boxrl.engines.drift import measure_drift

    began, samples = time.monotonic(), read_samples(Path(item["samples"]))
    drift = measure_drift(start, engine, samples, _sampling(recipe, sampled=True))
    folder = Path(item["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    seconds = time.monotonic() - began
    write_json(
        folder / "metrics.json",
        {"n": len(samples), "drift": 1000 * drift, "seconds": seconds},  # thousandths of a nat
    )


def _test_once(recipe: Recipe, engine: Engine, item: Mapping[str, Any]) -> None:
    from boxrl.data.controls import apply_control
    from boxrl.data.samples import read_samples
    from boxrl.engines.answers import answer_and_evaluate

    samples, way, asked = Path(item["samples"]), item["way"], None
    if way == "shuffled_labels":
        asked = apply_control(read_samples(samples), way, recipe.seed)
    answer_and_evaluate(
        engine,
        samples,
        Path(item["folder"]),
        _sampling(recipe, sampled=way == "sampled"),
        {},
        f"{item['name']} {way}",
        asked=asked,
        confidence="written" if way == "written" else "constant",
        resamples=0,
        timed=True,
    )


def _sampling(recipe: Recipe, sampled: bool) -> Sampling:
    from boxrl.generation.predict import Sampling

    return Sampling(
        temperature=recipe.train.temperature if sampled else 0.0,
        max_new_tokens=recipe.train.max_completion_length,
        seed=recipe.seed,
        batch_size=BATCH,
    )


def watch_parent() -> None:
    """Ask this process to stop as soon as its standard input is closed."""

    def wait() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    watch_parent()
    sys.exit(main(Path(sys.argv[1])))
