"""Section Benchmark: this run's row and the published ones, as benchmark.json has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boxrl.errors import DataError
from boxrl.evaluate.summary import METRICS, look_up
from boxrl.guard.files import read_json_object

MOST_ROWS, MOST_COLUMNS = 200, 60
"""Beyond which a file is none of boxrl's."""


@dataclass(frozen=True, slots=True)
class BenchmarkTable:
    """A benchmark's result.

    Attributes:
        title: its name and what it is.
        columns: names; the first is that of the rows.
        rows: cells as text, as many as columns.
        protocol: how it is scored.
        headline: the figures that it is known by, in one line.
        words: of every column whether it holds words and no number.
        parts: figures of every part's evaluation, by their path in its metrics.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    protocol: str
    headline: str = ""
    words: tuple[bool, ...] = ()
    parts: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)


def read_benchmark(path: Path) -> BenchmarkTable | None:
    """The table of benchmark.json; None where it was written before there was one.

    Raises:
        DataError: it is no JSON object, or its table is none.
    """
    content = read_json_object(path)
    table = content.get("table")
    if table is None:
        return None
    columns, rows = (_get(table, key) for key in ("columns", "rows"))
    parts = content.get("parts")
    parts = parts if isinstance(parts, dict) else {}
    if not (
        0 < len(columns) <= MOST_COLUMNS
        and len(rows) <= MOST_ROWS
        and all(isinstance(row, list) and len(row) == len(columns) for row in rows)
    ):
        raise DataError(f"{path}: its table is none of a benchmark; run boxrl benchmark run again")
    return BenchmarkTable(
        _text(table.get("title")),
        tuple(_text(name) for name in columns),
        tuple(tuple(map(_shown, row)) for row in rows),
        _text(content.get("protocol")),
        _text(content.get("headline")),
        tuple(
            not any(isinstance(row[k], int | float) for row in rows) for k in range(len(columns))
        ),
        {
            name: {metric.key: look_up(metrics, metric.key) for metric in METRICS}
            for name, metrics in parts.items()
            if isinstance(metrics, Mapping)
        },
    )


def _get(table: Any, key: str) -> Sequence[Any]:
    value = table.get(key) if isinstance(table, dict) else None
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _shown(cell: Any) -> str:
    """Percent with one decimal, counts and words as they are."""
    if isinstance(cell, float):
        return f"{cell:.1f}"
    return "" if cell is None else f"{cell}"
