"""How fast `data convert coco` and `data lint` are on annotations of the size of COCO train2017.

    python perf/data.py [--rounds 3] [--peers PYTHON] [--json]

The annotations are made up by a fixed seed: 118,287 images and 860,001 boxes, with polygons of
the length that makes the file about as large as the published one (448 MB). Each step runs in a
process of its own, import included; the steps take turns. Seconds are the processor's, which a
busy machine lengthens less than the clock's; every step has one thread. pycocotools only loads
the file, while `convert` also checks every box and path and writes the samples. supervision draws
a mask of every polygon, 264 GB in all: perf/convert.py has it on smaller data. Exit status 1 where
a step of boxrl takes more than 6 s or 1.3 GB.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from timing import print_rows, spread

IMAGES, BOXES, LABELS = 118_287, 860_001, 80
POLYGON_POINTS = 27
LIMIT_S, LIMIT_GB = 6.0, 1.3

CONVERT = (
    "from boxrl.cli import main; raise SystemExit(main(['data', 'convert', 'coco', "
    "'--annotations', '{file}', '--images', '{folder}/images', "
    "'--mode', 'positive', '--out', '{folder}/train.jsonl', '--json']))"
)
LINT = (
    "from boxrl.cli import main; raise SystemExit(main(['data', 'lint', "
    "'{folder}/train.jsonl', '--json']))"
)
PYCOCOTOOLS = "from pycocotools.coco import COCO; COCO('{file}')"
PEER = "pycocotools COCO(file)"
STEPS = {
    "boxrl data convert coco --mode positive": CONVERT,
    "boxrl data lint (no images)": LINT,
    PEER: PYCOCOTOOLS,
}


def write_annotations(path: Path, images: int, boxes: int, points: int, seed: int = 0) -> None:
    """A COCO instances file of that many images and boxes, every image with a box."""
    with path.open("w", encoding="utf-8") as handle:
        handle.write('{"info": {"description": "made up"}, "licenses": [], "images": [')
        _write_all(handle, _images(images))
        handle.write('], "annotations": [')
        _write_all(handle, _annotations(images, boxes, points, seed))
        categories = [{"id": i, "name": f"label {i}", "supercategory": "thing"} for i in _ids()]
        handle.write(f'], "categories": {json.dumps(categories)}}}')


def _ids() -> range:
    return range(1, LABELS + 1)


def _write_all(handle, rows: Iterator[dict]) -> None:
    for number, row in enumerate(rows):
        handle.write((", " if number else "") + json.dumps(row))


def _images(count: int) -> Iterator[dict]:
    for number in range(1, count + 1):
        name = f"{number:012d}.jpg"
        yield {
            "license": 3,
            "file_name": name,
            "coco_url": f"http://images.cocodataset.org/train2017/{name}",
            "height": 480,
            "width": 640,
            "date_captured": "2013-11-14 11:18:45",
            "flickr_url": "http://farm9.staticflickr.com/8186/8119368305_4e622c8349_z.jpg",
            "id": number,
        }


def _annotations(images: int, boxes: int, points: int, seed: int) -> Iterator[dict]:
    rng, outlines = random.Random(seed), random.Random(f"{seed} outlines")
    for number in range(1, boxes + 1):
        image = number if number <= images else rng.randint(1, images)
        width, height = rng.uniform(8, 300), rng.uniform(8, 300)
        x, y = rng.uniform(0, 640 - width), rng.uniform(0, 480 - height)
        outline = [
            round(start + side * outlines.random(), 2)
            for _ in range(points)
            for start, side in ((x, width), (y, height))
        ]
        yield {
            "segmentation": [outline],
            "area": round(width * height * 0.6, 5),
            "iscrowd": 0,
            "image_id": image,
            "bbox": [round(value, 2) for value in (x, y, width, height)],
            "category_id": rng.randint(1, LABELS),
            "id": number,
        }


def measure(code: str, python: str) -> dict[str, float]:
    """CPU seconds and peak memory in GB of a fresh `python` that runs `code`."""
    probe = (
        "import resource\n"
        "try:\n"
        f"    {code}\n"
        "except SystemExit as end:\n"
        "    if end.code: raise\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print('measured', used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20)"
    )
    done = subprocess.run([python, "-c", probe], stdout=subprocess.PIPE, text=True, check=True)
    _, seconds, gigabytes = done.stdout.splitlines()[-1].split()
    return {"seconds": float(seconds), "gb": float(gigabytes)}


def main() -> int:
    """Make the annotations, run every step, print the table; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default=sys.executable, help="a Python that has pycocotools")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in STEPS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "images").mkdir()
        file = folder / "instances.json"
        write_annotations(file, IMAGES, BOXES, POLYGON_POINTS)
        megabytes = round(file.stat().st_size / 1e6)
        for _ in range(args.rounds):
            for name, code in STEPS.items():
                python = args.peers if name == PEER else sys.executable
                runs[name].append(measure(code.format(folder=folder, file=file), python))
    rows = []
    for name, steps in runs.items():
        pairs = zip(runs[PEER], steps, strict=True)
        rows.append({
            "step": name,
            "CPU seconds": spread([run["seconds"] for run in steps]),
            "times as fast": spread([peer["seconds"] / run["seconds"] for peer, run in pairs]),
            "peak GB": round(max(run["gb"] for run in steps), 2),
        })  # fmt: skip
    sizes = {"images": IMAGES, "boxes": BOXES, "MB of annotations": megabytes}
    print_rows(rows, args.json, **sizes)
    ours = [row for row in rows if row["step"] != PEER]
    return int(any(row["CPU seconds"][1] > LIMIT_S or row["peak GB"] > LIMIT_GB for row in ours))


if __name__ == "__main__":
    sys.exit(main())
