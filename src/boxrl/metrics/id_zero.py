"""What pycocotools says of a file in which a target has the id 0.

It marks a match by the target's id, so a match with id 0 reads as none: the detection becomes a
false positive, and the target stays taken. OVDEval's files count ids from 0, and the numbers of
its official script hold this fault; boxrl reproduces it where those numbers are asked for.

Source: `COCOeval.evaluateImg` and `accumulate` of pycocotools.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from boxrl.metrics.average_precision import (
    STATISTICS,
    Predictions,
    Targets,
    as_coco,
    match_boxes,
)
from boxrl.metrics.precision_recall import ALL_SIZES, Curves, match_records

SIZE_RANGES = {"s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, 1e10)}


def statistics_with_id_zero(
    targets: Targets, preds: Predictions, n_images: int, n_labels: int, zero: int
) -> dict[str, float | None]:
    """COCO's twelve statistics as pycocotools gives them; None where it writes -1.

    Args:
        targets: what is right.
        preds: what was found.
        n_images: number of images.
        n_labels: number of labels.
        zero: row of the target with id 0.
    """
    evaluator = match_boxes(targets, preds, n_images, n_labels)
    areas = as_coco(preds.boxes)[:, 2:].prod(axis=1)
    once = np.ones(n_images, dtype=np.int64)

    def curves(size_range: tuple[float, float], max_boxes: int = 100) -> Curves:
        records = match_records(evaluator, size_range)
        _lose_matches(records, zero + 1, areas, size_range)
        return Curves(records, max_boxes)

    precision = curves(ALL_SIZES).precision(once)
    found = {"mAP": precision.mean(), "AP50": precision[0], "AP75": precision[5]}
    for size, size_range in SIZE_RANGES.items():
        found[f"AP{size}"] = curves(size_range).precision(once).mean()
        found[f"AR{size}"] = curves(size_range).recall(once).mean()
    for cap in (1, 10, 100):
        found[f"AR{cap}"] = curves(ALL_SIZES, cap).recall(once).mean()
    return {name: None if np.isnan(found[name]) else float(found[name]) for name in STATISTICS}


def _lose_matches(
    records: list[dict[str, Any]],
    target_id: int,
    areas: npt.NDArray[np.float64],
    size_range: tuple[float, float],
) -> None:
    """Make every match with the target a miss, ignored where the box is outside the range."""
    for record in records:
        if target_id not in record["gtIds"]:
            continue
        excused = record["gtIgnore"][record["gtIds"].index(target_id)]
        for at, matches in enumerate(record["dtMatches"]):
            for place, matched_id in enumerate(matches):
                if matched_id != target_id:
                    continue
                size = areas[record["dtIds"][place] - 1]
                outside = not size_range[0] <= size <= size_range[1]
                record["dtMatched"][at][place] = False
                record["dtIgnore"][at][place] = excused or outside
