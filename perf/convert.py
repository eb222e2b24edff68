"""How fast annotations become samples, beside supervision and pycocotools.

    python perf/convert.py [--images 250 1000 4000] [--rounds 3] [--json]

Images of 640 x 480 pixels with 1 to 14 boxes each, made up by a fixed seed, as COCO, YOLO and
Pascal VOC. boxrl writes its JSON Lines; supervision reads the format and writes COCO; the
pycocotools column loads the file, walks its images and writes JSON Lines, as short scripts do.
Tools that are not installed are left out; all take turns in one process.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image
from timing import print_rows, summarize, take_turns

from boxrl.cli import main as boxrl

SIZE_WH, LABELS = (640, 480), [f"label{number}" for number in range(20)]
Box = tuple[int, int, int, int, int]
"""x1, y1, x2, y2 in pixels, number of the label."""


def draw_boxes(rng: random.Random) -> list[Box]:
    """1 to 14 boxes inside the image."""
    boxes = []
    for _ in range(rng.randint(1, 14)):
        x, y = rng.randint(0, 500), rng.randint(0, 380)
        box = (x, y, x + rng.randint(8, 139), y + rng.randint(8, 99), rng.randrange(len(LABELS)))
        boxes.append(box)
    return boxes


def write_formats(folder: Path, images: int) -> None:
    """coco.json, yolo/ with data.yaml, voc/ and images/, all with the same boxes."""
    for name in ("images", "yolo", "voc"):
        (folder / name).mkdir()
    Image.new("RGB", SIZE_WH, "grey").save(folder / "grey.jpg")
    rng, annotations = random.Random(0), []
    for number in range(images):
        shutil.copyfile(folder / "grey.jpg", folder / "images" / f"{number}.jpg")
        boxes = draw_boxes(rng)
        (folder / "yolo" / f"{number}.txt").write_text(render_yolo(boxes))
        (folder / "voc" / f"{number}.xml").write_text(render_voc(number, boxes))
        for x1, y1, x2, y2, label in boxes:
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": label + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0,
            })  # fmt: skip
    width, height = SIZE_WH
    dataset = {
        "images": [
            {"id": number, "file_name": f"{number}.jpg", "width": width, "height": height}
            for number in range(images)
        ],
        "annotations": annotations,
        "categories": [{"id": n + 1, "name": name} for n, name in enumerate(LABELS)],
    }
    (folder / "coco.json").write_text(json.dumps(dataset))
    (folder / "yolo" / "data.yaml").write_text(json.dumps({"nc": len(LABELS), "names": LABELS}))


def render_yolo(boxes: list[Box]) -> str:
    """Lines of label and centre, width, height as shares of the image."""
    width, height = SIZE_WH
    return "".join(
        f"{label} {(x1 + x2) / 2 / width:.6f} {(y1 + y2) / 2 / height:.6f} "
        f"{(x2 - x1) / width:.6f} {(y2 - y1) / height:.6f}\n"
        for x1, y1, x2, y2, label in boxes
    )


def render_voc(number: int, boxes: list[Box]) -> str:
    """One Pascal VOC annotation."""
    objects = "".join(
        f"<object><name>{LABELS[label]}</name><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for x1, y1, x2, y2, label in boxes
    )
    width, height = SIZE_WH
    return (
        f"<annotation><filename>{number}.jpg</filename><size><width>{width}</width>"
        f"<height>{height}</height><depth>3</depth></size>{objects}</annotation>"
    )


def walk_coco(folder: Path) -> None:
    """What short scripts do with pycocotools: one JSON line per image."""
    from pycocotools.coco import COCO

    coco = COCO(str(folder / "coco.json"))
    names = {row["id"]: row["name"] for row in coco.loadCats(coco.getCatIds())}
    with (folder / "walked.jsonl").open("w") as out:
        for image in coco.loadImgs(coco.getImgIds()):
            objects = []
            for row in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
                x, y, w, h = row["bbox"]
                objects.append({"bbox": [x, y, x + w, y + h], "label": names[row["category_id"]]})
            out.write(json.dumps({"image": image["file_name"], "objects": objects}) + "\n")


def converters(folder: Path, kind: str) -> dict[str, Callable[[], object]]:
    """{tool: conversion of this format}."""
    images = str(folder / "images")
    sources = {"coco": folder / "coco.json", "yolo": folder / "yolo", "voc": folder / "voc"}
    words = ["data", "convert", kind, "--annotations", str(sources[kind]), "--images", images]
    words += ["--out", str(folder / f"{kind}.jsonl"), "--json"]
    calls: dict[str, Callable[[], object]] = {"boxrl": lambda: boxrl(words)}
    if find_spec("supervision"):
        from supervision import DetectionDataset

        readers: dict[str, Callable[[], Any]] = {
            "coco": lambda: DetectionDataset.from_coco(images, str(sources["coco"])),
            "yolo": lambda: DetectionDataset.from_yolo(
                images, str(sources["yolo"]), str(sources["yolo"] / "data.yaml")
            ),
            "voc": lambda: DetectionDataset.from_pascal_voc(images, str(sources["voc"])),
        }
        out = str(folder / "supervision.json")
        calls["supervision"] = lambda: readers[kind]().as_coco(annotations_path=out)
    if kind == "coco" and find_spec("pycocotools"):
        calls["pycocotools"] = lambda: walk_coco(folder)
    return calls


def main() -> None:
    """Every format, every size, every tool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[250, 1000, 4000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for images in args.images:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_formats(folder, images)
            for kind in ("coco", "yolo", "voc"):
                with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                    calls = converters(folder, kind)
                    take_turns(calls, 1)  # imports and caches
                    seconds = take_turns(calls, args.rounds)
                rows += [
                    {"format": kind, "images": images, "tool": row.pop("what"), **row}
                    for row in summarize(seconds, "boxrl")
                ]
    print_rows(rows, args.json)


if __name__ == "__main__":
    main()
