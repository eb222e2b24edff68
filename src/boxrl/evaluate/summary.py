"""Judged rows to metrics with 95 % intervals; every metric's name, direction and formula."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from boxrl.data.files import number_or_none
from boxrl.evaluate.behaviour import behaviour
from boxrl.evaluate.box_table import BoxTable
from boxrl.evaluate.rows import Row
from boxrl.metrics.box_errors import ERRORS
from boxrl.metrics.calibration import (
    best_threshold,
    brier_score,
    detection_ece,
    judge_boxes,
    localization_aware_ece,
    localization_recall_precision,
    reliability,
)
from boxrl.metrics.detection import ratio
from boxrl.metrics.intervals import Floats, interval, resample, resample_ratio
from boxrl.metrics.tokens import LONG, token_table
from boxrl.types import UNREADABLE, Sample, Status

STATUSES: tuple[str, ...] = get_args(Status)

Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True, slots=True)
class Share:
    """A sum over rows divided by another: resampled without judging again.

    Attributes:
        part: numerator of a row.
        whole: denominator of a row; 0 where the row says nothing about the metric.
    """

    part: Callable[[Row], float]
    whole: Callable[[Row], float]

    def columns(self, rows: Sequence[Row]) -> tuple[Floats, Floats]:
        """Numerators and denominators, Float "rows" each."""
        parts = np.array([self.part(row) for row in rows], dtype=np.float64)
        return parts, np.array([self.whole(row) for row in rows], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of metrics.json.

    Attributes:
        key: path in metrics.json, dotted.
        name: as people read it.
        better: which direction is an improvement.
        digits: decimals shown.
        detail: whether a report leaves it to its charts and to metrics.json.
        share: how it follows from single rows; None for AP, counts and extremes.
    """

    key: str
    name: str
    better: Better = "higher"
    digits: int = 3
    detail: bool = False
    share: Share | None = None

    @property
    def is_rate(self) -> bool:
        """Whether it lies in [0, 1]; rates share one axis."""
        return self.digits == 3

    def format(self, value: float | None, sign: str = "") -> str:
        """A value in the metric's decimals, none of them -0; "" where there is none."""
        return "" if value is None else f"{value:{sign}z.{self.digits}f}"

    def format_ends(self, ends: Sequence[float | None] | None, sign: str = "") -> str:
        """An interval as `low to high`; "" where there is none."""
        if not ends or None in ends:
            return ""
        return " to ".join(self.format(end, sign) for end in ends)


def _is_short(row: Row) -> bool:
    """Whether the completion counts for the mean length, as in the blog's token table."""
    return row.n_tokens is not None and row.n_tokens < LONG


METRICS = (
    Metric("mAP", "mAP"),
    Metric("AP50", "AP50"),
    Metric("AP75", "AP75"),
    Metric("APs", "AP small", detail=True),
    Metric("APm", "AP medium", detail=True),
    Metric("APl", "AP large", detail=True),
    Metric("mAP_order_free", "mAP, order-free"),
    Metric(
        "precision@0.5",
        "precision @0.5",
        share=Share(lambda r: r.tp, lambda r: r.tp + r.fp),
    ),
    Metric("recall@0.5", "recall @0.5", share=Share(lambda r: r.tp, lambda r: r.tp + r.fn)),
    Metric(
        "f1@0.5",
        "F1 @0.5",
        share=Share(lambda r: 2 * r.tp, lambda r: 2 * r.tp + r.fp + r.fn),
    ),
    Metric("f1", "mean F1", share=Share(lambda r: r.f1 or 0.0, lambda r: r.f1 is not None)),
    Metric(
        "first_box_accuracy",
        "first-box accuracy",
        share=Share(lambda r: bool(r.first_box_hits), lambda r: r.first_box_hits is not None),
    ),
    Metric(
        "grounding_accuracy@0.5",
        "grounding @0.5",
        share=Share(
            lambda r: r.task == "grounding" and not r.is_negative and bool(r.correct),
            lambda r: r.task == "grounding" and not r.is_negative,
        ),
    ),
    Metric(
        "accuracy",
        "accuracy",
        share=Share(lambda r: r.f1 is None and bool(r.correct), lambda r: r.f1 is None),
    ),
    Metric(
        "negatives.accuracy",
        "accuracy on negatives",
        share=Share(lambda r: bool(r.is_negative and r.correct), lambda r: r.is_negative),
    ),
    Metric("format_rate", "format rate", share=Share(lambda r: r.formatted, lambda r: 1)),
    Metric(
        "untagged_rate",
        "answers without tags",
        "lower",
        detail=True,
        share=Share(lambda r: not r.parse.tagged, lambda r: 1),
    ),
    Metric("calibration.best.f1", "F1 @0.5, best threshold"),
    Metric("calibration.best.threshold", "that threshold", "neither", detail=True),
    Metric("calibration.D-ECE", "calibration error (D-ECE)", "lower"),
    Metric("calibration.Brier", "Brier score of boxes", "lower", detail=True),
    Metric("calibration.LaECE", "LaECE", "lower", detail=True),
    Metric("calibration.LRP", "LRP error", "lower", detail=True),
    Metric("truncated_rate", "truncated", "lower"),
    Metric("unknown_labels", "boxes of unasked labels", "lower", 0),
    Metric(
        "tokens.mean",
        "tokens, mean",
        "neither",
        1,
        share=Share(lambda r: (r.n_tokens or 0) * _is_short(r), _is_short),
    ),
    Metric("tokens.max", "tokens, max", "neither", 0, detail=True),
    Metric("tokens.long", "3,000 tokens and more", "neither", 0, detail=True),
    Metric("cost.prompt_tokens", "prompt tokens per answer", "neither", 1, detail=True),
    Metric("cost.completion_tokens", "completion tokens per answer", "neither", 1, detail=True),
    Metric("cost.seconds", "seconds per 1,000 answers", "lower", 1, detail=True),
    Metric("cost.price", "price of 1,000 answers", "lower", 4, detail=True),
)
"""In the order of every table."""

