"""Random data sets in COCO's format, and what pycocotools says of them."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

STATISTICS = (
    "mAP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip


def random_coco(
    rng: np.random.Generator, n_images: int, n_labels: int, tied: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Annotations with crowd regions, and results: near hits, duplicates, wrong labels, noise."""
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in range(1, n_images + 1):
        for _ in range(rng.integers(0, 7)):
            x, y = rng.integers(0, 400, 2).tolist()
            w, h = rng.integers(2, 160, 2).tolist()
            label = int(rng.integers(1, n_labels + 1))
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": label,
                 "bbox": [x, y, w, h], "area": w * h * 0.7, "iscrowd": int(rng.random() < 0.15)}
            )  # fmt: skip
            for _ in range(rng.integers(0, 4)):
                shift = rng.integers(-w // 5 - 1, w // 5 + 2, 4).tolist()
                wrong = int(rng.integers(1, n_labels + 1))
                wide, high = max(w + shift[2], 1), max(h + shift[3], 1)
                results.append(
                    {"image_id": image, "category_id": label if rng.random() < 0.8 else wrong,
                     "bbox": [x + shift[0], y + shift[1], wide, high],
                     "score": 1.0 if tied else float(rng.integers(1, 12)) / 12}
                )  # fmt: skip
    images = [{"id": k, "width": 640, "height": 640} for k in range(1, n_images + 1)]
    categories = [{"id": k, "name": f"thing {k}"} for k in range(1, n_labels + 1)]
    order = rng.permutation(len(results))
    dataset = {"images": images, "annotations": annotations, "categories": categories}
    return dataset, [results[k] for k in order]


def pycocotools_statistics(dataset: Any, results: Any) -> dict[str, float | None]:
    """The twelve statistics; None for its -1."""
    values = pycocotools_evaluation(dataset, results).stats.tolist()
    return {n: None if v == -1 else v for n, v in zip(STATISTICS, values, strict=True)}


def pycocotools_evaluation(dataset: Any, results: Any) -> COCOeval:
    """pycocotools' evaluator after everything that it does."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(dataset)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation
