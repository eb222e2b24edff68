"""How fast evaluation is at the size of COCO val2017, and that it equals pycocotools.

    python perf/evaluate.py [--rounds 3] [--json]

The data are made up by a fixed seed: 5,000 images, 36,000 targets of 80 labels, 446 of them crowd
regions, and 50,000 predictions: near hits, duplicates, wrong labels, noise. Each step runs in a
process of its own, on one core, from files to figures; the steps take turns. `times as fast` is
pycocotools' time over the step's in the same round. The time to import stands in a column of its
own: a user waits for it once per command. Exit status 1 where boxrl differs by more than 1e-9.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from timing import print_rows, spread

IMAGES, TARGETS, PREDICTIONS, LABELS, CROWD = 5_000, 36_000, 50_000, 80, 446
WIDTH, HEIGHT = 640, 480
ONE_CORE = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")}

STEPS = {
    "pycocotools, COCO files to the 12 statistics": (
        "from pycocotools.coco import COCO; from pycocotools.cocoeval import COCOeval",
        "coco = COCO('{folder}/annotations.json'); "
        "e = COCOeval(coco, coco.loadRes('{folder}/results.json'), 'bbox'); "
        "e.evaluate(); e.accumulate(); e.summarize(); figures = e.stats.tolist()",
    ),
    "boxrl coco-eval, COCO files to the 12 statistics": (
        "from pathlib import Path; from boxrl.evaluate.coco import evaluate_coco",
        "f = evaluate_coco(Path('{folder}/annotations.json'), Path('{folder}/results.json')); "
        "del f['protocol']; figures = list(f.values())",
    ),
    "boxrl evaluate, completions to every metric, no intervals": (
        "import boxrl.evaluate.files; from boxrl.cli import main",
        "main('evaluate --samples {folder}/samples.jsonl --predictions {folder}/one.jsonl "
        "--family plain --resamples 0 --json --out {folder}/one'.split()); figures = []",
    ),
    "boxrl evaluate with 1,000 resamples": (
        "import boxrl.evaluate.files; from boxrl.cli import main",
        "main('evaluate --samples {folder}/samples.jsonl --predictions {folder}/one.jsonl "
        "--family plain --json --out {folder}/one'.split()); figures = []",
    ),
    "boxrl compare, 5,000 images x 1,000 resamples": (
        "import boxrl.evaluate.files; from boxrl.cli import main",
        "main('compare {folder}/one {folder}/one --json'.split()); figures = []",
    ),
}


def make_up(rng: np.random.Generator) -> tuple[dict, list[dict]]:
    """Annotations and results in COCO's format."""
    share = rng.exponential(size=IMAGES)
    image = np.sort(rng.choice(IMAGES, TARGETS, p=share / share.sum()))
    label = rng.integers(0, LABELS, (IMAGES, 4))[image, rng.integers(0, 4, TARGETS)]
    side = np.exp(rng.normal(4, 1, (TARGETS, 2))).clip(4, 400)
    start = rng.random((TARGETS, 2)) * (np.array([WIDTH, HEIGHT]) - side).clip(1)
    side = np.minimum(side, np.array([WIDTH, HEIGHT]) - start)
    boxes = np.concatenate([start, side], axis=1).round(2)
    crowd = np.isin(np.arange(TARGETS), rng.choice(TARGETS, CROWD, replace=False))
    annotations = [
        {
            "id": k + 1,
            "image_id": int(image[k]) + 1,
            "category_id": int(label[k]) + 1,
            "bbox": boxes[k].tolist(),
            "area": float(boxes[k, 2] * boxes[k, 3]),
            "iscrowd": int(crowd[k]),
        }
        for k in range(TARGETS)
    ]
    source = np.sort(rng.integers(0, TARGETS, PREDICTIONS))
    found = boxes[source] + rng.normal(0, 0.08, (PREDICTIONS, 4)) * np.tile(side[source], 2)
    noise = rng.uniform((0, 0, 10, 10), (400, 300, 200, 150), (PREDICTIONS, 4))
    found = np.where(rng.random((PREDICTIONS, 1)) < 0.75, found, noise)
    corners = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:].clip(2)], axis=1)
    corners = corners.clip(0, np.array([WIDTH - 1, HEIGHT - 1] * 2))
    corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2] + 1)
    found = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).round(2)
    wrong = rng.integers(0, LABELS, PREDICTIONS)
    named = np.where(rng.random(PREDICTIONS) < 0.9, label[source], wrong)
    results = [
        {
            "image_id": int(image[source[k]]) + 1,
            "category_id": int(named[k]) + 1,
            "bbox": found[k].tolist(),
            "score": 1.0,
        }
        for k in range(PREDICTIONS)
    ]
    images = [{"id": k + 1, "width": WIDTH, "height": HEIGHT} for k in range(IMAGES)]
    categories = [{"id": k + 1, "name": f"label {k}"} for k in range(LABELS)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def write_files(folder: Path) -> None:
    """The same data as COCO files, and as samples with completions."""
    dataset, results = make_up(np.random.default_rng(0))
    (folder / "annotations.json").write_text(json.dumps(dataset))
    (folder / "results.json").write_text(json.dumps(results))
    names = {row["id"]: row["name"] for row in dataset["categories"]}
    objects: dict[int, list[dict]] = {row["id"]: [] for row in dataset["images"]}
    items: dict[int, list[dict]] = {row["id"]: [] for row in dataset["images"]}
    for rows, place, key in (
        (dataset["annotations"], objects, "bbox"),
        (results, items, "bbox_2d"),
    ):
        for row in rows:
            x, y, w, h = row["bbox"]
            box = {key: [x, y, x + w, y + h], "label": names[row["category_id"]]}
            crowd = {"iscrowd": True} if row.get("iscrowd") else {}
            place[row["image_id"]].append(box | crowd)
    with (
        (folder / "samples.jsonl").open("w") as samples,
        (folder / "one.jsonl").open("w") as predictions,
    ):
        for image in objects:
            sample = {
                "id": str(image),
                "image": f"{image}.jpg",
                "width": WIDTH,
                "height": HEIGHT,
                "task": "detection",
                "labels": list(names.values()),
                "objects": objects[image],
            }
            answer = json.dumps(items[image])
            completion = f"<think>I look.</think>\n<answer>```json\n{answer}\n```</answer>"
            row = {"id": str(image), "completion": completion, "n_tokens": 90}
            samples.write(json.dumps(sample) + "\n")
            predictions.write(json.dumps(row | {"finish_reason": "stop"}) + "\n")


PROBE = """
import json, resource, time
began = time.perf_counter()
{imports}
imports = time.perf_counter() - began
began = time.perf_counter()
{code}
print()
print(json.dumps({{
    "seconds": time.perf_counter() - began,
    "import": imports,
    "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    "figures": figures,
}}))
"""


def run_step(folder: Path, imports: str, code: str) -> dict:
    """Seconds, peak memory and the figures of a step, in a fresh Python."""
    probe = PROBE.format(imports=imports, code=code.format(folder=folder))
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    measured: dict = json.loads(done.stdout.splitlines()[-1])
    return measured


def summarize_step(name: str, runs: list[dict], peer: list[dict]) -> dict:
    """A row of the table: the step's rounds beside those of pycocotools."""
    ratios = [other["seconds"] / run["seconds"] for run, other in zip(runs, peer, strict=True)]
    return {
        "step": name,
        "seconds": spread([run["seconds"] for run in runs], 3),
        "times as fast": spread(ratios, 1),
        "seconds to import": spread([run["import"] for run in runs]),
        "peak GB": round(max(run["gb"] for run in runs), 2),
    }


def main() -> int:
    """Run every step and print the table; 1 where boxrl differs from pycocotools."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    os.environ.update(ONE_CORE)
    runs: dict[str, list[dict]] = {name: [] for name in STEPS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_files(folder)
        for _ in range(args.rounds):
            for name, step in STEPS.items():
                runs[name].append(run_step(folder, *step))
        metrics = json.loads((folder / "one" / "metrics.json").read_text())
    theirs, ours = (steps[0]["figures"] for steps in list(runs.values())[:2])
    both = zip(theirs[:3], (metrics[name] for name in ("mAP", "AP50", "AP75")), strict=True)
    off = max(abs(a - b) for a, b in [*zip(theirs, ours, strict=True), *both])
    peer = next(iter(runs.values()))
    rows = [summarize_step(name, steps, peer) for name, steps in runs.items()]
    print_rows(rows, args.json, **{"largest difference from pycocotools": off})
    return int(off > 1e-9)


if __name__ == "__main__":
    sys.exit(main())
