"""`boxrl pass-at-k`: what several completions per sample are worth."""

from __future__ import annotations

import argparse
from typing import Any

from boxrl.cli.options import (
    PREDICTED_FAMILY,
    add_json,
    add_predictions,
    add_samples,
    print_json,
)
from boxrl.cli.parser import add_command
from boxrl.errors import UsageError, tally


def add_verb(verbs: Any) -> None:
    """Declare `boxrl pass-at-k`, once called `draws`."""
    verb = add_command(
        verbs, "pass-at-k", "pass@k and self-consistency of predict --n",
        example="boxrl pass-at-k --samples val.jsonl --predictions draws.jsonl --k 1,4",
        aliases=["draws"],
    )  # fmt: skip
    add_samples(verb)
    add_predictions(verb)
    verb.add_argument(
        "--k", metavar="1,4,8", help="sizes, comma-separated (default: 1, 2, 4, ... and --n)"
    )
    verb.add_argument("--family", metavar="NAME", help=PREDICTED_FAMILY)
    add_json(verb)
    verb.set_defaults(run=run_pass_at_k)


def run_pass_at_k(args: argparse.Namespace) -> None:
    """Judge several completions per sample."""
    from boxrl.data.predictions import read_predictions
    from boxrl.data.samples import read_samples
    from boxrl.evaluate.files import read_settings, settings_family
    from boxrl.evaluate.pass_at_k import evaluate_draws

    settings = read_settings(args.predictions)
    figures = evaluate_draws(
        read_samples(args.samples),
        read_predictions(args.predictions),
        settings_family(settings, args.family, str(args.predictions)),
        _sizes(args.k),
        bool(settings.get("opens_thought")),
    )
    if args.json:
        print_json(figures)
    else:
        print_pass_at_k(figures)


def _sizes(text: str | None) -> list[int] | None:
    try:
        return [int(part) for part in text.split(",")] if text else None
    except ValueError as error:
        raise UsageError(f"--k: expected integers such as 1,4,8, got {text!r}") from error


def print_pass_at_k(figures: dict[str, Any]) -> None:
    """A row per k, and the answer that most completions agree on."""
    from rich.console import Console
    from rich.table import Table

    from boxrl.evaluate.behaviour import describe_behaviour

    title = f"{tally(figures['n'], 'sample')}, {tally(figures['draws'], 'completion')} each"
    table = Table(title=title, title_justify="left")
    for column in ("of them", "right at IoU .5", "mean F1"):
        table.add_column(column, justify="left" if column == "of them" else "right")
    for k, share in figures["pass@k"].items():
        table.add_row(f"best of {k}", f"{share:.3f}", f"{figures['best_of_k_f1'][k]:.3f}")
    agreed = figures["self_consistency"]
    table.add_row("most agreed on", f"{agreed['pass']:.3f}", f"{agreed['f1']:.3f}")
    Console().print(table)
    if said := describe_behaviour(figures["behaviour"]):
        Console(highlight=False).print(f"behaviour of all: {said}")
