"""Rex-Omni-EvalData to samples: one per line of its JSON lines, asking what the line asks.

Source: github.com/IDEA-Research/Rex-Omni, evaluation. A line has `image_path` (from the set's own
folder), `categories` (what is asked for), `gt` {name: boxes in pixels, xyxy}, `dataset_name` and
`task_name`; a category without boxes is not in the image. Rows of GUI elements have one box as
`gt`. Rows of points have masks beside their boxes, `gt_mask` {name: COCO's run lengths}, which go
to `meta.masks`. Rows of polygons are refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from boxrl.data.files import is_box
from boxrl.data.formats.image_folder import ImageFolder
from boxrl.data.formats.pictures import Picture, detection_sample
from boxrl.data.formats.reading import Reading, placed_xyxy, read_records, require, text_list
from boxrl.data.images import read_header
from boxrl.data.subsets import Instance
from boxrl.errors import DataError
from boxrl.types import Object, Sample, fold_label


def read_rexomni(annotations: Path, images: Path) -> Reading:
    """Samples of a file of `_annotations/box_eval`; ids are the file's stem and the image's.

    Args:
        annotations: such as COCO.jsonl.
        images: folder that the sets' archives unpack to; headers are read for the sizes.

    Raises:
        DataError: no such file. A bad line is a `Rejected`.
    """
    found = ImageFolder(images)
    seen: Counter[str] = Counter()

    def build(row: dict[str, Any], _: str, where: str) -> Sample:
        written = require(row, "image_path", str, where)
        key = f"{annotations.stem}/{PurePosixPath(written).stem}"
        seen[key] += 1
        return _sample(row, key if seen[key] == 1 else f"{key}#{seen[key]}", found, where)

    return read_records(annotations, build)._replace(images=found)


def _sample(row: dict[str, Any], key: str, images: ImageFolder, where: str) -> Sample:
    labels = text_list(row.get("categories"), "categories", where)
    if not labels or len(set(labels)) < len(labels):
        raise DataError(f"{where}: categories {labels!r:.80}; expected different names")
    image = images.locate(row["image_path"], where)
    size_wh = read_header(images.folder / image, where).size_wh
    boxes = [
        Instance(Object(placed_xyxy(box, size_wh, where), label), number, 0.0)
        for number, (label, box) in enumerate(_boxes(row.get("gt"), labels, where), start=1)
    ]
    picture = Picture(key, image, size_wh, boxes, row=row)
    kinds = {str(name): row[name] for name in ("dataset_name", "task_name") if name in row}
    if row.get("gt_mask"):
        kinds["masks"] = _masks(row["gt_mask"], row["gt"], size_wh, where)
    return detection_sample(key, picture, labels, boxes, {}, kinds)


def _masks(masks: Any, truth: Any, size_wh: tuple[int, int], where: str) -> list[dict[str, Any]]:
    """One mask per box, in the order of the boxes."""
    counts = {name: len(boxes) for name, boxes in truth.items()}
    if not isinstance(masks, dict) or counts != {
        name: len(some) for name, some in masks.items() if isinstance(some, list)
    }:
        raise DataError(f"{where}: gt_mask; expected a mask for every box of gt, by name")
    found = [mask for name in truth for mask in masks[name]]
    for mask in found:
        known = isinstance(mask, dict) and isinstance(mask.get("counts"), str)
        if not known or mask.get("size") != [size_wh[1], size_wh[0]]:
            raise DataError(
                f"{where}: gt_mask {mask!r:.60}; expected run lengths of an image of "
                f"{size_wh[0]} x {size_wh[1]}"
            )
    return found


def _boxes(truth: Any, labels: list[str], where: str) -> Iterator[tuple[str, Any]]:
    """(label, box) of every box, in the order of the line."""
    if is_box(truth):
        truth = {labels[0]: [truth]} if len(labels) == 1 else None
    if not isinstance(truth, dict):
        raise DataError(f"{where}: gt {truth!r:.80}; expected boxes by name")
    asked = {_bare(label): label for label in labels}
    for label, boxes in truth.items():
        if not isinstance(boxes, list) or not label.strip():
            raise DataError(f"{where}: gt of {label!r:.80}; expected a list of boxes")
        for box in boxes:
            yield asked.get(_bare(label), str(label)), box


def _bare(label: str) -> str:
    """A name as Rex-Omni's evaluation compares names."""
    return fold_label(label.replace("_", " "))
