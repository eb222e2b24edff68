"""Judged rows to figures with 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from boxrl.evaluate.box_table import BoxTable
from boxrl.evaluate.rows import Row
from boxrl.metrics.detection import ratio
from boxrl.metrics.intervals import Floats, interval, resample, resample_ratio
from boxrl.metrics.tokens import LONG, token_table

STATUSES = ("ok", "empty", "partial", "malformed", "missing")


@dataclass(frozen=True, slots=True)
class Share:
    """A figure that is a sum over rows divided by another: resampled without judging again.

    Attributes:
        part: numerator of a row.
        whole: denominator of a row; 0 where the row says nothing about the figure.
        more_is_better: False for a figure that is neither good nor bad, such as a length.
    """

    part: Callable[[Row], float]
    whole: Callable[[Row], float]
    more_is_better: bool = True

    def columns(self, rows: Sequence[Row]) -> tuple[Floats, Floats]:
        """Numerators and denominators, Float "rows" each."""
        parts = np.array([self.part(row) for row in rows], dtype=np.float64)
        return parts, np.array([self.whole(row) for row in rows], dtype=np.float64)


SHARES: dict[str, Share] = {
    "precision@0.5": Share(lambda r: r.counts.tp, lambda r: r.counts.tp + r.counts.fp),
    "recall@0.5": Share(lambda r: r.counts.tp, lambda r: r.counts.tp + r.counts.fn),
    "f1@0.5": Share(
        lambda r: 2 * r.counts.tp, lambda r: 2 * r.counts.tp + r.counts.fp + r.counts.fn
    ),
    "f1": Share(lambda r: r.f1 or 0.0, lambda r: r.f1 is not None),
    "format_rate": Share(lambda r: r.formatted, lambda r: 1),
    "negatives.accuracy": Share(lambda r: bool(r.negative and r.correct), lambda r: r.negative),
    "tokens.mean": Share(
        lambda r: r.n_tokens if r.n_tokens < LONG else 0,
        lambda r: r.n_tokens < LONG,
        more_is_better=False,
    ),
    "looks": Share(lambda r: bool(r.looks), lambda r: r.looks is not None),
    "grounding_accuracy@0.5": Share(
        lambda r: r.task == "grounding" and not r.negative and bool(r.correct),
        lambda r: r.task == "grounding" and not r.negative,
    ),
    "accuracy": Share(lambda r: r.f1 is None and bool(r.correct), lambda r: r.f1 is None),
}
"""Headline figures that are shares, by their path in the metrics; the rest are AP."""


def summarize(rows: Sequence[Row], seed: int, resamples: int) -> dict[str, Any]:
    """Every figure of a data set but the blind policy and the protocol.

    Args:
        rows: judged samples.
        seed: of the bootstrap.
        resamples: 0 leaves the intervals out.
    """
    asked = [row for row in rows if row.f1 is not None]
    table = box_table(rows)
    return {
        "n": len(rows),
        **headline(rows, table),
        "parse": {s: ratio(sum(r.status == s for r in asked), len(asked)) for s in STATUSES},
        "unknown_labels": sum(row.unknown_labels for row in asked),
        "truncated_rate": ratio(sum(row.truncated for row in rows), len(rows)),
        "tokens": token_table([row.n_tokens for row in rows]),
        "per_label": table.per_label(),
        "per_size": table.per_size(),
        "errors": table.errors(),
        "intervals": _intervals(rows, table, seed, resamples) if resamples else {},
    }


def headline(rows: Sequence[Row], table: BoxTable) -> dict[str, Any]:
    """AP and shares over all rows; None where no row says anything about a figure."""
    shares = {name: share_value(share, rows) for name, share in SHARES.items()}
    del shares["tokens.mean"]
    accuracy = shares.pop("negatives.accuracy")
    negatives = {"n": sum(row.negative for row in rows), "accuracy": accuracy}
    return {**table.figures(), **shares, "negatives": negatives}


def box_table(rows: Sequence[Row]) -> BoxTable:
    """The rows that count for AP as a table."""
    return BoxTable([row for row in rows if is_boxes(row)])


def share_value(share: Share, rows: Sequence[Row]) -> float | None:
    """The figure over all rows; None where no row says anything about it."""
    parts, wholes = share.columns(rows)
    return ratio(float(parts.sum()), float(wholes.sum()))


def image_groups(rows: Sequence[Row]) -> tuple[list[int], int]:
    """Index of every row's image, from 0 by first appearance, and the number of images.

    Rows that ask about one image are drawn together: they are no independent evidence.
    """
    index: dict[str, int] = {}
    groups = [index.setdefault(row.image, len(index)) for row in rows]
    return groups, len(index)


def _intervals(
    rows: Sequence[Row], table: BoxTable, seed: int, resamples: int
) -> dict[str, list[float]]:
    """95 % intervals of the headline figures, by resampling images."""
    draws = resample_figures(rows, table, seed, resamples)
    found = {name: interval(values) for name, values in draws.items()}
    return {name: list(ends) for name, ends in found.items() if ends is not None}


def resample_figures(
    rows: Sequence[Row], table: BoxTable, seed: int, resamples: int
) -> dict[str, Floats]:
    """Every headline figure of every resample of the images.

    Args:
        rows: one per sample.
        table: their boxes, for AP.
        seed: the same seed draws the same images, so that two runs are paired.
        resamples: how many times the images are drawn.

    Returns:
        Name -> Float "resamples"; NaN where undefined.
    """
    groups, n_images = image_groups(rows)
    draws = resample(n_images, resamples, seed)
    figures = resample_shares(rows, seed, resamples, tuple(SHARES))
    images = np.array([groups[index] for index, row in enumerate(rows) if is_boxes(row)], dtype=int)
    figures["mAP"], figures["AP50"] = table.resampled_ap(draws, images)
    return figures


def resample_shares(
    rows: Sequence[Row], seed: int, resamples: int, names: Sequence[str]
) -> dict[str, Floats]:
    """Some of SHARES for every resample of the images.

    Args:
        rows: one per sample.
        seed: see `resample_figures`.
        resamples: how many times the images are drawn.
        names: keys of SHARES.

    Returns:
        Name -> Float "resamples"; NaN where undefined.
    """
    groups, n_images = image_groups(rows)
    draws = resample(n_images, resamples, seed)
    figures = {}
    for name in names:
        parts, wholes = (
            np.bincount(groups, column).astype(np.float64) for column in SHARES[name].columns(rows)
        )
        figures[name] = resample_ratio(draws, parts, wholes)
    return figures


def is_boxes(row: Row) -> bool:
    """Whether the row counts for AP: a detection sample, whose answer is boxes."""
    return row.task == "detection" and row.f1 is not None
