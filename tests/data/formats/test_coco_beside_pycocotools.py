"""COCO files as pycocotools itself loads them, before and after they were samples."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from boxrl.data.formats.coco import read_coco
from boxrl.data.formats.coco_export import write_coco
from tests.support.archives import rows_of, write_json

NAMES = ("dog", "cat", "red cup")


def draw_document(rng: random.Random) -> dict[str, Any]:
    images = [
        {"id": key, "file_name": f"{key}.jpg", "width": 640, "height": 480}
        for key in rng.sample(range(1000), 20)
    ]
    rows = []
    for number in range(1, 120):
        width, height = rng.uniform(1, 300), rng.uniform(1, 200)
        x, y = rng.uniform(0, 640 - width), rng.uniform(0, 480 - height)
        box = [round(value, 2) for value in (x, y, width, height)]
        rows.append({
            "id": number, "image_id": rng.choice(images)["id"], "bbox": box,
            "category_id": rng.choice((3, 7, 11)), "iscrowd": int(rng.random() < 0.1),
            "area": round(width * height * 0.6, 3),
        })  # fmt: skip
    rng.shuffle(rows)
    categories = [{"id": k, "name": n} for k, n in zip((3, 7, 11), NAMES, strict=True)]
    return {"images": images, "annotations": rows, "categories": categories}


def loaded(path: Path) -> dict[str, list[Any]]:
    """By file: name, corners, crowd and area of every annotation as pycocotools joins them."""
    tool = pytest.importorskip("pycocotools.coco").COCO(str(path))
    names = {row["id"]: row["name"] for row in tool.loadCats(tool.getCatIds())}
    found = {}
    for image in tool.loadImgs(tool.getImgIds()):
        rows = tool.loadAnns(tool.getAnnIds(imgIds=image["id"]))
        found[image["file_name"]] = sorted(
            (names[row["category_id"]], _corners(row["bbox"]), row["iscrowd"], row["area"])
            for row in rows
        )
    return found


def _corners(bbox: list[float]) -> tuple[float, ...]:
    x, y, width, height = bbox
    return tuple(round(value, 6) for value in (x, y, x + width, y + height))


@pytest.mark.parametrize("seed", range(5))
def test_the_same_objects_in_the_same_images_there_and_back(tmp_path: Path, seed: int) -> None:
    path = write_json(tmp_path / "instances.json", draw_document(random.Random(seed)))
    expected = loaded(path)
    samples = rows_of(read_coco(path, tmp_path, mode="all"))
    read = {
        sample.image: sorted(
            (item.label, tuple(round(v, 6) for v in item.bbox), int(item.iscrowd), area)
            for item, area in zip(sample.objects, sample.meta["areas"], strict=True)
        )
        for sample in samples
    }
    assert read == expected
    write_coco(tmp_path / "again.json", samples)
    assert loaded(tmp_path / "again.json") == expected


@pytest.mark.parametrize("mode", ["all", "positive", "one_box"])
def test_plain_annotations_read_as_those_of_a_file_with_one_odd_row(tmp_path: Path, mode) -> None:
    """Files as COCO writes them are read on a short way: the samples are those of the long one."""
    document = draw_document(random.Random(mode))
    rows = document["annotations"]
    rows[0] |= {"bbox": [600, 400, 41, 80]}  # cut to the image
    rows[1] |= {"area": None}
    plain = write_json(tmp_path / "plain.json", document)
    odd = {"id": 500, "image_id": 1000, "category_id": 3, "bbox": ["1", "2", "3", "4"], "area": 12}
    image = {"id": 1000, "file_name": "odd.jpg", "width": 640, "height": 480}
    changed = document | {"images": [*document["images"], image], "annotations": [*rows, odd]}
    *samples, last = rows_of(read_coco(write_json(tmp_path / "odd.json", changed), tmp_path,
                                       mode=mode))  # fmt: skip
    assert last.image == "odd.jpg"
    assert rows_of(read_coco(plain, tmp_path, mode=mode)) == samples