SHARES = {metric.key: metric.share for metric in METRICS if metric.share is not None}
"""Those that are shares, by their path in the metrics; intervals are given for them and for AP."""

_CHOSEN = (
    "format_rate", "mAP", "AP50", "f1", "precision@0.5", "recall@0.5", "negatives.accuracy",
    "first_box_accuracy", "tokens.mean",
)  # fmt: skip
HEADLINE_METRICS = tuple(metric for key in _CHOSEN for metric in METRICS if metric.key == key)
"""Those that tell at a glance what training changed: the quickstart's and the README's table."""

OLD_NAMES = {"first_box_accuracy": "looks", "beats_blind": "told_apart", "metric": "figure"}
"""What JSON keys were called in 0.1.0; both names are written until the next release."""


def with_old_names(content: dict[str, Any]) -> dict[str, Any]:
    """The JSON object, its renamed entries under their old names too."""
    return content | {old: content[new] for new, old in OLD_NAMES.items() if new in content}


def find_entry(content: Mapping[str, Any], key: str) -> Any:
    """The entry of that name, or in a file of 0.1.0 of its old name; None where there is none."""
    return content.get(key, content.get(OLD_NAMES.get(key, key)))


def look_up(metrics: Mapping[str, Any], key: str) -> float | None:
    """The number at a dotted path; keys such as `f1@0.5` hold dots themselves."""
    value = find_entry(metrics, key)
    if value is None:
        head, _, rest = key.partition(".")
        inner = metrics.get(head)
        return look_up(inner, rest) if rest and isinstance(inner, Mapping) else None
    return number_or_none(value)


def summarize(rows: Sequence[Row], seed: int, resamples: int) -> dict[str, Any]:
    """Every metric of a data set but the blind baseline and the protocol.

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
        **count_unread(rows),
        "unknown_labels": sum(row.unknown_labels for row in asked),
        "truncated_rate": ratio(sum(row.truncated for row in rows), len(rows)),
        "tokens": token_table([row.n_tokens for row in rows]),
        "behaviour": behaviour(rows),
        "per_label": table.per_label(),
        "per_size": table.per_size(),
        "errors": {"AP50_lost": table.ap50_lost(), **count_errors(rows)} if asked else {},
        "intervals": _intervals(rows, table, seed, resamples) if resamples else {},
    }


def calibration(rows: Sequence[Row]) -> dict[str, Any]:
    """How far confidences are from being right; boxes of labels that nothing asks for are wrong.

    Args:
        rows: judged samples, whose boxes have confidences of their own.

    Returns:
        `D-ECE`, `Brier`, `LaECE` and `LRP`, None without boxes, `bins` of a reliability plot, and
        `best`: the threshold of the highest F1 at IoU .5, with precision, recall and that F1.
    """
    table = box_table(rows)
    judged = judge_boxes(table.targets, table.all_preds, len(table.labels) + 1)
    return {
        "D-ECE": detection_ece(judged),
        "Brier": brier_score(judged),
        "LaECE": localization_aware_ece(judged),
        "LRP": localization_recall_precision(judged),
        "bins": reliability(judged),
        "best": best_threshold(judged),
    }


def headline(rows: Sequence[Row], table: BoxTable) -> dict[str, Any]:
    """AP and shares over all rows; None where no row says anything about a metric."""
    shares = {name: share_value(share, rows) for name, share in SHARES.items()}
    del shares["tokens.mean"]
    accuracy = shares.pop("negatives.accuracy")
    negatives = {"n": sum(row.is_negative for row in rows), "accuracy": accuracy}
    return with_old_names({**table.figures(), **shares, "negatives": negatives})


def count_unread(rows: Sequence[Row]) -> dict[str, Any]:
    """What was not read of the answers that are boxes.

    Args:
        rows: judged samples.

    Returns:
        `unreadable` {reason: answers of which nothing was read}; `dropped`: items and brackets
        that were passed over.
    """
    asked = [row for row in rows if row.f1 is not None]
    reasons = Counter(row.parse.reason for row in asked if row.status in UNREADABLE)
    return {"unreadable": dict(reasons), "dropped": sum(row.parse.dropped for row in asked)}


def count_errors(rows: Sequence[Row]) -> dict[str, Any]:
    """How often each of TIDE's kinds of error occurs in the answers that are boxes.

    Args:
        rows: judged samples.

    Returns:
        `counts` {kind: boxes, or missed targets} in TIDE's order; `on_unasked`: boxes among them
        that lie on an object which was not asked for.
    """
    asked = [row for row in rows if row.f1 is not None]
    boxes = [box for row in asked for box in row.predictions if box.kind in ERRORS]
    counts = Counter[str](box.kind for box in boxes)
    counts["missed"] = sum([item.missed for row in asked for item in row.objects])
    return {
        "counts": {kind: counts[kind] for kind in ERRORS},
        "on_unasked": sum([box.on_unasked for box in boxes]),
    }


def box_table(rows: Sequence[Row]) -> BoxTable:
    """The rows that count for AP as a table."""
    return BoxTable([row for row in rows if is_boxes(row)])


def share_value(share: Share, rows: Sequence[Row]) -> float | None:
    """The metric over all rows; None where no row says anything about it."""
    parts, wholes = share.columns(rows)
    return ratio(float(parts.sum()), float(wholes.sum()))


def image_groups(rows: Sequence[Row | Sample]) -> tuple[list[int], int]:
    """Index of every question's image, from 0 by first appearance, and the number of images.

    Questions about one image count together: they are no independent evidence.
    """
    index: dict[str, int] = {}
    groups = [index.setdefault(row.image, len(index)) for row in rows]
    return groups, len(index)


def _intervals(
    rows: Sequence[Row], table: BoxTable, seed: int, resamples: int
) -> dict[str, list[float]]:
    """95 % intervals of shares and AP, by resampling images."""
    draws = resample_metrics(rows, table, seed, resamples)
    found = {name: interval(values) for name, values in draws.items()}
    return with_old_names({name: list(ends) for name, ends in found.items() if ends is not None})


def resample_metrics(
    rows: Sequence[Row], table: BoxTable, seed: int, resamples: int
) -> dict[str, Floats]:
    """Every metric that has an interval, for every resample of the images.

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
    found = resample_shares(rows, seed, resamples, tuple(SHARES))
    images = np.array([groups[index] for index, row in enumerate(rows) if is_boxes(row)], dtype=int)
    found["mAP"], found["AP50"] = table.resampled_ap(draws, images)
    return found


def resample_shares(
    rows: Sequence[Row], seed: int, resamples: int, names: Sequence[str]
) -> dict[str, Floats]:
    """Some of SHARES for every resample of the images.

    Args:
        rows: one per sample.
        seed: see `resample_metrics`.
        resamples: how many times the images are drawn.
        names: keys of SHARES.

    Returns:
        Name -> Float "resamples"; NaN where undefined.
    """
    groups, n_images = image_groups(rows)
    draws = resample(n_images, resamples, seed)
    found = {}
    for name in names:
        parts, wholes = (
            np.bincount(groups, column).astype(np.float64) for column in SHARES[name].columns(rows)
        )
        found[name] = resample_ratio(draws, parts, wholes)
    return found


def is_boxes(row: Row) -> bool:
    """Whether the row counts for AP: a detection sample, whose answer is boxes."""
    return row.task == "detection" and row.f1 is not None
