"""`boxrl quickstart`: the whole chain, one straight file.

Synthetic scenes -> evaluate the under-trained tiny VLM -> GRPO on box rewards -> evaluate again ->
report. Every step is the one that a 3B model takes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxrl.cli.options import add_overrides, add_seed
from boxrl.cli.parser import add_command
from boxrl.errors import require_train_extra

if TYPE_CHECKING:
    from boxrl.config import Recipe
    from boxrl.evaluate import Evaluation


def add_verb(verbs: Any) -> None:
    """Declare `boxrl quickstart`."""
    verb = add_command(
        verbs, "quickstart", "the whole chain on the tiny VLM inside the package",
        example="boxrl quickstart --out runs/quickstart",
    )  # fmt: skip
    verb.add_argument(
        "--out", type=Path, metavar="DIR",
        help="run folder (default: runs/quickstart, or the first free of quickstart-2, -3, ...)",
    )  # fmt: skip
    add_seed(verb, "of scenes, training and sampling")
    verb.add_argument("--resume", action="store_true", help="continue an interrupted run")
    add_overrides(verb)
    verb.set_defaults(run=run_quickstart)


def run_quickstart(args: argparse.Namespace) -> int:
    """Run the packaged recipe into a run folder, or go on there; returns the exit status."""
    from boxrl.config import find_recipe, load_recipe
    from boxrl.runs import numbered_folder

    require_train_extra("boxrl quickstart")
    out = args.out or numbered_folder(Path("runs/quickstart"), args.resume)
    words = [f"out={out}", f"seed={args.seed}", *args.overrides]
    return run_chain(load_recipe(find_recipe("quickstart"), words), args.resume)


def run_chain(recipe: Recipe, resume: bool) -> int:
    """Evaluate, train, evaluate again and report, as the recipe says."""
    from rich.console import Console

    from boxrl.config import dump_recipe
    from boxrl.data.files import write_json
    from boxrl.engines.loading import quiet
    from boxrl.engines.training.train import train, training_samples
    from boxrl.evaluate import compare
    from boxrl.report import build_report
    from boxrl.runs import Run

    began = time.monotonic()
    out = recipe.out
    facts = {
        "name": recipe.name,
        "method": recipe.method,
        "model": recipe.model,
        "evals": [f"{when}_{how}" for how in ("greedy", "sampled") for when in ("before", "after")],
        "pairs": [[f"before_{how}", f"after_{how}"] for how in ("greedy", "sampled")],
    }
    quiet()
    with Run(out, dump_recipe(recipe), facts, resume) as run:
        training_samples(recipe)
        evaluations = _evaluate_model(recipe, recipe.model, "before")
        train(recipe, "GRPO")
        evaluations |= _evaluate_model(recipe, str(out / "model"), "after")
        differences = {
            f"before_{how}|after_{how}": compare(
                evaluations[f"before_{how}"], evaluations[f"after_{how}"]
            )
            for how in ("greedy", "sampled")
        }
        write_json(out / "compare.json", differences)
        run.update(seconds=round(time.monotonic() - began, 1))
    build_report(out, out / "report.html")
    n = len(evaluations["before_greedy"].rows)
    for how in ("greedy", "sampled"):
        _print_table(
            f"{n} held-out scenes, {how}, prompt {recipe.prompt!r}",
            differences[f"before_{how}|after_{how}"],
            evaluations[f"before_{how}"].metrics["blind"],
        )
    Console(soft_wrap=True).print(
        f"report: {out / 'report.html'}   ({time.monotonic() - began:.0f} s)"
    )
    return 0


def _evaluate_model(recipe: Recipe, model: str, when: str) -> dict[str, Evaluation]:
    """Greedy and at the training temperature, on the held-out scenes."""
    from boxrl.engines.answers import answer_and_evaluate
    from boxrl.engines.build import build_engine, recipe_options
    from boxrl.generation.predict import Sampling

    data = recipe.out / "data"
    engine = build_engine(recipe_options(recipe, model), recipe.prompt, data / "images")
    facts = {"model": model, "samples": "data/test.jsonl", "images": "data/images"}
    evaluations = {}
    for how, temperature in {"greedy": 0.0, "sampled": recipe.train.temperature}.items():
        name = f"{when}_{how}"
        sampling = Sampling(
            temperature=temperature,
            max_new_tokens=recipe.train.max_completion_length,
            seed=recipe.seed,
            batch_size=64,
        )
        evaluations[name] = answer_and_evaluate(
            engine, data / "test.jsonl", recipe.out / "evals" / name, sampling, facts, name
        )
    return evaluations


def _print_table(title: str, difference: dict[str, Any], blind: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from boxrl.evaluate.summary import HEADLINE_METRICS, look_up

    table = Table(title=title, title_justify="left")
    for column in ("metric", "before", "after", "difference, 95 % interval", "blind"):
        table.add_column(column, justify="left" if column == "metric" else "right", no_wrap=True)
    for metric in HEADLINE_METRICS:
        row, digits = difference["metrics"].get(metric.key), metric.digits
        if row is None:
            continue
        change, low, high = (f"{row[k]:+.{digits}f}" for k in ("difference", "low", "high"))
        unseen = look_up(blind, metric.key)
        table.add_row(
            metric.name,
            f"{row['a']:.{digits}f}",
            f"{row['b']:.{digits}f}",
            f"{change} [{low}, {high}]",
            "" if unseen is None else f"{unseen:.{digits}f}",
        )
    Console().print(table)
