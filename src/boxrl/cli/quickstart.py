"""`boxrl quickstart`: the whole chain on the tiny VLM."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from boxrl.cli.options import add_overrides, add_seed
from boxrl.cli.parser import add_command
from boxrl.errors import require_train_extra


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


def run_quickstart(args: argparse.Namespace) -> None:
    """Run the packaged recipe into a run folder, or go on there."""
    from rich.console import Console

    from boxrl.config import find_recipe, load_recipe
    from boxrl.runs import numbered_folder

    require_train_extra("boxrl quickstart")
    from boxrl.quickstart import run_chain

    out = args.out or numbered_folder(Path("runs/quickstart"), args.resume)
    words = [f"out={out}", f"seed={args.seed}", *args.overrides]
    recipe = load_recipe(find_recipe("quickstart"), words)
    chain = run_chain(recipe, args.resume)
    for way, difference in chain.differences.items():
        before = chain.evaluations[f"before_{way}"]
        title = f"{len(before.rows)} held-out scenes, {way}, prompt {recipe.prompt!r}"
        _print_table(title, difference, before.metrics["blind"])
    Console(soft_wrap=True).print(f"report: {chain.report}   ({chain.seconds:.0f} s)")


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
