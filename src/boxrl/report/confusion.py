"""Part of section Labels: which label's objects were answered under which label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from boxrl.evaluate.rows import Row
from boxrl.metrics.confusion import Confused, find_confused
from boxrl.types import Detections

MOST_LABELS, MOST_PAIRS = 12, 10
"""Labels of the table, those with most targets; pairs of the list, the commonest."""

SHADES = 5
"""Steps from a pale cell to a full one."""

OTHERS = "other labels"
Counts = Counter[Confused]


@dataclass(frozen=True, slots=True)
class Cell:
    """How often, and how dark it is drawn: 0 to SHADES; whether target and answer are alike."""

    count: int
    shade: int
    right: bool


@dataclass(frozen=True, slots=True)
class MixedUp:
    """Two labels that were mixed up; `before` is None where there is one evaluation only."""

    target: str
    said: str
    before: int | None
    after: int
    targets: int


@dataclass(frozen=True, slots=True)
class ConfusionTable:
    """Targets by label down, answers by label across, of the later evaluation.

    Attributes:
        labels: of rows and columns; the last one may be OTHERS.
        rows: (label, a cell for each label, then one for those that were missed).
        nothing: boxes that are on no target, by label.
        pairs: the labels mixed up most, before and after.
    """

    labels: list[str]
    rows: list[tuple[str, list[Cell]]]
    nothing: list[Cell]
    pairs: list[MixedUp]


def confusion_table(before: Sequence[Row] | None, after: Sequence[Row]) -> ConfusionTable | None:
    """The table of one evaluation and what two mixed up; None where there is but one label."""
    new = count_confused(after)
    targets = Counter[str]()
    for pair, count in new.items():
        if pair.target is not None:
            targets[pair.target] += count
    said = {pair.said for pair in new if pair.said is not None}
    named = [label for label, _ in targets.most_common(MOST_LABELS)]
    if len(targets.keys() | said) < 2:
        return None
    labels = [*named, *([OTHERS] if (targets.keys() | said) - set(named) else [])]
    folded = _fold(new, set(named))
    return ConfusionTable(
        labels=labels,
        rows=[(label, _cells(folded, label, [*labels, None])) for label in labels],
        nothing=_cells(folded, None, labels),
        pairs=_mixed_up(count_confused(before) if before is not None else None, new, targets),
    )


def count_confused(rows: Iterable[Row]) -> Counts:
    """How often each pair of labels occurs; boxes in crowd regions are in none."""
    counts = Counts()
    for row in rows:
        if row.f1 is None:
            continue
        boxes = [box for box in row.predictions if box.kind != "crowd"]
        objects = [item for item in row.objects if not item.iscrowd]
        preds, targets = (
            Detections(
                np.array([one.bbox for one in side], dtype=np.float64).reshape(-1, 4),
                tuple([one.label for one in side]),
            )
            for side in (boxes, objects)
        )
        counts.update(find_confused(preds, targets))
    return counts


def _fold(counts: Counts, named: set[str]) -> Counts:
    """The counts with all labels but the named ones as OTHERS."""
    folded = Counts()
    for pair, count in counts.items():
        ends = (end if end is None or end in named else OTHERS for end in pair)
        folded[Confused(*ends)] += count
    return folded


def _cells(counts: Counts, target: str | None, columns: Sequence[str | None]) -> list[Cell]:
    """A row of the table, shaded by the share of the row."""
    found = [counts[Confused(target, said)] for said in columns]
    whole = max(1, sum(found))
    return [
        Cell(count, -(-SHADES * count // whole), target == said)
        for count, said in zip(found, columns, strict=True)
    ]


def _mixed_up(before: Counts | None, after: Counts, targets: Counter[str]) -> list[MixedUp]:
    """The pairs of different labels, the commonest first, of either evaluation."""
    either = after | (before or Counts())
    pairs = [
        (pair, pair.target, pair.said)
        for pair, _ in either.most_common()
        if pair.target is not None and pair.said is not None and pair.target != pair.said
    ]
    return [
        MixedUp(
            target, said, None if before is None else before[pair], after[pair], targets[target]
        )
        for pair, target, said in pairs[:MOST_PAIRS]
    ]
