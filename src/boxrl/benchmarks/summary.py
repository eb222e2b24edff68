"""The figures of a benchmark: those of its parts, and what is said of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from boxrl.benchmarks import Benchmark
from boxrl.benchmarks.d3 import summarize_d3
from boxrl.data.predictions import Prediction
from boxrl.errors import DataError
from boxrl.evaluate import evaluate
from boxrl.evaluate.box_table import BoxTable
from boxrl.evaluate.rows import Evaluation
from boxrl.evaluate.summary import box_table
from boxrl.families import Family
from boxrl.metrics.average_precision import select, statistics, statistics_by_label
from boxrl.metrics.nms_ap import keep_one_per_target
from boxrl.metrics.order_free import order_free_precision
from boxrl.types import Sample

ASPECTS = {
    "proper_noun": ("celebrity", "logo", "landmark"),
    "attribute": ("color", "material"),
    "position": ("position",),
    "relationship": ("relationship",),
    "negation": ("negation",),
}
"""OVDEval's aspects and their files; its ninth file, COCO, belongs to none of them."""


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
    benchmark: Benchmark, samples: Sequence[Sample], parts: Mapping[str, Evaluation]
) -> dict[str, Any]:
    """What a benchmark's own table shows.

    Args:
        benchmark: its parts and the figure that it reports.
        samples: of all parts.
        parts: name -> evaluation of what has been answered.

    Returns:
        Figure -> part -> value, and `mean`; of OVDEval and D3 the tables of their own scripts.
        None stands where a part that a number needs is missing.
    """
    if benchmark.name in SUMMARIES:
        return SUMMARIES[benchmark.name](samples, parts)
    figure = benchmark.figure.removeprefix("mean.")
    figures = {
        part.name: parts[part.name].metrics[figure] if part.name in parts else None
        for part in benchmark.parts
    }
    return {figure: figures, "mean": {figure: _mean(figures.values())}}


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


def _of_d3(samples: Sequence[Sample], parts: Mapping[str, Evaluation]) -> dict[str, Any]:
    [part] = parts.values()
    return summarize_d3(samples, box_table(part.rows))


def _of_ovdeval(_: Sequence[Sample], parts: Mapping[str, Evaluation]) -> dict[str, Any]:
    """AP and NMS-AP per file, per aspect and their two means; None where a file is missing."""
    files = {name: nms_figures(box_table(part.rows)) for name, part in parts.items()}
    summary: dict[str, Any] = {"files": files, "aspects": {}}
    for aspect, names in ASPECTS.items():
        of_files = [files.get(name, {}) for name in names]
        summary["aspects"][aspect] = {k: _mean(f.get(k) for f in of_files) for k in NMS_FIGURES}
    aspects = summary["aspects"].values()
    summary["five_aspect_mean"] = {k: _mean(a[k] for a in aspects) for k in NMS_FIGURES}
    everything = [files.get(name, {}) for names in ASPECTS.values() for name in names]
    summary["eight_file_mean"] = {k: _mean(f.get(k) for f in everything) for k in NMS_FIGURES}
    return summary


NMS_FIGURES = ("AP", "NMS-AP", "NMS-AP order-free")


def nms_figures(table: BoxTable) -> dict[str, float | None]:
    """AP, NMS-AP with ties to the last box, and NMS-AP free of the boxes' order."""
    n_images, n_labels = len(table.rows), len(table.labels)
    kept = select(table.preds, keep_one_per_target(table.targets, table.preds))
    nearest = select(table.preds, keep_one_per_target(table.targets, table.preds, ties="best_iou"))
    thinned = statistics_by_label(table.targets, kept, n_images, n_labels)
    values = (
        statistics(table.by_label)["mAP"],
        statistics(thinned)["mAP"],
        order_free_precision(table.targets, nearest, n_labels),
    )
    return dict(zip(NMS_FIGURES, values, strict=True))


SUMMARIES: dict[str, Callable[[Sequence[Sample], Mapping[str, Evaluation]], dict[str, Any]]] = {
    "ovdeval": _of_ovdeval,
    "d3": _of_d3,
}
"""Benchmarks whose scripts have a table of their own."""


def _mean(values: Any) -> float | None:
    """Mean; None where one is not known, because a mean over fewer is another figure."""
    known = list(values)
    return None if not known or None in known else float(sum(known) / len(known))
