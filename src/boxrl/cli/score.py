"""`boxrl score`: rewards of finished completions, without a model."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from boxrl.cli.options import (
    NO_MODEL_FAMILY,
    REWARDS,
    Input,
    add_json,
    add_limits,
    print_json,
    read_rewards,
)
from boxrl.cli.parser import add_command
from boxrl.errors import tally
from boxrl.guard.outputs import check_outputs


def add_verb(verbs: Any) -> None:
    """Declare `boxrl score`."""
    verb = add_command(
        verbs, "score", "rewards of finished completions, without a model",
        example="boxrl score --completions completions.jsonl --rewards f1,format",
    )  # fmt: skip
    verb.add_argument(
        "--completions", type=Input, required=True, metavar="FILE.jsonl",
        help='rows {"id", "completion", "objects", "width"?, "height"?, "n_tokens"?, '
        '"input_size_wh"?}',
    )  # fmt: skip
    verb.add_argument("--rewards", required=True, metavar="a,b,c", help=REWARDS)
    verb.add_argument(
        "--family", default="plain", metavar="NAME",
        help=f"{NO_MODEL_FAMILY}; others need width and height",
    )  # fmt: skip
    verb.add_argument(
        "--answer-tag",
        choices=("required", "optional"),
        default="required",
        help="optional: an answer without tags counts, as makers' own prompts ask for it",
    )
    add_limits(verb)
    verb.add_argument(
        "--out", type=Path, metavar="FILE.jsonl", help='write {"id", "rewards"} per completion'
    )
    add_json(verb)
    verb.set_defaults(run=run_score)


def run_score(args: argparse.Namespace) -> None:
    """Score a file of completions."""
    from boxrl.families import build_family
    from boxrl.rewards.finished import (
        frame_hints,
        read_finished,
        score_finished,
        thought_hints,
        write_rewards,
    )
    from boxrl.rewards.format import FORM_ONLY

    if args.out:
        check_outputs([(args.out, "rewards")], [args.completions])
    rewards = read_rewards(args.rewards)
    family = build_family(args.family, args.min_pixels, args.max_pixels)
    rows = read_finished(args.completions, family, args.answer_tag)
    values = score_finished(rows, rewards)
    if args.out:
        write_rewards(args.out, rows, values)
    hints = thought_hints(rows)
    if any(r.function not in FORM_ONLY for r in rewards):
        hints += frame_hints(rows, family)
    figures = {name: describe_values(column) for name, column in values.items()}
    if args.json:
        out = args.out and str(args.out)
        print_json({"n": len(rows), "rewards": figures, "hints": hints, "out": out})
    else:
        print_rewards(len(rows), args.family, figures)
        for hint in hints:
            print(f"hint: {hint}")


def describe_values(values: Sequence[float | None]) -> dict[str, float | int | None]:
    """How many values apply, their mean, population standard deviation, least and most."""
    from statistics import fmean, pstdev

    applicable = [value for value in values if value is not None]
    if not applicable:
        return {"n": 0, "mean": None, "std": None, "min": None, "max": None}
    return {
        "n": len(applicable),
        "mean": fmean(applicable),
        "std": pstdev(applicable),
        "min": min(applicable),
        "max": max(applicable),
    }


def print_rewards(
    n: int, family: str, figures: Mapping[str, Mapping[str, float | int | None]]
) -> None:
    """A line per reward."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{tally(n, 'completion')}, family {family}", title_justify="left")
    table.add_column("reward")
    for column in ("applies to", "mean", "std", "min", "max"):
        table.add_column(column, justify="right")
    for name, row in figures.items():
        numbers = [row[key] for key in ("mean", "std", "min", "max")]
        cells = ["-" if number is None else f"{number:.3f}" for number in numbers]
        table.add_row(name, f"{row['n']:,}", *cells)
    Console(highlight=False).print(table)
