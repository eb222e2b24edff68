"""A benchmark's result beside the published ones, and several benchmarks in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from boxrl.benchmarks.outcome import Outcome
from boxrl.benchmarks.record import Benchmark
from boxrl.data.files import number_or_none
from boxrl.evaluate.protocol import shared_protocol
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
        "missing": outcome.missing,
        "protocol": outcome.benchmark.protocol,
        "variant": outcome.variant,
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
    best = (_percent(_part_figure(outcome, "f1@0.5")),) if detectors else ()
    rows = [(*ours, *best, _answers(outcome), "this run", "")]
    for one in detectors:
        model = str(shared_protocol(one.parts.values()).get("model"))
        figures_of = [find_figure(one, name) for name in others]
        cells = (_percent(find_figure(one, first)), *map(_percent, _interval(one, first)))
        cells = (*cells, *map(_percent, figures_of), _percent(_part_figure(one, BEST)))
        rows.append((model, *cells, _answers(one), "its results", "confidence: its own scores"))
    for result in benchmark.published:
        values = [result.figures.get(name) for name in figures]
        if any(value is not None for value in values):
            cells = (values[0], None, None, *values[1:], *(None,) * len(best), None)
            rows.append((result.model, *cells, result.source, result.remark))
    columns = ("model", first, *INTERVAL, *others, *("F1 @0.5",) * len(best), "n", "source",
               "remark")  # fmt: skip
    facts = {"benchmark": benchmark.name, "protocol": protocol_line(protocol)}
    return CitedTable(f"{benchmark.title} ({benchmark.name})", columns, tuple(rows), facts)


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


def _part_figure(outcome: Outcome, name: str) -> float | None:
    """A figure of the one part; None where there are several."""
    if len(outcome.parts) != 1:
        return None
    [part] = outcome.parts.values()
    return look_up(part.metrics, name)


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
    whole = name.rpartition(".")[2]  # of full.mAP, the part's own mAP where it is the same number
    same = find_figure(outcome, name) == look_up(part.metrics, whole)
    ends: Sequence[float] | None = part.metrics["intervals"].get(whole if same else name)
    return ends or (None, None)


def _answers(outcome: Outcome) -> int:
    return sum(part.metrics["n"] for part in outcome.parts.values())


def _percent(value: float | None) -> float | None:
    return None if value is None else value * 100
