"""The table one looks at first: each figure before and after, with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from boxrl.data.files import is_number
from boxrl.evaluate.figures import FIGURES, Better, Figure, look_up
from boxrl.report.glyphs import interval
from boxrl.report.reading import Evaluation, mapping
from boxrl.report.text import visible

MINUS = "\u2212"


@dataclass(frozen=True, slots=True)
class Cell:
    """A value and its 95 % interval as they are printed; empty where there is none."""

    value: str
    interval: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row of the table.

    Attributes:
        name: of the figure.
        blind: the label-blind policy's value, empty where it is not defined.
        before, after: the two evaluations; `after` alone where there is one only.
        difference: after - before, with the paired interval where compare.json has it.
        verdict: `better`, `worse`, or empty while the interval holds 0 or is not known.
        picture: the interval drawn, empty where there is none.
    """

    name: str
    blind: str
    before: Cell
    after: Cell
    difference: Cell
    verdict: str
    picture: Markup


@dataclass(frozen=True, slots=True)
class Table:
    """Figures and what they were measured under.

    Attributes:
        title: what was measured.
        columns: names of the two columns that are compared; None for a single evaluation.
        rows: the figures.
        gained, lost: samples that only the second, or only the first, answers without fault;
            None where samples were not paired.
        notes: whether the model is told apart from answering blind, in words.
        protocol: (name, value) pairs.
    """

    title: str
    columns: tuple[str, str] | None
    rows: list[Comparison]
    gained: int | None
    lost: int | None
    notes: list[str]
    protocol: list[tuple[str, str]]


def figure_table(
    title: str,
    columns: tuple[str, str] | None,
    before: Evaluation,
    after: Evaluation,
    compared: Mapping[str, Any],
) -> Table:
    """The table of two evaluations, or of `after` alone.

    Args:
        title: see `Table`.
        columns: see `Table`.
        before: the first evaluation.
        after: the second, or the only one.
        compared: what `boxrl.evaluate.compare` says of them; empty where they are not paired.
    """
    flipped = mapping(compared.get("flipped"))
    gained, lost = (flipped.get(key) for key in ("gained", "lost"))
    latest = after if after.metrics else before
    return Table(
        title,
        columns,
        compare_figures(before.metrics, after.metrics, mapping(compared.get("metrics"))),
        len(gained) if isinstance(gained, list) else None,
        len(lost) if isinstance(lost, list) else None,
        _notes(latest.metrics),
        _protocol(latest),
    )


def _notes(metrics: Mapping[str, Any]) -> list[str]:
    """What evaluation says of the blind policy and of each control run."""
    controls = metrics.get("controls")
    policies = [metrics.get("blind"), *(controls if isinstance(controls, list) else [])]
    words = [mapping(mapping(policy).get("told_apart")).get("words") for policy in policies]
    return [text for text in words if isinstance(text, str)]


def _protocol(evaluation: Evaluation) -> list[tuple[str, str]]:
    """How the figures were measured: metrics.json's protocol and the settings of generation."""
    protocol = mapping(evaluation.metrics.get("protocol"))
    found = {"samples": evaluation.metrics.get("n"), **protocol}
    found |= {key: evaluation.meta.get(key) for key in ("prompt", "sampling") if key not in found}
    return [(key.replace("_", " "), _in_words(value)) for key, value in found.items() if value]


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key.replace('_', ' ')} {_in_words(item)}" for key, item in value.items()
        )
    return visible(str(value))


def compare_figures(
    before: Mapping[str, Any], after: Mapping[str, Any], paired: Mapping[str, Any]
) -> list[Comparison]:
    """The rows of one before/after table.

    Args:
        before: metrics.json of the first evaluation.
        after: metrics.json of the second, over the same samples.
        paired: figure -> `{"difference", "low", "high"}`; may be empty.
    """
    shown = [figure for figure in FIGURES if not figure.detail]
    drawn = [paired[f.key] for f in shown if f.is_rate and _is_interval(paired.get(f.key))]
    reach = max((abs(_end(row)) for row in drawn), default=0.0) or 1.0
    rows = []
    for figure in shown:
        old, new = look_up(before, figure.key), look_up(after, figure.key)
        if old is None and new is None:
            continue
        rows.append(_compare(figure, before, after, paired.get(figure.key), reach))
    return rows


def _compare(
    figure: Figure,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    paired: Any,
    reach: float,
) -> Comparison:
    old, new = look_up(before, figure.key), look_up(after, figure.key)
    blind = look_up(mapping(after.get("blind") or before.get("blind")), figure.key)
    difference = Cell("" if old is None or new is None else _signed(new - old, figure.digits))
    verdict, picture = "", Markup("")
    if _is_interval(paired):
        value, low, high = (float(paired[k]) for k in ("difference", "low", "high"))
        difference = Cell(_signed(value, figure.digits), _between(low, high, figure.digits, "+"))
        verdict = _verdict(figure.better, low, high)
        if figure.is_rate:
            picture = interval(value, low, high, reach)
    return Comparison(
        figure.name,
        "" if blind is None else f"{blind:.{figure.digits}f}",
        _cell(before, figure, old),
        _cell(after, figure, new),
        difference,
        verdict,
        picture,
    )


def _cell(metrics: Mapping[str, Any], figure: Figure, value: float | None) -> Cell:
    if value is None:
        return Cell("—")
    match mapping(metrics.get("intervals")).get(figure.key):
        case [low, high] if is_number(low) and is_number(high):
            between = _between(low, high, figure.digits)
        case _:
            between = ""
    return Cell(f"{value:,.{figure.digits}f}", between)


def _verdict(better: Better, low: float, high: float) -> str:
    if better == "neither" or low <= 0 <= high:
        return ""
    return "better" if (low > 0) == (better == "higher") else "worse"


def _is_interval(row: Any) -> bool:
    keys = ("difference", "low", "high")
    return isinstance(row, Mapping) and all(is_number(row.get(k)) for k in keys)


def _end(row: Mapping[str, Any]) -> float:
    return max(row["low"], row["high"], key=abs)  # type: ignore[no-any-return]


def _between(low: float, high: float, digits: int, sign: str = "") -> str:
    return f"{low:{sign},.{digits}f} to {high:{sign},.{digits}f}".replace("-", MINUS)


def _signed(value: float, digits: int) -> str:
    return f"{value:+,.{digits}f}".replace("-", MINUS)
