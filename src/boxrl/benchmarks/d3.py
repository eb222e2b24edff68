"""D3 as its authors report it: by kind of description, by its length, and by boxes per image.

Source: github.com/shikras/d-cube, scripts/eval_and_analysis_json.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from boxrl.evaluate.box_table import BoxTable
from boxrl.metrics.average_precision import Floats, select, statistics, statistics_by_label
from boxrl.metrics.detection import ratio
from boxrl.types import Sample, fold_label

Flags = npt.NDArray[np.bool_]
Range = tuple[float, float]

LENGTHS: dict[str, Range] = {
    "1 to 3": (1, 3), "4 to 6": (4, 6), "7 to 9": (7, 9), "10 and more": (10, np.inf),
}  # fmt: skip
"""Words of a description: the authors' short, middle, long and very long ones."""

COUNTS: dict[str, Range] = {
    "1": (1, 1), "2": (2, 2), "3": (3, 3), "4": (4, 4), "5 and more": (5, np.inf),
}  # fmt: skip
"""Boxes that a description has in an image."""


def summarize_d3(samples: Sequence[Sample], table: BoxTable) -> dict[str, Any]:
    """The figures of all descriptions (full), those of presence (pres) and of absence (abs).

    Args:
        samples: of D3, one per image; `meta.kinds` tells presence from absence, label by label.
        table: their boxes, one row per sample.

    Returns:
        Per kind `labels`, `mAP`; `words` {length: labels, mAP}, a mean over the descriptions of
        that length; `boxes` {count: pairs, mAP}, as if only those (image, description) pairs
        existed; and in `boxes` under "0" the pairs that were asked for and have no box, with
        `boxes_per_pair`, the boxes that were found there all the same.
    """
    kinds: dict[str, str] = {}
    for sample in samples:
        kinds |= zip(map(fold_label, sample.labels), sample.meta.get("kinds", ()), strict=False)
    kind = np.array([kinds.get(label, "") for label in table.labels])
    words = np.array([len(label.split()) for label in table.labels])
    groups = {"full": words > 0, "pres": kind == "presence", "abs": kind == "absence"}
    pairs = Pairs(table)
    by_count = {name: pairs.statistics(span) for name, span in COUNTS.items()}
    return {
        name: {
            **_mean_ap(table.by_label, chosen),
            "words": {
                length: _mean_ap(table.by_label, chosen & _within(words, span))
                for length, span in LENGTHS.items()
            },
            "boxes": {
                "0": pairs.false_boxes(chosen),
                **{
                    count: {
                        "pairs": int(_within(pairs.boxes[:, chosen], span).sum()),
                        "mAP": _mean_ap(by_count[count], chosen)["mAP"],
                    }
                    for count, span in COUNTS.items()
                },
            },
        }
        for name, chosen in groups.items()
    }


class Pairs:
    """Every image with every description.

    Attributes:
        boxes: Int "images labels", how many target boxes a pair has.
        asked: Bool "images labels", whether the description was asked for.
    """

    def __init__(self, table: BoxTable) -> None:
        self._table = table
        shape = len(table.rows), len(table.labels)
        self.boxes = np.zeros(shape, dtype=np.int64)
        np.add.at(self.boxes, (table.targets.image, table.targets.label), 1)
        self.asked = np.zeros(shape, dtype=bool)
        index = {label: place for place, label in enumerate(table.labels)}
        for image, row in enumerate(table.rows):
            self.asked[image, [index[fold_label(label)] for label in row.labels]] = True

    def statistics(self, span: Range) -> Floats:
        """COCO's statistics "12 labels", over the (image, label) pairs with so many boxes alone."""
        targets, preds = self._table.targets, self._table.preds
        return statistics_by_label(
            select(targets, _within(self.boxes[targets.image, targets.label], span)),
            select(preds, _within(self.boxes[preds.image, preds.label], span)),
            *self.boxes.shape,
        )

    def false_boxes(self, chosen: Flags) -> dict[str, Any]:
        """Asked pairs of the chosen labels without a box, and the boxes found on each."""
        empty = self.asked & (self.boxes == 0) & chosen
        pairs, preds = int(empty.sum()), self._table.preds
        found = int(empty[preds.image, preds.label].sum())
        return {"pairs": pairs, "boxes_per_pair": ratio(found, pairs)}


def _within(values: npt.NDArray[np.int64], span: Range) -> Flags:
    return (span[0] <= values) & (values <= span[1])


def _mean_ap(by_label: Floats, chosen: Flags) -> dict[str, Any]:
    return {"labels": int(chosen.sum()), "mAP": statistics(by_label[:, chosen])["mAP"]}
