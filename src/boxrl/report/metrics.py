"""Section Metrics: each metric before and after, with its interval."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from boxrl.data.files import is_number
from boxrl.evaluate.summary import METRICS, Better, Metric, find_entry, look_up
from boxrl.evaluate.verdict import HEADLINES
from boxrl.report.glyphs import draw_interval
from boxrl.report.reading import ShownEvaluation, mapping
from boxrl.report.text import visible

MINUS = "\u2212"

HEADLINE_NAMES = tuple(metric.name for key in HEADLINES for metric in METRICS if metric.key == key)
"""Metrics of which the first that is known stands at the top of a page."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A value and its 95 % interval as they are printed; empty where there is none."""

    value: str
    interval: str = ""


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One row of the table.

    Attributes:
        name: of the metric.
        blind: the blind baseline's value, empty where it is not defined.
        before, after: the two evaluations; `after` alone where there is one only.
        difference: after - before, with the paired interval where compare.json has it.
        verdict: `better`, `worse`, or empty while the interval holds 0 or is not known.
        picture: the interval drawn, empty where there is none.
    """

    name: str
    blind: str
    before: Entry
    after: Entry
    difference: Entry
    verdict: str
    picture: Markup


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence under a table, and whether it is bad news."""

    text: str
    alarm: bool


@dataclass(frozen=True, slots=True)
class MetricTable:
    """Metrics and what they were measured under.

    Attributes:
        title: what was measured.
        columns: names of the two columns that are compared; None for a single evaluation.
        rows: the metrics.
        gained, lost: samples that only the second, or only the first, answers without fault;
            None where samples were not paired.
        notes: whether the model is better than answering blind, in words, and what makes the
            numbers doubtful, such as boxes of another frame.
        protocol: (name, value) pairs.
    """

    title: str
    columns: tuple[str, str] | None
    rows: list[MetricRow]
    gained: int | None
    lost: int | None
    notes: list[Note]
    protocol: list[tuple[str, str]]

    @property
    def headline(self) -> str:
        """What the table comes to, in one sentence; empty where it has no headline metric."""
        rows = {row.name: row for row in self.rows}
        row = next((rows[name] for name in HEADLINE_NAMES if name in rows), None)
        if row is None:
            return ""
        title = f"{self.title[:1].upper()}{self.title[1:]}"
        if not row.difference.value:
            span = f" (95 % {row.after.interval})" if row.after.interval else ""
            return f"{title}: {row.name} {row.after.value}{span}"
        span = f", 95 % {row.difference.interval}" if row.difference.interval else ""
        change = f"{row.before.value} → {row.after.value} ({row.difference.value}{span})"
        said = row.verdict or "no difference told apart"
        flipped = f"; {self.gained} gained, {self.lost} lost" if self.gained is not None else ""
        return f"{title}: {row.name} {change}, {said}{flipped}"


def metric_table(
    title: str,
    columns: tuple[str, str] | None,
    before: ShownEvaluation,
    after: ShownEvaluation,
    compared: Mapping[str, Any],
) -> MetricTable:
    """The table of two evaluations, or of `after` alone.

    Args:
        title: see `MetricTable`.
        columns: see `MetricTable`.
        before: the first evaluation.
        after: the second, or the only one.
        compared: what `boxrl.evaluate.compare` says of them; empty where they are not paired.
    """
    flipped = mapping(compared.get("flipped"))
    gained, lost = (flipped.get(key) for key in ("gained", "lost"))
    latest = after if after.metrics else before
    shown = zip(columns or ("",), (before, after) if columns else (after,), strict=True)
    return MetricTable(
        title,
        columns,
        compare_metrics(before.metrics, after.metrics, mapping(compared.get("metrics"))),
        len(gained) if isinstance(gained, list) else None,
        len(lost) if isinstance(lost, list) else None,
        [*_hints(shown), *_notes(latest.metrics)],
        _protocol(latest),
    )


def _hints(evaluations: Iterable[tuple[str, ShownEvaluation]]) -> Iterator[Note]:
    """What evaluation found to doubt, one note for all columns of which it is said."""
    told: dict[str, list[str]] = {}
    for column, evaluation in evaluations:
        hints = evaluation.metrics.get("hints")
        for hint in hints if isinstance(hints, list) else ():
            told.setdefault(str(hint), []).append(column)
    for hint, columns in told.items():
        named = ", ".join(filter(None, columns))
        yield Note(f"{named}: {hint}" if named else hint, alarm=True)


def _notes(metrics: Mapping[str, Any]) -> list[Note]:
    """What evaluation says of the blind baseline and of each control run."""
    controls = metrics.get("controls")
    others = [metrics.get("blind"), *(controls if isinstance(controls, list) else [])]
    verdicts = [mapping(find_entry(mapping(other), "beats_blind")) for other in others]
    return [
        Note(verdict["words"], find_entry(verdict, "beats_blind") is False)
        for verdict in verdicts
        if isinstance(verdict.get("words"), str)
    ]


def _protocol(evaluation: ShownEvaluation) -> list[tuple[str, str]]:
    """How the metrics were measured: metrics.json's protocol and the settings of generation."""
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


def compare_metrics(
    before: Mapping[str, Any], after: Mapping[str, Any], paired: Mapping[str, Any]
) -> list[MetricRow]:
    """The rows of one before/after table.

    Args:
        before: metrics.json of the first evaluation.
        after: metrics.json of the second, over the same samples.
        paired: metric -> `{"difference", "low", "high"}`; may be empty.
    """
    shown = [metric for metric in METRICS if not metric.detail]
    drawn = [row for m in shown if m.is_rate and _is_interval(row := find_entry(paired, m.key))]
    reach = max((abs(_end(row)) for row in drawn), default=0.0) or 1.0
    rows = []
    for metric in shown:
        old, new = look_up(before, metric.key), look_up(after, metric.key)
        if old is None and new is None:
            continue
        rows.append(_compare(metric, before, after, find_entry(paired, metric.key), reach))
    return rows


def _compare(
    metric: Metric,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    paired: Any,
    reach: float,
) -> MetricRow:
    old, new = look_up(before, metric.key), look_up(after, metric.key)
    blind = look_up(mapping(after.get("blind") or before.get("blind")), metric.key)
    difference = Entry("" if old is None or new is None else _signed(new - old, metric.digits))
    verdict, picture = "", Markup("")
    if _is_interval(paired):
        value, low, high = (float(paired[k]) for k in ("difference", "low", "high"))
        difference = Entry(_signed(value, metric.digits), _between(low, high, metric.digits, "+"))
        verdict = _verdict(metric.better, low, high)
        if metric.is_rate:
            picture = draw_interval(value, low, high, reach)
    return MetricRow(
        metric.name,
        "" if blind is None else f"{blind:.{metric.digits}f}",
        _cell(before, metric, old),
        _cell(after, metric, new),
        difference,
        verdict,
        picture,
    )


def _cell(metrics: Mapping[str, Any], metric: Metric, value: float | None) -> Entry:
    if value is None:
        return Entry("—")
    match mapping(metrics.get("intervals")).get(metric.key):
        case [low, high] if is_number(low) and is_number(high):
            between = _between(low, high, metric.digits)
        case _:
            between = ""
    return Entry(f"{value:,.{metric.digits}f}", between)


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
