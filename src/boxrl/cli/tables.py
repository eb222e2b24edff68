"""What the tables of several verbs share: their look, their numbers, the protocol."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text


def new_table(title: str, first: str, *numbers: str) -> Table:
    """A table whose numbers stay on one line at 80 columns; the first column gives way."""
    table = Table(
        title=title or None,
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column(first)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def format_rate(value: float | None) -> str:
    """A rate in three decimals."""
    return "-" if value is None else f"{value:.3f}"


def print_protocol(console: Console, protocol: Mapping[str, Any]) -> None:
    """How the numbers came about, a line per item that is known."""
    for key, value in protocol.items():
        if isinstance(value, Mapping):
            known = (f"{name} {item}" for name, item in value.items() if item is not None)
            value = ", ".join(known)
        if value is not None:
            console.print(Text(f"{key}: {value}", style="dim"))


def print_verdict(console: Console, said: str) -> None:
    """What figures come to, in one sentence that stands out; nothing where there is none."""
    if said:
        console.print(Text(said, style="bold"), soft_wrap=True)


def print_hints(console: Console, hints: Sequence[str]) -> None:
    """What makes figures doubtful, or explains them, a line each."""
    for hint in hints:
        console.print(Text(f"hint: {hint}", style="bold yellow"), soft_wrap=True)


def shell(path: Path) -> str:
    """A path as a shell reads it, blanks and all."""
    return shlex.quote(str(path))


def print_next(console: Console, *commands: str) -> None:
    """What to run next, one command a line, ready to be copied."""
    for number, command in enumerate(commands):
        console.print(Text(f"{'     ' if number else 'next:'} {command}"), soft_wrap=True)


def print_change(
    console: Console, title: str, difference: Mapping[str, Any], blind: Mapping[str, Any]
) -> None:
    """What a training changed: a table of the headline metrics, and a sentence.

    Args:
        console: where to.
        title: of the table.
        difference: of the model after it from the one before, see `boxrl.evaluate.compare`.
        blind: metrics of the blind baseline.
    """
    from boxrl.evaluate.summary import HEADLINE_METRICS, look_up
    from boxrl.evaluate.verdict import change_verdict

    table = Table(title=title, title_justify="left")
    for column in ("metric", "before", "after", "difference, 95 % interval", "blind"):
        table.add_column(column, justify="left" if column == "metric" else "right", no_wrap=True)
    for metric in HEADLINE_METRICS:
        row = difference["metrics"].get(metric.key)
        if row is None:
            continue
        change, low, high = (metric.format(row[k], "+") for k in ("difference", "low", "high"))
        span = f" [{low}, {high}]" if low else ""
        table.add_row(
            metric.name,
            metric.format(row["a"]),
            metric.format(row["b"]),
            f"{change}{span}",
            metric.format(look_up(blind, metric.key)),
        )
    console.print(table)
    print_verdict(console, change_verdict(difference))
