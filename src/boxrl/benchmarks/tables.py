"""A benchmark's result beside the published ones, and several benchmarks in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from boxrl.benchmarks.outcome import Outcome
from boxrl.benchmarks.record import Benchmark
from boxrl.data.files import number_or_none
from boxrl.evaluate.cost import mean_cost
from boxrl.evaluate.protocol import common
from boxrl.evaluate.summary import look_up
from boxrl.evaluate.tables import INTERVAL, Cell, CitedTable, protocol_line


def describe(outcome: Outcome) -> dict[str, Any]:
    """What benchmark.json says, its table among it.

    Args:
        outcome: a benchmark that was run.
    """
    return {
        "benchmark": outcome.benchmark.name,
        "summary": outcome.summary,
        "parts": {name: part.metrics for name, part in outcome.parts.items()},
        "intervals": dict(outcome.intervals),
        "missing": outcome.missing,
        "protocol": outcome.benchmark.protocol,
        "variant": outcome.variant,
        "headline": headline(outcome),
        "table": asdict(benchmark_table(outcome)),
    }


BEST = "calibration.best.f1"
"""F1 at the threshold that gives the highest one."""


def benchmark_table(outcome: Outcome, detectors: Sequence[Outcome] = ()) -> CitedTable:
    """One row of ours, those of detectors, then the published ones, all in percent.

    Args:
        outcome: a benchmark that was run.
        detectors: the same benchmark with detectors' results; their F1 is that at the best
            threshold, which a model without confidences does not have.

    Returns:
        The main figure with its 95 % interval, then the benchmark's headline, or where it has none
        every published figure that this run has too; published rows without any of them are left
        out.
    """
    benchmark = outcome.benchmark
    (main, first), *rest = _columns(outcome).items()
    others = dict(rest)
    protocol = outcome.protocol

    def cells(one: Outcome, f1: str) -> tuple[Cell, ...]:
        figures = [find_figure(one, first), *_interval(one, first)]
        figures += [find_figure(one, name) for name in others.values()]
        figures += [_part_figure(one, f1)] if detectors else []
        return (*map(_percent, figures), one.n)

    model = str(protocol.get("model") or "this run")
    rows: list[tuple[Cell, ...]] = [(model, *cells(outcome, "f1@0.5"), "this run", "")]
    for one in detectors:
        model = str(one.protocol.get("model"))
        rows.append((model, *cells(one, BEST), "its results", "confidence: its own scores"))
    unknown = (None,) * (2 if detectors else 1)
    for result in benchmark.published:
        value, *values = [result.figures.get(name) for name in (first, *others.values())]
        if any(figure is not None for figure in (value, *values)):
            known = (value, None, None, *values, *unknown)
            rows.append((result.model, *known, result.source, result.remark))
    columns = ("model", main, *INTERVAL, *others, *["F1 @0.5"] * bool(detectors), "n", "source",
               "remark")  # fmt: skip
    facts = {"benchmark": benchmark.name, "protocol": protocol_line(protocol)}
    return CitedTable(f"{benchmark.title} ({benchmark.name})", columns, tuple(rows), facts)


def _columns(outcome: Outcome) -> dict[str, str]:
    """Column -> figure, the main one first: those that the run has, and the main one anyway."""
    benchmark = outcome.benchmark
    published = [(name, name) for result in benchmark.published for name in result.figures]
    named = dict(benchmark.headline or ((benchmark.figure, benchmark.figure), *published))
    known = {column: f for column, f in named.items() if find_figure(outcome, f) is not None}
    return known or dict([*named.items()][:1])


def headline(outcome: Outcome) -> str:
    """What the benchmark is known by, in one line and in percent.

    Args:
        outcome: a benchmark that was run.

    Returns:
        The main figure with its interval, then the others that its record leads with; "" where the
        run has none of them.
    """
    leading = dict(outcome.benchmark.headline)
    said: list[str] = []
    for column, name in _columns(outcome).items():
        value, ends = find_figure(outcome, name), _interval(outcome, name)
        if value is not None and (not said or column in leading):
            span = [f"{end * 100:.1f}" for end in ends if end is not None]
            said.append(f"{column} {value * 100:.1f}")
            if len(said) == 1 and len(span) == 2:
                said[0] += f" (95 % {' to '.join(span)})"
    return ", ".join(said)


COSTS = {
    "prompt_tokens": "tokens in", "completion_tokens": "tokens out", "seconds": "s / 1,000",
    "price": "price / 1,000",
}  # fmt: skip
"""Of `boxrl.evaluate.cost`, by column: tokens per answer, seconds and price of 1,000 answers."""


def overview_table(outcomes: Sequence[Outcome]) -> CitedTable:
    """The main figure of every benchmark, a row each, in percent, and what an answer costs.

    Args:
        outcomes: benchmarks that were run with one model.
    """
    costs = [mean_cost(part.metrics for part in one.parts.values()) for one in outcomes]
    known = [key for key in COSTS if any(found[key] is not None for found in costs)]
    rows = []
    for outcome, found in zip(outcomes, costs, strict=True):
        name = outcome.benchmark.figure
        value = _percent(find_figure(outcome, name))
        ends = map(_percent, _interval(outcome, name))
        cells = (name, value, *ends, outcome.n, *(found[key] for key in known))
        rows.append((outcome.benchmark.name, *cells))
    columns = ("benchmark", "figure", "value", *INTERVAL, "n", *(COSTS[key] for key in known))
    shared = common(one.protocol for one in outcomes)
    facts = {"protocol": protocol_line(shared)}
    return CitedTable(str(shared.get("model") or "this run"), columns, tuple(rows), facts)


def find_figure(outcome: Outcome, name: str) -> float | None:
    """A figure of the run by the name under which it is published; None where it has none.

    Args:
        outcome: a benchmark that was run.
        name: a key of `Published.figures`, or the benchmark's main figure.
    """
    value: Any = outcome.summary
    path = path_of(outcome.benchmark, name)
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    if path:
        return number_or_none(value)
    found = look_up(outcome.summary, name)
    if found is None and len(outcome.parts) == len(outcome.benchmark.parts) == 1:
        [part] = outcome.parts.values()
        found = look_up(part.metrics, name)
    return found


def _part_figure(outcome: Outcome, name: str) -> float | None:
    """A figure of the one part; None where there are several."""
    if len(outcome.parts) != 1:
        return None
    [part] = outcome.parts.values()
    return look_up(part.metrics, name)


def path_of(benchmark: Benchmark, name: str) -> tuple[str, ...]:
    """Where the summary holds a figure whose name is not its place there; empty elsewhere."""
    grounding = "grounding_accuracy@0.5"
    main = benchmark.figure.removeprefix("mean.")
    parts = {part.name for part in benchmark.parts}
    if benchmark.name == "ovdeval" and name in parts:
        return "files", name, "NMS-AP"
    if benchmark.name == "ovdeval" and name.endswith(" AP"):
        return "aspects", name.removesuffix(" AP"), "AP"
    if main == grounding and name in parts:
        return grounding, name
    if benchmark.reader == "rexomni" and " F1@" in name:
        return "published", *name.split(" ")
    if benchmark.name.startswith("rf"):
        return () if name.startswith("mean.") else ("super_categories", name, "mAP")
    return ()


def _interval(outcome: Outcome, name: str) -> Sequence[float | None]:
    """Ends of the interval; None where it is neither one part's own nor a mean of parts."""
    if len(outcome.benchmark.parts) != 1:
        return outcome.intervals.get(name, (None, None))
    [part] = outcome.parts.values()
    whole = name.rpartition(".")[2]  # of full.mAP, the part's own mAP where it is the same number
    same = find_figure(outcome, name) == look_up(part.metrics, whole)
    ends: Sequence[float] | None = part.metrics["intervals"].get(whole if same else name)
    return ends or (None, None)


def _percent(value: float | None) -> float | None:
    return None if value is None else value * 100
