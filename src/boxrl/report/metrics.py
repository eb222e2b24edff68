"""Section Metrics: each metric before and after, with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from boxrl.data.files import is_number
from boxrl.errors import tally
from boxrl.evaluate.summary import METRICS, Better, Metric, find_entry, look_up
from boxrl.evaluate.verdict import HEADLINES
from boxrl.guard.texts import visible
from boxrl.report.glyphs import Ends, draw_axis, draw_interval
from boxrl.report.reading import ShownEvaluation, mapping

MINUS = "\u2212"
ENDS = ("low", "high")
UNIT: Ends = (0.0, 1.0)
"""The axis of a single evaluation's rates."""

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
class Headline:
    """What a table comes to, in one sentence.

    Attributes:
        title: what was measured, empty where the figures say it.
        verdict: `better`, `worse`, or empty.
        words: the verdict in words, empty where nothing is compared.
        figures: the metric behind it.
    """

    title: str
    verdict: str
    words: str
    figures: str


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
        axis: of the rows' pictures.
        gained, lost: samples that only the second, or only the first, answers without fault;
            None where samples were not paired.
        notes: whether the model is better than answering blind, in words, and what makes the
            numbers doubtful, such as boxes of another frame.
        protocol: (name, value) pairs.
    """

    title: str
    columns: tuple[str, str] | None
    rows: list[MetricRow]
    axis: Markup
    gained: int | None
    lost: int | None
    notes: list[Note]
    protocol: list[tuple[str, str]]

    @property
    def headline(self) -> Headline | None:
        """Its first headline metric as a sentence; None where it has none."""
        rows = {row.name: row for row in self.rows}
        row = next((rows[name] for name in HEADLINE_NAMES if name in rows), None)
        if row is None:
            return None
        title = f"{self.title[:1].upper()}{self.title[1:]}"
        if not row.difference.value:
            return Headline(title, "", "", _alone(row))
        span = f", 95 % {row.difference.interval}" if row.difference.interval else ""
        change = f"{row.name} {row.before.value} → {row.after.value} ({row.difference.value}{span})"
        if self.gained is not None:
            change += f"; {tally(self.gained, 'sample')} gained, {self.lost} lost"
        undecided = "no difference told apart" if span else "no paired interval, nothing told apart"
        return Headline(title, row.verdict, row.verdict or undecided, change)


def _alone(row: MetricRow) -> str:
    span = f" (95 % {row.after.interval})" if row.after.interval else ""
    blind = f"; answering blind gives {row.blind}" if row.blind else ""
    return f"{row.name} {row.after.value}{span}{blind}"


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
    paired = mapping(compared.get("metrics"))
    axis = _axis_of_differences(paired) if columns else UNIT
    return MetricTable(
        title,
        columns,
        compare_metrics(before.metrics, after.metrics, paired),
        draw_axis(*axis),
        len(gained) if isinstance(gained, list) else None,
        len(lost) if isinstance(lost, list) else None,
        [*_differences(compared), *_hints(shown), *_notes(latest.metrics)],
        _protocol(latest),
    )


def _differences(compared: Mapping[str, Any]) -> Iterator[Note]:
    """What of the protocols differs where a comparison was forced."""
    for key, pair in mapping(compared.get("protocol_differs")).items():
        pair = pair if isinstance(pair, list) else [pair]
        yield Note(f"protocol differs: {key} is {' and '.join(map(repr, pair))}", alarm=True)


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
    axis = _axis_of_differences(paired)
    rows = []
    for metric in METRICS:
        old, new = look_up(before, metric.key), look_up(after, metric.key)
        if not metric.detail and (old, new) != (None, None):
            rows.append(_compare(metric, before, after, find_entry(paired, metric.key), axis))
    return rows


def _axis_of_differences(paired: Mapping[str, Any]) -> Ends:
    """Zero in its middle, tenths at its ends, and every rate's interval inside."""
    rows = [find_entry(paired, metric.key) for metric in METRICS if _is_drawn(metric)]
    reach = max((abs(row[end]) for row in rows if _is_interval(row) for end in ENDS), default=0.1)
    tenths = max(1, math.ceil(10 * min(reach, 1.0)))
    return -tenths / 10, tenths / 10


def _is_drawn(metric: Metric) -> bool:
    return metric.is_rate and not metric.detail


def _compare(
    metric: Metric, before: Mapping[str, Any], after: Mapping[str, Any], paired: Any, axis: Ends
) -> MetricRow:
    old, new = look_up(before, metric.key), look_up(after, metric.key)
    blind = look_up(mapping(after.get("blind") or before.get("blind")), metric.key)
    difference = Entry("" if old is None or new is None else _signed(new - old, metric.digits))
    verdict, picture = "", Markup("")
    if _is_interval(paired):
        value, low, high = (float(paired[k]) for k in ("difference", *ENDS))
        difference = Entry(_signed(value, metric.digits), _between(low, high, metric.digits, "+"))
        verdict = _verdict(metric.better, low, high)
        if metric.is_rate:
            picture = draw_interval(value, (low, high), axis, 0.0)
    elif old is None and new is not None and metric.is_rate:
        picture = draw_interval(new, _ends(after, metric), UNIT, blind)
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
    ends = _ends(metrics, metric)
    between = _between(*ends, metric.digits) if ends else ""
    return Entry(f"{value:,.{metric.digits}f}", between)


def _ends(metrics: Mapping[str, Any], metric: Metric) -> Ends | None:
    """The value's interval, where metrics.json has one."""
    match mapping(metrics.get("intervals")).get(metric.key):
        case [low, high] if is_number(low) and is_number(high):
            return low, high
    return None


def _verdict(better: Better, low: float, high: float) -> str:
    if better == "neither" or low <= 0 <= high:
        return ""
    return "better" if (low > 0) == (better == "higher") else "worse"


def _is_interval(row: Any) -> bool:
    return isinstance(row, Mapping) and all(is_number(row.get(k)) for k in ("difference", *ENDS))


def _between(low: float, high: float, digits: int, sign: str = "") -> str:
    return f"{low:{sign}z,.{digits}f} to {high:{sign}z,.{digits}f}".replace("-", MINUS)


def _signed(value: float, digits: int) -> str:
    return f"{value:+z,.{digits}f}".replace("-", MINUS)
