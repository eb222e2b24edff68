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

from boxrl.guard.texts import visible


def plain(text: str, style: str = "") -> Text:
    """Text as it is, whoever wrote it: no markup, and control characters written out."""
    return Text(visible(text), style=style)


class PlainTable(Table):
    """A table whose cells, given as texts, are shown as `plain` ones."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row; see `rich.table.Table.add_row`."""
        shown = (plain(cell) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*shown, **options)


def new_table(title: str, first: str, *numbers: str) -> PlainTable:
    """A table whose numbers stay on one line at 80 columns; the first column gives way."""
    table = PlainTable(
        title=plain(title, "table.title") if title else None,
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column(plain(first))
    for name in numbers:
        table.add_column(plain(name), justify="right")
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
            console.print(plain(f"{key}: {value}", "dim"))


def print_verdict(console: Console, said: str) -> None:
    """What figures come to, in one sentence that stands out; nothing where there is none."""
    if said:
        console.print(plain(said, "bold"), soft_wrap=True)


def print_hints(console: Console, hints: Sequence[str]) -> None:
    """What makes figures doubtful, or explains them, a line each."""
    for hint in hints:
        console.print(plain(f"hint: {hint}", "bold yellow"), soft_wrap=True)


def shell(path: Path) -> str:
    """A path as a shell reads it, blanks and all."""
    return shlex.quote(str(path))


def print_next(console: Console, *commands: str) -> None:
    """What to run next, one command a line, ready to be copied."""
    for number, command in enumerate(commands):
        console.print(plain(f"{'     ' if number else 'next:'} {command}"), soft_wrap=True)


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

    table = PlainTable(title=plain(title, "table.title"), title_justify="left")
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
