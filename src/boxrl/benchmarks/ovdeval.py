"""OVDEval as its authors report it: NMS-AP of eight files of hard negatives, and of five aspects.

Source: github.com/om-ai-lab/OVDEval, eval.py and docs/benchmark.png.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from boxrl.benchmarks.record import Mean
from boxrl.evaluate.box_table import BoxTable
from boxrl.evaluate.rows import Evaluation
from boxrl.evaluate.summary import box_table
from boxrl.metrics.average_precision import Predictions, select, statistics, statistics_by_label
from boxrl.metrics.detection import mean_or_none
from boxrl.metrics.nms_ap import TieRule, keep_one_per_target
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

HEADLINE = (
    ("NMS-AP", "five_aspect_mean.NMS-AP"),
    *((name.replace("_", " "), f"aspects.{name}.NMS-AP") for name in ASPECTS),
    ("AP", "five_aspect_mean.AP"),
)
"""Column and figure of its table: NMS-AP, that of the five aspects, and AP."""

MEANS = {
    "five_aspect_mean.NMS-AP": Mean("NMS-AP", tuple(ASPECTS.values())),
    "five_aspect_mean.AP": Mean("mAP", tuple(ASPECTS.values())),
    **{f"aspects.{name}.NMS-AP": Mean("NMS-AP", (files,)) for name, files in ASPECTS.items()},
}

FIGURES = ("AP", "NMS-AP", "NMS-AP order-free")


def summarize_ovdeval(
    _: Sequence[Sample], parts: Mapping[str, Evaluation], __: Path
) -> dict[str, Any]:
    """AP and NMS-AP of every file, of every aspect and their two means.

    Args:
        parts: an evaluation per file that is there.

    Returns:
        `files`, `aspects`, `five_aspect_mean` and `eight_file_mean`, each with FIGURES; None where
        a file is missing that a number needs.
    """
    files = {name: nms_figures(box_table(part.rows)) for name, part in parts.items()}
    summary: dict[str, Any] = {"files": files, "aspects": {}}
    for aspect, names in ASPECTS.items():
        summary["aspects"][aspect] = _means([files.get(name, {}) for name in names])
    summary["five_aspect_mean"] = _means([*summary["aspects"].values()])
    everything = [files.get(name, {}) for names in ASPECTS.values() for name in names]
    summary["eight_file_mean"] = _means(everything)
    return summary


def nms_figures(table: BoxTable) -> dict[str, float | None]:
    """AP, NMS-AP with ties to the last box, and NMS-AP free of the boxes' order."""
    n_images, n_labels = len(table.rows), len(table.labels)
    thinned = statistics_by_label(table.targets, thin(table), n_images, n_labels)
    values = (
        statistics(table.by_label)["mAP"],
        statistics(thinned)["mAP"],
        order_free_precision(table.targets, thin(table, "best_iou"), n_labels),
    )
    return dict(zip(FIGURES, values, strict=True))


def thin(table: BoxTable, ties: TieRule = "last") -> Predictions:
    """The boxes that NMS-AP leaves, see `keep_one_per_target`."""
    return select(table.preds, keep_one_per_target(table.targets, table.preds, ties))


def with_aspects(files: Mapping[str, float]) -> dict[str, float]:
    """Published NMS-AP of the eight files, and each aspect's: the mean of its files, two digits.

    Args:
        files: in percent, by name.
    """
    means = {
        f"aspects.{aspect}.NMS-AP": round(sum(files[name] for name in names) / len(names), 2)
        for aspect, names in ASPECTS.items()
    }
    return {**files, **means}


def _means(of: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The figures' means; None where one of them is not known."""
    return {key: mean_or_none([figures.get(key) for figures in of]) for key in FIGURES}
