"""Open-vocabulary rows to samples: ODVG's JSON lines and MDETR's COCO files with captions.

Source: github.com/longzw1997/Open-GroundingDino, data_format.md; github.com/ashkamath/mdetr. A line
of ODVG has `detection` {instances: [{bbox, label, category}]}, all objects of the label map, or
`grounding` {caption, regions: [{bbox, phrase}]}; boxes are xyxy pixels, although the key is bbox.
MDETR names each box by spans of characters of its image's caption. Law: of a caption, and of a
detection row without a label map, what it names is asked for; what else the image holds is not
known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from boxrl.data.files import is_box, is_number, read_lines
from boxrl.data.formats.coco_dialects import image_size
from boxrl.data.formats.coco_joins import as_id
from boxrl.data.formats.documents import Document, read_document
from boxrl.data.formats.image_folder import ImageFolder
from boxrl.data.formats.marks import Collection, Mark
from boxrl.data.formats.pictures import Asking, Picture, is_uncounted
from boxrl.data.formats.reading import Reading, require
from boxrl.data.formats.turns import untold_turn
from boxrl.data.subsets import Mode
from boxrl.errors import DataError
from boxrl.guard.files import parse_json_object
from boxrl.types import fold_label

Row = dict[str, Any]


def read_odvg(
    annotations: Path,
    images: Path,
    *,
    subset: Sequence[str] = (),
    mode: Mode = "positive",
    negatives: int = 0,
    seed: int = 0,
) -> Reading:
    """Samples of a file, in its order; ids are the stems of the images.

    Args:
        annotations: ODVG's .jsonl, with label_map.json beside it where it has detection rows, or
            MDETR's .json.
        images: folder of the images; opened only where a row tells no size.
        subset: as for COCO.
        mode: as for COCO.
        negatives: as for COCO; only detection rows can have any, of the labels of the map.
        seed: of their draw.

    Raises:
        DataError: no such file, or of neither form. A bad row is a `Rejected`.
        UsageError: see `read_coco`.
    """
    asking = Asking(subset, mode, "detection", negatives, seed)
    collection = Collection(ImageFolder(images))
    if annotations.suffix == ".json" or annotations.suffixes[-2:] == [".json", ".gz"]:
        _collect_captions(Document(annotations), collection)
        return collection.reading(asking)
    names = _label_map(annotations.parent)
    for line, content in read_lines(annotations):
        where, row = f"{annotations}:{line}", None
        try:
            if isinstance(content, DataError):
                raise content
            row = parse_json_object(content, where)
            _add_row(row, names, collection, where)
        except DataError as error:
            collection.reject(error, row)
    return collection.reading(asking, list(dict.fromkeys([*names.values(), *collection.labels()])))


def _label_map(folder: Path) -> dict[str, str]:
    """Names by number, of the label map beside the rows; empty where there is none."""
    found = sorted(folder.glob("*label_map*.json")) or sorted(folder.glob("*label*.json"))
    if not found:
        return {}
    if len(found) > 1:
        listed = ", ".join(path.name for path in found[:5])
        raise DataError(
            f"{folder}: {listed}; expected one label map beside the rows: put each file of rows "
            "into a folder with its own"
        )
    path = found[0]
    try:
        content = json.loads(read_document(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:1: not JSON ({error})") from error
    if not isinstance(content, dict) or not all(isinstance(n, str) for n in content.values()):
        raise DataError(f'{path}:1: expected {{"0": "name", ...}}, got {content!r:.80}')
    return content


def _add_row(row: Row, names: dict[str, str], collection: Collection, where: str) -> None:
    """Put a line into the collection."""
    written = require(row, "filename", str, where)
    image = collection.images.locate(written, where)
    size_wh = image_size(row, collection.images, image, where)
    key = str(PurePosixPath(image).with_suffix(""))
    picture = Picture(key, image, size_wh, [], key, row=row)
    if isinstance(row.get("detection"), dict):
        instances = require(row["detection"], "instances", list, where)
        marks = [
            _mark(_name(item, names, where), item.get("bbox"), where, item)
            for item in instances
            if isinstance(item, dict) or _raise(where, item)
        ]
        picture.verified = frozenset(names.values())
    elif isinstance(row.get("grounding"), dict):
        regions = require(row["grounding"], "regions", list, where)
        marks = [mark for region in regions for mark in _region(region, where)]
        picture.verified = frozenset()
    else:
        raise DataError(f"{where}: expected detection or grounding, as ODVG has it")
    collection.add(picture, marks, where)


def _raise(where: str, item: Any) -> bool:
    raise DataError(f"{where}: expected an instance, got {item!r:.80}")


def _name(item: Row, names: dict[str, str], where: str) -> Any:
    """The label by name, where it has one; that of its number has to be the same."""
    category, known = item.get("category"), names.get(str(item.get("label")))
    told = names and isinstance(category, str) and "label" in item
    if told and fold_label(category) != fold_label(known or ""):
        raise DataError(
            f"{where}: label {item['label']!r:.40} is {category!r:.80} here and {known!r:.80} in "
            "the label map; take the map of these rows"
        )
    return category or known


def _region(region: Any, where: str) -> Iterator[Mark]:
    """A phrase has one box, or a list of them."""
    if not isinstance(region, dict):
        raise DataError(f"{where}: expected a region, got {region!r:.80}")
    boxes = region.get("bbox")
    if isinstance(boxes, list) and boxes and all(map(is_number, boxes)):
        boxes = [boxes]
    for box in boxes if isinstance(boxes, list) and boxes else [boxes]:
        yield _mark(region.get("phrase"), box, where, region)


def _mark(label: Any, box: Any, where: str, row: Row) -> Mark:
    return Mark(label, box, where, is_uncounted(row), row, untold_turn(row))


def _collect_captions(document: Document, collection: Collection) -> None:
    """Put the images of an MDETR file into the collection."""
    rows = document.array("annotations")
    if not any("tokens_positive" in row for row in rows):
        raise DataError(f"{document.path}:1: no tokens_positive, so that this is no MDETR file")
    mine: dict[Any, list[int]] = {}
    for place, row in enumerate(rows):
        mine.setdefault(as_id(row.get("image_id")), []).append(place)
    for place, row in enumerate(document.array("images")):
        where, key = document.where("images", place), as_id(row.get("id"))
        found = mine.pop(key, [])
        try:
            caption = require(row, "caption", str, where)
            image = collection.images.locate(require(row, "file_name", str, where), where)
            size_wh = image_size(row, collection.images, image, where)
        except DataError as error:
            collection.reject(error, row, max(1, len(found)))
            continue
        picture = Picture(str(key), image, size_wh, [], key, verified=frozenset(), row=row)
        marks = [_spoken(rows[n], caption, document.where("annotations", n)) for n in found]
        collection.add(picture, marks, where)
    for places in mine.values():
        for place in places:
            where = document.where("annotations", place)
            image_id = rows[place].get("image_id")
            lone = DataError(f"{where}: no image has the id {image_id!r:.80}")
            collection.stray(lone, rows[place], None)


def _spoken(row: Row, caption: str, where: str) -> Mark:
    """A box by the words of the caption that its spans hold."""
    try:
        words = [caption[start:end].strip() for start, end in row["tokens_positive"]]
        label: str | None = " ".join(words)
    except (TypeError, ValueError, KeyError):
        label = None
    box = row.get("bbox")
    if is_box(box):
        box = (box[0], box[1], box[0] + box[2], box[1] + box[3])
    return _mark(label, box, where, row)
