"""pycocotools as the reference for one image: what `ap` must equal."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

Box = Sequence[float]


def coco_stats(
    preds: Sequence[tuple[Box, str]], targets: Sequence[tuple[Box, str]]
) -> tuple[float, float]:
    """AP and AP50 of one image; boxes are xyxy, all confidences 1, categories those of targets."""
    category = {label: k for k, label in enumerate(dict.fromkeys(x for _, x in targets), start=1)}
    truth = [
        {"id": k, "image_id": 1, "iscrowd": 0, **coco_row(box, category[label])}
        for k, (box, label) in enumerate(targets, start=1)
    ]
    found = [
        {"image_id": 1, "score": 1.0, **coco_row(box, category[label])}
        for box, label in preds
        if label in category
    ]
    if not found:
        return 0.0, 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": 1, "width": 2048, "height": 2048}],
            "categories": [{"id": k, "name": label} for label, k in category.items()],
            "annotations": truth,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def coco_row(box: Box, category_id: int) -> dict[str, Any]:
    """Box, area and category as COCO writes them."""
    x1, y1, x2, y2 = (float(value) for value in box)
    width, height = x2 - x1, y2 - y1
    return {"bbox": [x1, y1, width, height], "area": width * height, "category_id": category_id}
