r"""Tables to cite: markdown, LaTeX or CSV, each with n, intervals and the protocol it holds under.

Rates are percent, as published figures are. CSV holds every digit, its facts in columns of their
own on every row, so that a file of several tables is still one table.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from boxrl.evaluate.summary import METRICS, Metric, look_up
from boxrl.guard.spreadsheets import write_table
from boxrl.guard.texts import visible

Format = Literal["markdown", "latex", "csv"]
Cell = str | float | None

IN_WORDS = ("ties", "matching", "average_precision")
"""Parts of a protocol that say how boxrl always counts; the documentation has them."""

INTERVAL = ("95 % low", "95 % high")

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "[": "{[}", "*": "{*}",
    "⟨": r"$\langle$", "⟩": r"$\rangle$",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CitedTable:
    """A table and what its figures stand for.

    Attributes:
        title: above it.
        columns: names; the first is that of the rows.
        rows: as many cells as columns each; numbers of rates in percent, None where unknown.
        facts: what holds for all rows, by name: n, the protocol.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    facts: Mapping[str, str | int] = field(default_factory=dict)


def render_tables(tables: Sequence[CitedTable], form: Format) -> str:
    """The tables as text.

    Args:
        tables: one or more; of CSV those with equal columns share one header.
        form: `markdown`, `latex` (needs no package) or `csv`.
    """
    if form == "csv":
        return _render_csv(tables)
    render = _render_markdown if form == "markdown" else _render_latex
    return "\n\n".join(map(render, tables)) + "\n"


def evaluation_table(metrics: Mapping[str, Any], title: str = "") -> CitedTable:
    """An evaluation's figures with 95 % intervals, beside the blind baseline and the controls.

    Args:
        metrics: of an evaluation.
        title: above the table.
    """
    others = {"blind baseline": metrics["blind"]}
    others |= {f"{control['control']}": control for control in metrics.get("controls", ())}
    rows = []
    for metric in METRICS:
        value = look_up(metrics, metric.key)
        if value is None:
            continue
        ends = metrics["intervals"].get(metric.key) or (None, None)
        beside = [look_up(other, metric.key) for other in others.values()]
        rows.append((metric.name, *(scaled(metric, x) for x in (value, *ends, *beside))))
    return CitedTable(
        title or f"{metrics['protocol'].get('model') or 'Evaluation'}",
        ("metric", "value", *INTERVAL, *others),
        tuple(rows),
        {"n": metrics["n"], "protocol": protocol_line(metrics["protocol"])},
    )


def comparison_table(difference: Mapping[str, Any], names: Sequence[str]) -> CitedTable:
    """Paired differences of two runs.

    Args:
        difference: of `compare`.
        names: of the two runs.
    """
    rows: list[tuple[Cell, ...]] = []
    for metric in METRICS:
        row = difference["metrics"].get(metric.key)
        if row is not None:
            values = (scaled(metric, row[key]) for key in ("a", "b", "difference", "low", "high"))
            p = row["p_sign"]
            rows.append((metric.name, *values, row["better"], row["worse"], p and f"{p:.4g}"))
    return CitedTable(
        f"a = {names[0]}, b = {names[1]}",
        ("metric", "a", "b", "b - a", *INTERVAL, "better", "worse", "p (sign test)"),
        tuple(rows),
        {
            "n": difference["n"],
            "protocol": protocol_line(difference["protocol"]),
            "runs": f"{names[0]} | {names[1]}",
        },
    )


def protocol_line(protocol: Mapping[str, Any]) -> str:
    """What is known of how numbers came about, in one line."""
    known = {k: v for k, v in protocol.items() if v is not None and k not in IN_WORDS}
    return "; ".join(f"{key} {_in_words(value)}" for key, value in known.items())


def scaled(metric: Metric, value: float | None) -> float | None:
    """The value as tables show it: rates in percent."""
    return None if value is None else value * 100 if metric.is_rate else value


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v}" for k, v in value.items() if v is not None)
    return f"{value}"


def _render_csv(tables: Sequence[CitedTable]) -> str:
    lines: list[list[Cell]] = []
    header: list[Cell] = []
    for table in tables:
        columns: list[Cell] = [*table.columns, *table.facts]
        if columns != header:
            lines.append(header := columns)
        lines += [[*row, *table.facts.values()] for row in table.rows]
    text = io.StringIO()
    write_table(text, [["" if cell is None else cell for cell in line] for line in lines])
    return text.getvalue()


def _render_markdown(table: CitedTable) -> str:
    lines = [table.columns, tuple(":--" if words else "--:" for words in _are_words(table))]
    lines += [tuple(shown(cell) for cell in row) for row in table.rows]
    body = "\n".join(f"| {' | '.join(_one_cell(cell) for cell in line)} |" for line in lines)
    return f"**{_one_cell(table.title)}**\n\n{body}\n\n{_one_cell(_facts(table))}"


def _render_latex(table: CitedTable) -> str:
    head = _latex_row(table.columns)
    body = "\n".join(_latex_row([shown(cell) for cell in row]) for row in table.rows)
    places = "".join("l" if words else "r" for words in _are_words(table))
    return (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{_escape(table.title)}. {_escape(_facts(table))}}}\n"
        f"\\begin{{tabular}}{{{places}}}\n\\hline\n"
        f"{head}\n\\hline\n{body}\n\\hline\n\\end{{tabular}}\n\\end{{table}}"
    )


def _are_words(table: CitedTable) -> list[bool]:
    """Of every column whether it holds words: the first, and those without any number."""
    columns = zip(*table.rows, strict=True)
    numbers = [any(isinstance(cell, int | float) for cell in column) for column in columns]
    return [not number for number in numbers] or [True] * len(table.columns)


def _facts(table: CitedTable) -> str:
    """The footnote."""
    return "; ".join(
        ["rates in percent", *(f"{key} {value}" for key, value in table.facts.items())]
    )


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_escape, cells)) + r" \\"


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in _one_line(text))


def _one_cell(text: str) -> str:
    return _one_line(text).replace("|", "\\|")


def _one_line(text: str) -> str:
    return visible(" ".join(text.split()))


def shown(cell: Cell) -> str:
    """One decimal, more where that would be 0.0; counts and words as they are."""
    if cell is None:
        return "-"
    if not isinstance(cell, float):
        return f"{cell}"
    return f"{cell:z.1f}" if not cell or abs(cell) >= 0.05 else f"{cell:.1g}"
