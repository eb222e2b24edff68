"""Precision and recall by label, before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from boxrl.evaluate.rows import Row
from boxrl.evaluate.summary import box_table
from boxrl.metrics.average_precision import Floats
from boxrl.metrics.precision_recall import RECALLS
from boxrl.report.confusion import ConfusionTable, confusion_table
from boxrl.report.glyphs import Points, dumbbell, precision_recall
from boxrl.report.reading import ShownEvaluation
from boxrl.types import fold_label

MOST_LABELS, MOST_PLOTS = 60, 24
"""Labels that the table shows and that have a plot, those with most targets first."""


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """Counts over all rows at IoU 0.5; keys are folded labels."""

    right: Counter[str]
    predicted: Counter[str]
    targets: Counter[str]

    def precision(self, label: str) -> float | None:
        """Right / predicted; None without predictions."""
        return self.right[label] / self.predicted[label] if self.predicted[label] else None

    def recall(self, label: str) -> float | None:
        """Right / targets; None without targets."""
        return self.right[label] / self.targets[label] if self.targets[label] else None


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One label's line; shares are None where nothing was asked or said.

    Attributes:
        label: folded.
        targets, predicted: boxes in the later evaluation.
        precision, recall: (before, after).
        precision_plot, recall_plot: the same two, drawn.
    """

    label: str
    targets: int
    predicted: int
    precision: tuple[float | None, float | None]
    recall: tuple[float | None, float | None]
    precision_plot: Markup
    recall_plot: Markup


@dataclass(frozen=True, slots=True)
class LabelPlot:
    """Precision over recall of one label; `ap50` is (before, after), None where it has no curve."""

    label: str
    ap50: tuple[float | None, float | None]
    svg: Markup


@dataclass(frozen=True, slots=True)
class LabelTable:
    """Precision and recall by label, alone or against an earlier evaluation.

    Attributes:
        title: what was measured.
        paired: whether there is an earlier evaluation.
        ranked: whether boxes have confidences of their own, so that there are curves.
        rows, plots: labels that were to be found, most targets first.
        confusion: which label was answered by which; None where there is but one.
    """

    title: str
    paired: bool
    ranked: bool
    rows: list[LabelRow]
    plots: list[LabelPlot]
    confusion: ConfusionTable | None


def label_table(title: str, before: ShownEvaluation | None, after: ShownEvaluation) -> LabelTable:
    """Counts at IoU 0.5 of every label, and its curve or point."""
    new = count_labels(after.rows)
    old = count_labels(before.rows) if before is not None else None
    labels = [label for label, _ in new.targets.most_common(MOST_LABELS)]
    rows = []
    for label in labels:
        precision = (old.precision(label) if old else None, new.precision(label))
        recall = (old.recall(label) if old else None, new.recall(label))
        plots = (dumbbell(*precision), dumbbell(*recall))
        rows.append(
            LabelRow(label, new.targets[label], new.predicted[label], precision, recall, *plots)
        )
    return LabelTable(
        title,
        before is not None,
        after.ranked,
        rows,
        _plots(labels, (before, after), (old, new)),
        confusion_table(before.rows if before is not None else None, after.rows),
    )


def count_labels(rows: Sequence[Row]) -> LabelCounts:
    """Law: the sums over labels are the counts behind `precision@0.5` and `recall@0.5`."""
    counts = LabelCounts(Counter(), Counter(), Counter())
    for row in rows:
        if row.f1 is None:  # a region or a count, whose objects nobody was to find
            continue
        excused = row.tp + row.fp < len(row.predictions)  # not so by the rules of 0.1.0
        for box in row.predictions:
            if box.kind == "crowd" and excused:
                continue
            counts.predicted[fold_label(box.label)] += 1
            counts.right[fold_label(box.label)] += box.kind == "right"
        counts.targets.update(fold_label(o.label) for o in row.objects if not o.iscrowd)
    return counts


def label_curves(evaluation: ShownEvaluation | None) -> dict[str, Floats]:
    """Each label's precision "101" at COCO's recalls, IoU 0.5; empty where nothing ranks the boxes.

    Law: a curve's mean is the label's AP50 in metrics.json.
    """
    if evaluation is None or not evaluation.ranked:
        return {}
    return box_table(evaluation.rows).curves()


def _plots(
    labels: Sequence[str],
    evaluations: tuple[ShownEvaluation | None, ShownEvaluation],
    counts: tuple[LabelCounts | None, LabelCounts],
) -> list[LabelPlot]:
    """A plot for every label of which either evaluation wrote a box."""
    curves = [label_curves(evaluation) for evaluation in evaluations]
    plots = []
    for label in labels[:MOST_PLOTS]:
        old, new = (_points(label, *pair) for pair in zip(curves, counts, strict=True))
        ap50 = tuple(float(c[label].mean()) if label in c else None for c in curves)
        if old or new:
            plots.append(LabelPlot(label, (ap50[0], ap50[1]), precision_recall(label, old, new)))
    return plots


def _points(label: str, curves: dict[str, Floats], counts: LabelCounts | None) -> Points:
    """The label's curve up to the recall that it reaches; without a curve its point."""
    if label in curves:
        reached = np.flatnonzero(curves[label])
        return [(float(RECALLS[place]), float(curves[label][place])) for place in reached]
    precision, recall = (counts.precision(label), counts.recall(label)) if counts else (None, None)
    return [] if precision is None or recall is None else [(recall, precision)]
