"""How fast AP of a results file is, beside four other evaluators, and how the cost grows.

    python perf/coco_eval.py [--images 500 1500 5000] [--rounds 3] [--json]

The made-up data of perf/evaluate.py, cut to the first N images. pycocotools,
faster-coco-eval and boxrl go from COCO's two files to figures; torchmetrics and supervision start
from arrays in memory, which are not counted. Evaluators that are not installed are left out; all
take turns in one process. supervision knows no crowd regions, so its AP differs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"})

import numpy as np
from timing import print_rows, summarize, take_turns

from boxrl.engines.torchvision_repair import repair_torchvision
from boxrl.evaluate.coco import evaluate_coco
from evaluate import make_up

Evaluator = Callable[[], float]


def write_first(folder: Path, dataset: dict[str, Any], results: list[Any], images: int) -> None:
    """COCO's two files of the first `images` images."""
    kept = [row for row in dataset["annotations"] if row["image_id"] <= images]
    part = dataset | {"images": dataset["images"][:images], "annotations": kept}
    (folder / "annotations.json").write_text(json.dumps(part))
    found = [row for row in results if row["image_id"] <= images]
    (folder / "results.json").write_text(json.dumps(found))


def from_files(folder: Path) -> dict[str, Evaluator]:
    """Evaluators that read the two files."""
    annotations, results = folder / "annotations.json", folder / "results.json"

    def pycocotools(coco: Any, evaluation: Any) -> float:
        truth = coco(str(annotations))
        run = evaluation(truth, truth.loadRes(str(results)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
        return float(run.stats[0])

    calls: dict[str, Evaluator] = {"boxrl": lambda: evaluate_coco(annotations, results)["mAP"]}
    if find_spec("pycocotools"):
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        calls["pycocotools"] = lambda: pycocotools(COCO, COCOeval)
    if find_spec("faster_coco_eval"):
        import faster_coco_eval as fast

        calls["faster-coco-eval"] = lambda: pycocotools(fast.COCO, fast.COCOeval_faster)
    return calls


def by_image(rows: list[dict[str, Any]], images: int) -> list[dict[str, np.ndarray]]:
    """Per image: boxes Float "n 4" xyxy, labels, crowd flags, scores."""
    grouped: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        grouped[row["image_id"]].append(row)
    arrays = []
    for number in range(1, images + 1):
        found = grouped[number]
        boxes = np.array([row["bbox"] for row in found], dtype=np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        arrays.append(
            {
                "boxes": boxes,
                "labels": np.array([row["category_id"] for row in found], dtype=int),
                "iscrowd": np.array([row.get("iscrowd", 0) for row in found], dtype=int),
                "scores": np.array([row.get("score", 1.0) for row in found], dtype=np.float32),
            }
        )
    return arrays


def from_arrays(folder: Path, images: int) -> dict[str, Evaluator]:
    """Evaluators that take arrays; the files are read before the clock starts."""
    truth = json.loads((folder / "annotations.json").read_text())["annotations"]
    targets = by_image(truth, images)
    preds = by_image(json.loads((folder / "results.json").read_text()), images)
    calls: dict[str, Evaluator] = {}
    if find_spec("torchmetrics") and repair_torchvision():
        import torch
        from torchmetrics.detection import MeanAveragePrecision

        torch.set_num_threads(1)
        tensors = [[{k: torch.from_numpy(v) for k, v in row.items()} for row in rows]
                   for rows in (preds, targets)]  # fmt: skip

        def torchmetrics(backend: str) -> float:
            metric = MeanAveragePrecision(backend=backend)
            metric.warn_on_many_detections = False
            metric.update(*tensors)
            return float(metric.compute()["map"])

        calls["torchmetrics (pycocotools)"] = lambda: torchmetrics("pycocotools")
        calls["torchmetrics (faster-coco-eval)"] = lambda: torchmetrics("faster_coco_eval")
    if find_spec("supervision"):
        import supervision

        detections = [
            [supervision.Detections(r["boxes"], confidence=r["scores"], class_id=r["labels"])
             for r in rows]
            for rows in (preds, targets)
        ]  # fmt: skip
        calls["supervision"] = lambda: float(
            supervision.metrics.MeanAveragePrecision().update(*detections).compute().map50_95
        )
    return calls


def main() -> None:
    """Every evaluator at every size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[500, 1500, 5000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    dataset, results = make_up(np.random.default_rng(0))
    rows: list[dict[str, Any]] = []
    for images in args.images:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_first(folder, dataset, results, images)
            calls = from_files(folder) | from_arrays(folder, images)
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                figures = {name: call() for name, call in calls.items()}
                summary = summarize(take_turns(calls, args.rounds), "boxrl")
        rows += [
            {"images": images, "evaluator": row.pop("what"), **row, "mAP": round(mean, 6)}
            for row, mean in zip(summary, figures.values(), strict=True)
        ]
    print_rows(rows, args.json)


if __name__ == "__main__":
    main()
