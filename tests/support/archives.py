"""Archives in their publishers' forms, small enough to compute by hand."""

import json
import shutil
from pathlib import Path

from PIL import Image

GOLDEN = Path(__file__).parents[1] / "golden/formats"

IMAGES = [
    {"id": 1, "file_name": "a.jpg", "width": 640, "height": 480},
    {"id": 2, "file_name": "b.jpg", "width": 200, "height": 100},
    {"id": 3, "file_name": "c.jpg", "width": 100, "height": 100},
]
CATEGORIES = [
    {"id": 18, "name": "dog", "supercategory": "animal"},
    {"id": 1, "name": "person", "supercategory": "person"},
    {"id": 44, "name": "bottle", "supercategory": "kitchen"},
]


def annotation(number, image_id, category_id, bbox, **more):
    row = {"id": number, "image_id": image_id, "category_id": category_id, "bbox": bbox}
    return {**row, "area": bbox[2] * bbox[3] * 0.5, "iscrowd": 0, **more}


def coco_document():
    """Image 1: two dogs, one person, a crowd of persons; image 2: one bottle; image 3: nothing."""
    polygon = [[10.0, 20.0, 110.0, 20.0, 110.0, 70.0]]
    annotations = [
        annotation(7, 1, 18, [10, 20, 100, 50], segmentation=polygon),
        annotation(3, 1, 1, [0.5, 0.25, 30.1, 40.2]),
        annotation(9, 1, 18, [600, 400, 40, 80], segmentation=[]),
        annotation(11, 1, 1, [100, 100, 300, 200], iscrowd=1, segmentation={"counts": [1, 2]}),
        annotation(5, 2, 44, [50, 60, 10, 9]),
    ]
    return {"info": {}, "images": IMAGES, "annotations": annotations, "categories": CATEGORIES}


def write_json(path: Path, content, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, **options), encoding="utf-8")
    return path


def write_image(path: Path, size_wh=(64, 48)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size_wh, (120, 90, 60)).save(path)
    return path


def golden_archive(name: str, file: str):
    """Builds a golden format and its images into a folder: (annotations, images)."""

    def build(folder: Path) -> tuple[Path, Path]:
        shutil.copytree(GOLDEN / name, folder / name)
        (folder / name / "expected.json").unlink()
        for image in ("street.png", "empty.png", "sub/street.png", "train/street.png",
                      "train/sub/empty.png"):  # fmt: skip
            (folder / image).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(GOLDEN / "street.png", folder / image)
        return folder / name / file, folder

    return build


def lvis_document():
    """Image 1: a dog; a cat was looked for and is not there, birds are annotated in part."""
    image = {"id": 1, "coco_url": "http://x.org/val2017/a.png", "width": 64, "height": 48}
    known = {"neg_category_ids": [2], "not_exhaustive_category_ids": [1]}
    names = ("dog", "cat", "bird")
    return {
        "images": [image | known],
        "annotations": [annotation(1, 1, 1, [1, 2, 30, 20])],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names, start=1)],
    }


REX_OMNI = {
    "image_path": "coco/a.png",
    "categories": ["dog", "cat"],
    "gt": {"dog": [[1, 2, 30, 20], [5, 5, 40, 40]]},
    "dataset_name": "COCO",
    "task_name": "common_object_detection",
}


def rows_of(reading):
    return list(reading.rows)


def boxes_of(sample):
    return [(item.label, item.bbox) for item in sample.objects]
