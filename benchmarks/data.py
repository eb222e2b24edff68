"""How fast `data convert coco` and `data lint` are on annotations of the size of COCO train2017.

    python benchmarks/data.py [--keep FOLDER] [--peers PYTHON] [--json]

The annotations are made up by a fixed seed: 118,287 images and 860,001 boxes, with polygons of
the length that makes the file about as large as the published one (448 MB). Each step runs in a
process of its own, so that time and peak memory are its own; pycocotools' and supervision's own
loading of the same file stand beside it where they are installed. supervision draws a mask of
every polygon, 264 GB in all, and ends at the cap of 12 GB; the last rows load the same boxes
without polygons.
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

IMAGES, BOXES, LABELS = 118_287, 860_001, 80
POLYGON_POINTS = 27
LIMIT_S, LIMIT_GB = 30.0, 2.0
MEMORY_CAP = 12 * 2**30

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
SUPERVISION = (
    "import supervision; supervision.DetectionDataset.from_coco('{folder}/images', '{file}')"
)
WITH, WITHOUT = "instances.json", "boxes.json"
STEPS = {
    "boxrl data convert coco --mode positive": (CONVERT, WITH),
    "boxrl data lint (no images)": (LINT, WITH),
    "pycocotools COCO(file)": (PYCOCOTOOLS, WITH),
    "supervision DetectionDataset.from_coco": (SUPERVISION, WITH),
    "no polygons: boxrl data convert coco --mode positive": (CONVERT, WITHOUT),
    "no polygons: pycocotools COCO(file)": (PYCOCOTOOLS, WITHOUT),
    "no polygons: supervision DetectionDataset.from_coco": (SUPERVISION, WITHOUT),
}


def write_annotations(path: Path, images: int, boxes: int, points: int, seed: int = 0) -> None:
    """A COCO instances file of that many images and boxes; every image has a box.

    `points` of each polygon; 0 leaves segmentations out, all else stays the same.
    """
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
            **({"segmentation": [outline]} if points else {}),
            "area": round(width * height * 0.6, 5),
            "iscrowd": 0,
            "image_id": image,
            "bbox": [round(value, 2) for value in (x, y, width, height)],
            "category_id": rng.randint(1, LABELS),
            "id": number,
        }


def measure(code: str, python: str = sys.executable) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak memory in GB of a fresh `python` that runs `code`.

    On a machine that is busy with other work, processor seconds are what one free core would need.

    Raises:
        RuntimeError: the code failed.
    """
    probe = (
        "import resource, sys, time; start = time.perf_counter()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_CAP}, {MEMORY_CAP}))\n"
        "try:\n"
        f"    {code}\n"
        "except SystemExit as end:\n"
        "    if end.code: raise\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print('measured', time.perf_counter() - start, used.ru_utime + used.ru_stime, "
        "used.ru_maxrss / 2**20)"
    )
    done = subprocess.run([python, "-c", probe], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1][:80])
    _, seconds, busy, gigabytes = done.stdout.splitlines()[-1].split()
    return float(seconds), float(busy), float(gigabytes)


def main() -> int:
    """Make the annotations, run every step, print the table; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="folder to make and keep the files in")
    parser.add_argument(
        "--peers", default=sys.executable, help="a Python that has pycocotools and supervision"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        (folder / "images").mkdir(parents=True, exist_ok=True)
        for name, points in ((WITH, POLYGON_POINTS), (WITHOUT, 0)):
            if not (folder / name).exists():
                write_annotations(folder / name, IMAGES, BOXES, points)
        size = (folder / WITH).stat().st_size / 1e6
        print(f"{IMAGES:,} images, {BOXES:,} boxes, {size:.0f} MB", file=sys.stderr)
        rows, missed = [], 0
        for name, (code, file) in STEPS.items():
            try:
                python = sys.executable if "boxrl" in name else args.peers
                code = code.format(folder=folder, file=folder / file)
                seconds, busy, gigabytes = measure(code, python)
            except RuntimeError as error:
                rows.append({"step": name, "error": str(error)})
                missed += "boxrl" in name
                continue
            figures = {"seconds": seconds, "cpu_seconds": busy, "gb": gigabytes}
            rows.append({"step": name, **{key: round(v, 2) for key, v in figures.items()}})
            missed += "boxrl" in name and (seconds > LIMIT_S or gigabytes > LIMIT_GB)
    if args.json:
        print(json.dumps({"images": IMAGES, "boxes": BOXES, "file_mb": round(size), "rows": rows}))
    else:
        print("| step | seconds | processor seconds | peak GB |\n|---|---|---|---|")
        for row in rows:
            figures = [row.get(key, "") for key in ("seconds", "cpu_seconds", "gb")]
            print("|", " | ".join(map(str, [row["step"], *figures])), "|", row.get("error", ""))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
