"""A benchmark's result beside the published ones, and several benchmarks in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from boxrl.benchmarks.record import Benchmark
from boxrl.benchmarks.run import Outcome
from boxrl.data.files import number_or_none
from boxrl.evaluate.protocol import shared_protocol
from boxrl.evaluate.summary import look_up
from boxrl.evaluate.tables import INTERVAL, Cell, CitedTable, protocol_line


def benchmark_table(outcome: Outcome) -> CitedTable:
    """One row of ours, then the published ones, all in percent.

    Args:
        outcome: a benchmark that was run.

    Returns:
        The main figure with its 95 % interval where it is one part's own, then every published
        figure that this run has too; published rows without any of them are left out.
    """
    benchmark = outcome.benchmark
    named = [name for result in benchmark.published for name in result.figures]
    found = {name: find_figure(outcome, name) for name in dict.fromkeys((benchmark.figure, *named))}
    figures = [name for name in found if found[name] is not None] or [benchmark.figure]
    first, *others = figures
    protocol = shared_protocol(outcome.parts.values())
    ours: list[Cell] = [str(protocol.get("model") or "this run"), _percent(found[first])]
    ours += map(_percent, _interval(outcome, first))
    ours += [_percent(found[name]) for name in others]
    rows = [(*ours, _answers(outcome), "this run", "")]
    for result in benchmark.published:
        values = [result.figures.get(name) for name in figures]
        if any(value is not None for value in values):
            cells = (values[0], None, None, *values[1:], None)
            rows.append((result.model, *cells, result.source, result.remark))
    columns = ("model", first, *INTERVAL, *others, "n", "source", "remark")
    facts = {"benchmark": benchmark.name, "protocol": protocol_line(protocol)}
    return CitedTable(f"{benchmark.name}: {benchmark.title}", columns, tuple(rows), facts)


def overview_table(outcomes: Sequence[Outcome]) -> CitedTable:
    """The main figure of every benchmark, a row each, in percent.

    Args:
        outcomes: benchmarks that were run with one model.
    """
    rows = []
    for outcome in outcomes:
        name = outcome.benchmark.figure
        value = _percent(find_figure(outcome, name))
        ends = map(_percent, _interval(outcome, name))
        rows.append((outcome.benchmark.name, name, value, *ends, _answers(outcome)))
    columns = ("benchmark", "figure", "value", *INTERVAL, "n")
    shared = shared_protocol([part for one in outcomes for part in one.parts.values()])
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


def path_of(benchmark: Benchmark, name: str) -> tuple[str, ...]:
    """Where the summary holds a figure whose name is not its place there; empty elsewhere."""
    grounding = "grounding_accuracy@0.5"
    parts = {part.name for part in benchmark.parts}
    if benchmark.name == "ovdeval" and name in parts:
        return "files", name, "NMS-AP"
    if benchmark.name == "ovdeval" and name.endswith(" AP"):
        return "aspects", name.removesuffix(" AP"), "AP"
    if benchmark.figure == grounding and name in parts:
        return grounding, name
    if benchmark.reader == "rexomni" and " F1@" in name:
        return "published", *name.split(" ")
    if benchmark.name.startswith("rf"):
        return () if name.startswith("mean.") else ("super_categories", name, "mAP")
    return ()


def _interval(outcome: Outcome, name: str) -> Sequence[float | None]:
    """Ends of the interval; None where the figure is not one part's own."""
    if len(outcome.benchmark.parts) != 1:
        return None, None
    [part] = outcome.parts.values()
    ends: Sequence[float] | None = part.metrics["intervals"].get(name)
    return ends or (None, None)


def _answers(outcome: Outcome) -> int:
    return sum(part.metrics["n"] for part in outcome.parts.values())


def _percent(value: float | None) -> float | None:
    return None if value is None else value * 100
