"""The boxes of judged rows as columns, and the figures that hotcoco draws from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from hotcoco import COCOeval

from boxrl.evaluate.rows import Row
from boxrl.metrics.average_precision import (
    LABELS_AT_ONCE,
    SIZES,
    Floats,
    Ints,
    Predictions,
    Targets,
    match_boxes,
    matched_statistics,
    precision_by_recall,
    select,
    statistics,
    statistics_by_label,
)
from boxrl.metrics.intervals import FEWEST
from boxrl.metrics.order_free import order_free_precision
from boxrl.metrics.precision_recall import Curves, match_records
from boxrl.types import fold_label

ERRORS = {
    "Cls": "classification",
    "Loc": "localization",
    "Both": "both",
    "Dupe": "duplicate",
    "Bkg": "background",
    "Miss": "missed",
}
"""hotcoco's key -> TIDE's kind of error."""

MAIN = ("mAP", "AP50", "AP75", "APs", "APm", "APl")


class BoxTable:
    """All boxes of the rows; image i is row i, labels are folded.

    Labels are those asked for in some row or annotated; predictions of other labels belong to
    no category and stay out of AP, as COCO has it. They are false positives elsewhere.

    Attributes:
        rows: whose boxes they are.
        labels: folded, in order; an index of `targets.label` points here.
        targets: what is right.
        preds: what was found, of these labels.
        all_preds: all that was found; what belongs to no category is of one more label.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        asked = {label for labels in {row.labels for row in rows} for label in labels}
        annotated = {item.label for row in rows for item in row.objects}
        self.labels = tuple(sorted({fold_label(label) for label in asked | annotated}))
        self._index = {label: index for index, label in enumerate(self.labels)}
        self.targets = self._targets()
        self.all_preds = self._preds()
        self.preds = select(self.all_preds, self.all_preds.label < len(self.labels))

    def _targets(self) -> Targets:
        found = [(image, item) for image, row in enumerate(self.rows) for item in row.objects]
        corners = chain.from_iterable(item.bbox for _, item in found)
        boxes = np.fromiter(corners, np.float64, 4 * len(found)).reshape(-1, 4)
        return Targets(
            np.array([image for image, _ in found], dtype=np.int64),
            np.array([self._index[fold_label(item.label)] for _, item in found], dtype=np.int64),
            boxes,
            np.array([item.iscrowd for _, item in found], dtype=bool),
            np.array([item.area for _, item in found], dtype=np.float64),
        )

    def _preds(self) -> Predictions:
        found = [(image, box) for image, row in enumerate(self.rows) for box in row.predictions]
        corners = chain.from_iterable(box.bbox for _, box in found)
        boxes = np.fromiter(corners, np.float64, 4 * len(found)).reshape(-1, 4)
        names = [fold_label(box.label) for _, box in found]
        label = np.array(
            [self._index.get(name, len(self.labels)) for name in names], dtype=np.int64
        )
        image = np.array([image for image, _ in found], dtype=np.int64)
        confidence = np.array([box.confidence for _, box in found], dtype=np.float64)
        return Predictions(image, label, boxes, confidence)

    @cached_property
    def by_label(self) -> Floats:
        """COCO's statistics of every label, Float "12 labels"."""
        if len(self.labels) <= LABELS_AT_ONCE:
            return matched_statistics(self.matches)
        return statistics_by_label(self.targets, self.preds, len(self.rows), len(self.labels))

    def curves(self) -> dict[str, Floats]:
        """Precision at IoU .5 over COCO's 101 recalls, Float "101" for every label with targets."""
        found = precision_by_recall(self.targets, self.preds, len(self.rows), len(self.labels))
        pairs = zip(self.labels, found, strict=True)
        return {label: curve for label, curve in pairs if not np.isnan(curve[0])}

    @cached_property
    def matches(self) -> COCOeval:
        """COCO's matching of the whole table."""
        return match_boxes(self.targets, self.preds, len(self.rows), len(self.labels))

    def figures(self) -> dict[str, float | None]:
        """AP over the whole table; None where there are no targets of a size."""
        found = statistics(self.by_label)
        figures = {name: found[name] for name in MAIN}
        free = order_free_precision(self.targets, self.preds, len(self.labels))
        return figures | {"mAP_order_free": free}

    def per_label(self) -> dict[str, dict[str, Any]]:
        """AP, AP50, targets and predictions of every label."""
        n_targets = np.bincount(self.targets.label[~self.targets.crowd], minlength=len(self.labels))
        n_preds = np.bincount(self.preds.label, minlength=len(self.labels))
        ap, ap50 = self.by_label[:2].tolist()
        return {
            label: {
                "AP": ap[i] if n_targets[i] else None,
                "AP50": ap50[i] if n_targets[i] else None,
                "targets": int(n_targets[i]),
                "predictions": int(n_preds[i]),
            }
            for i, label in enumerate(self.labels)
        }

    def per_size(self) -> dict[str, dict[str, float | None]]:
        """AP and AR100 of small, medium and large targets."""
        found = statistics(self.by_label)
        return {
            size: {"AP": found[f"AP{size[0]}"], "AR100": found[f"AR{size[0]}"]} for size in SIZES
        }

    def ap50_lost(self) -> dict[str, float | None]:
        """The AP50 that each of TIDE's kinds of error costs, by COCO's own matching; None unknown.

        TIDE weighs missed targets by the AP of the others; where AP50 is 0 that cost is None.
        """
        if not len(self.targets.image):
            return dict.fromkeys(ERRORS.values())
        lost = self.matches.tide_errors()["delta_ap"]
        found = {name: lost[key] for key, name in ERRORS.items()}
        return found if statistics(self.by_label)["AP50"] else found | {"missed": None}

    def resampled_ap(self, draws: Floats, images: Ints) -> tuple[Floats, Floats]:
        """MAP and AP50 of every resample, Float "resamples" each; see `resampled_ap`."""
        if not self.labels:
            return np.full(len(draws), np.nan), np.full(len(draws), np.nan)
        return resampled_ap(self.matches, draws, images)


def resampled_ap(matches: COCOeval, draws: Floats, images: Ints) -> tuple[Floats, Floats]:
    """MAP and AP50 of every resample.

    Args:
        matches: of `match_boxes`.
        draws: Float "resamples images", how often each image was drawn.
        images: Int "rows", place of each row's image among them.

    Returns:
        Float "resamples" each; NaN where no target was drawn, and throughout where fewer than
        FEWEST images have any.
    """
    curves = Curves(match_records(matches))
    if len(np.unique(images[curves.target_image])) < FEWEST:
        return np.full(len(draws), np.nan), np.full(len(draws), np.nan)
    weights = (drawn.take(images).astype(np.int64) for drawn in draws)
    found = np.array([curves.precision(weight) for weight in weights])
    return found.mean(axis=1), found[:, 0]
