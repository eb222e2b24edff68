"""`boxrl compare`: runs over the same samples, paired with the first."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxrl.cli.options import (
    RESAMPLES,
    add_format,
    add_json,
    add_seed,
    add_shown_images,
    chosen_format,
    integer,
    print_json,
)
from boxrl.cli.parser import add_command
from boxrl.errors import UsageError, tally
from boxrl.guard.outputs import check_outputs

if TYPE_CHECKING:
    from boxrl.evaluate.tables import CitedTable, Format


def add_verb(verbs: Any) -> None:
    """Declare `boxrl compare`."""
    verb = add_command(
        verbs, "compare", "paired comparison of runs over the same samples",
        example="boxrl compare runs/before runs/after",
    )  # fmt: skip
    verb.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN",
        help="run folder, RUN/evals/NAME, or folder of evaluate --out",
    )  # fmt: skip
    verb.add_argument(
        "--out", type=Path, metavar="FILE.html", help="also write the comparison as one page"
    )
    add_shown_images(verb)
    verb.add_argument("--force", action="store_true", help="compare although the protocols differ")
    add_seed(verb, "of the bootstrap")
    verb.add_argument("--resamples", type=integer(1), default=1000, metavar="N", help=RESAMPLES)
    add_json(verb)
    add_format(verb)
    verb.set_defaults(run=run_compare)


def run_compare(args: argparse.Namespace) -> None:
    """Pair evaluations of the same name, each run with the first."""
    from boxrl.evaluate.tables import render_tables

    first, *others = args.runs
    if not others or (args.json and len(others) > 1):
        takes = "two runs" if args.json else "at least two runs"
        raise UsageError(f"compare takes {takes}{' with --json' * args.json}, got {len(args.runs)}")
    if args.out:
        check_outputs([(args.out, "page")], args.runs)
    form = chosen_format(args)
    tables = [table for other in others for table in _compare_runs(args, first, other, form)]
    if form:
        print(render_tables(tables, form), end="")
    if args.out:
        from boxrl.report import build_comparison

        rules = {"seed": args.seed, "resamples": args.resamples, "force": args.force}
        build_comparison(args.runs, args.out, args.images, **rules)
        print(f"report: {args.out}", file=sys.stderr if args.json or form else sys.stdout)


def _compare_runs(
    args: argparse.Namespace, first: Path, second: Path, form: Format | None
) -> list[CitedTable]:
    """Every evaluation that two runs share: a table each, or one JSON object of all.

    They are printed here, but for tables to cite, which are given back.
    """
    from boxrl.evaluate import compare
    from boxrl.evaluate.files import paired_folders, read_evaluation
    from boxrl.evaluate.tables import comparison_table

    found, tables = {}, []
    for name, folders in paired_folders(first, second).items():
        a, b = map(read_evaluation, folders)
        found[name] = compare(a, b, seed=args.seed, resamples=args.resamples, force=args.force)
        names = [str(folder) for folder in folders]
        if form:
            tables.append(comparison_table(found[name], names))
        elif not args.json:
            print_comparison(found[name], names)
    if args.json:
        print_json(found.get("", found))
    return tables


def print_comparison(difference: Mapping[str, Any], names: Sequence[str]) -> None:
    """Differences of two runs; in red what makes them hard to compare."""
    from rich.console import Console

    from boxrl.cli.tables import new_table, plain, print_protocol, print_verdict
    from boxrl.evaluate.summary import METRICS
    from boxrl.evaluate.verdict import change_verdict

    console = Console(highlight=False)
    for key, (a, b) in difference["protocol_differs"].items():
        console.print(plain(f"protocol differs: {key} is {a!r} and {b!r}", "bold red"))
    columns = ("a", "b", "b - a", "95 % interval", "better\n: worse", "p")
    title = f"{tally(difference['n'], 'sample')}; p of the sign test over images"
    table = new_table(title, "metric", *columns)
    for metric in METRICS:
        row = difference["metrics"].get(metric.key)
        if row is None:
            continue
        table.add_row(
            metric.name,
            metric.format(row["a"]),
            metric.format(row["b"]),
            metric.format(row["difference"], "+"),
            metric.format_ends((row["low"], row["high"]), "+"),
            *_sign_test(row),
        )
    console.print(table)
    for letter, name in zip("ab", names, strict=True):
        console.print(plain(f"{letter} = {name}"))
    for what, ids in difference["flipped"].items():
        some = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
        console.print(plain(f"{what}: {tally(len(ids), 'sample')}" + (f" ({some})" if ids else "")))
    print_protocol(console, difference["protocol"])
    print_verdict(console, change_verdict(difference))


def _sign_test(row: Mapping[str, Any]) -> tuple[str, str]:
    """(better : worse, p) in words; "-" for a figure of which more is neither."""
    if row["p_sign"] is None:
        return "-", "-"
    p = row["p_sign"]
    return f"{row['better']} : {row['worse']}", "<0.001" if p < 0.001 else f"{p:.3f}"
