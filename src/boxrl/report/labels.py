"""Precision and recall by label, before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from boxrl.report.plots import dumbbell
from boxrl.report.reading import Row
from boxrl.types import fold_label

MOST_LABELS = 60
"""Labels that the table shows, those with most targets first."""


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
    """One label's line; figures are None where nothing was asked or said.

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


def count_labels(rows: Sequence[Row]) -> LabelCounts:
    """Law: the sums over labels are the counts behind `precision@0.5` and `recall@0.5`."""
    counts = LabelCounts(Counter(), Counter(), Counter())
    for row in rows:
        for label, kind in zip(row.parsed.detections.labels, row.verdict.kinds, strict=True):
            counts.predicted[fold_label(label)] += 1
            counts.right[fold_label(label)] += kind == "right"
        counts.targets.update(fold_label(o.label) for o in row.sample.objects if not o.iscrowd)
    return counts


@dataclass(frozen=True, slots=True)
class LabelTable:
    """Precision and recall by label, alone or against an earlier evaluation."""

    title: str
    paired: bool
    rows: list[LabelRow]


def label_table(title: str, before: Sequence[Row] | None, after: Sequence[Row]) -> LabelTable:
    """The labels that were to be found, most targets first."""
    new = count_labels(after)
    old = count_labels(before) if before is not None else None
    rows = []
    for label, targets in new.targets.most_common(MOST_LABELS):
        precision = (old.precision(label) if old else None, new.precision(label))
        recall = (old.recall(label) if old else None, new.recall(label))
        plots = (dumbbell(*precision), dumbbell(*recall))
        rows.append(LabelRow(label, targets, new.predicted[label], precision, recall, *plots))
    return LabelTable(title, before is not None, rows)
