"""The figures of a benchmark: those of its parts, and what is said of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from boxrl.benchmarks.d3 import summarize_d3
from boxrl.benchmarks.lvis import summarize_lvis
from boxrl.benchmarks.ovdeval import summarize_ovdeval
from boxrl.benchmarks.record import Benchmark
from boxrl.benchmarks.rexomni import summarize_rexomni
from boxrl.benchmarks.rf_vl import RF_VL, summarize_rf_vl
from boxrl.data.predictions import Prediction
from boxrl.errors import DataError
from boxrl.evaluate import evaluate
from boxrl.evaluate.rows import Evaluation
from boxrl.evaluate.summary import box_table
from boxrl.families import Family
from boxrl.metrics.detection import mean_or_none
from boxrl.types import Sample


def evaluate_parts(
    samples: Sequence[Sample],
    predictions: Mapping[str, Prediction],
    family: Family,
    **settings: Any,
) -> dict[str, Evaluation]:
    """One evaluation per part (`meta.part`), in the order of the samples.

    Args:
        samples: of `benchmarks.samples.build_samples`.
        predictions: by sample id.
        family: the frame in which the model answered.
        settings: of `evaluate`.

    Raises:
        DataError: as `evaluate`; also for predictions of samples that no part holds.
    """
    strangers = predictions.keys() - {sample.id for sample in samples}
    if strangers:
        raise DataError(
            f"{len(strangers)} of {len(predictions)} predictions are for other samples (first: "
            f"{min(strangers)!r}); score them with the data, the mode and the --limit that they "
            "were made with"
        )
    parts: dict[str, list[Sample]] = {}
    for sample in samples:
        parts.setdefault(sample.meta["part"], []).append(sample)
    found = {}
    for part, mine in parts.items():
        rows = {s.id: predictions[s.id] for s in mine if s.id in predictions}
        found[part] = evaluate(mine, rows, family, **settings)
    return found


def summarize_benchmark(
    benchmark: Benchmark,
    samples: Sequence[Sample],
    parts: Mapping[str, Evaluation],
    root: Path = Path(),
) -> dict[str, Any]:
    """What a benchmark's own table shows.

    Args:
        benchmark: its parts and the figure that it reports.
        samples: of all parts.
        parts: name -> evaluation of what has been answered.
        root: the data root, where a table needs more of its files than samples hold.

    Returns:
        Figure -> part -> value, and `mean`; of benchmarks with a script of their own its table.
        None stands where a part that a number needs is missing.
    """
    if benchmark.name in SUMMARIES:
        return SUMMARIES[benchmark.name](samples, parts, root)
    figure = benchmark.figure.removeprefix("mean.")
    figures = {
        part.name: parts[part.name].metrics[figure] if part.name in parts else None
        for part in benchmark.parts
    }
    return {figure: figures, "mean": {figure: mean_or_none([*figures.values()])}}


def leaves(summary: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every number of nested figures.

    Args:
        summary: of `summarize_benchmark`.
        name: where it stands.

    Returns:
        (where, figure, value), in order.
    """
    for key, value in summary.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{name} {key}".strip())
        else:
            yield name, key, value


def _of_d3(samples: Sequence[Sample], parts: Mapping[str, Evaluation], _: Path) -> dict[str, Any]:
    [part] = parts.values()
    return summarize_d3(samples, box_table(part.rows))


Summary = Callable[[Sequence[Sample], Mapping[str, Evaluation], Path], dict[str, Any]]

SUMMARIES: dict[str, Summary] = {
    "ovdeval": summarize_ovdeval,
    "d3": _of_d3,
    "lvis": summarize_lvis,
    "rexomni": summarize_rexomni,
    **{rf.name: partial(summarize_rf_vl, rf) for rf in RF_VL},
}
"""Benchmarks whose scripts have a table of their own."""
