"""Data sets in Hugging Face's two forms to samples: image folders, and parquet files.

Source: huggingface.co/docs/datasets, "Image dataset"; huggingface/datasets 5.2. An image folder has
metadata.jsonl with `file_name` and `objects` {bbox, categories}, boxes x, y, width, height. Parquet
files hold the images themselves, which are written into the images folder; their boxes are either
form, told by areas and edges, else by `--boxes`. Numbers of labels are named by the features that
`datasets` writes, by README.md or by `--names`. Mirrors of RefCOCO have sentences for one box: of
lmms-lab as `answer`, of jxu124 as `sentences`; each becomes a grounding sample.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from boxrl.data.files import is_box, is_number, read_lines
from boxrl.data.formats.box_forms import BoxForm, corners_of, tell_form
from boxrl.data.formats.coco_dialects import number
from boxrl.data.formats.image_folder import ImageFolder
from boxrl.data.formats.marks import Collection, Mark
from boxrl.data.formats.outlines import hull
from boxrl.data.formats.parquet import Column, ImageWriter, read_columns, read_parquet
from boxrl.data.formats.pictures import UNCOUNTED, Asking, Picture, bare_name, is_uncounted
from boxrl.data.formats.reading import (
    Reading,
    Rejected,
    check_declared,
    placed_xyxy,
    require,
    size_of,
    told_as_one,
)
from boxrl.data.formats.turns import untold_turn
from boxrl.data.formats.yolo_places import find_names
from boxrl.data.images import read_header
from boxrl.data.subsets import Mode
from boxrl.errors import DataError, UsageError
from boxrl.guard.files import check_regular, parse_json_object
from boxrl.types import Object, Sample

Row = dict[str, Any]

BOXES = ("bbox", "bboxes", "boxes", "box")
LABELS = ("categories", "category", "labels", "label", "classes", "class", "category_id", "name",
          "category_name", "class_name")  # fmt: skip
"""What boxes and their labels can be called; the first that is there, of labels the first text."""


_SPLIT = re.compile(r"(?<![a-z])(train|validation|valid|val|dev|test)(?![a-z])")
"""Splits in the names of files and their folders."""


@dataclass(slots=True)
class _Item:
    """A row with its image found.

    Attributes:
        row: as it stands, without pixels.
        where: `file:line` or `file: row N`.
        image: path from the images folder.
        size_wh: of the image.
    """

    row: Row
    where: str
    image: str
    size_wh: tuple[int, int]


def read_hf(
    annotations: Path,
    images: Path,
    *,
    subset: Sequence[str] = (),
    mode: Mode = "positive",
    boxes: BoxForm | None = None,
    names: Path | None = None,
    negatives: int = 0,
    seed: int = 0,
) -> Reading:
    """Samples of an image folder or of parquet files, in their order.

    Args:
        annotations: metadata.jsonl, a .parquet file, or a folder that holds either at any depth.
        images: folder of the images; those that stand in parquet files are written here.
        subset: as for COCO.
        mode: as for COCO.
        boxes: `xywh` or `xyxy`, where nothing in the files tells.
        names: file of the names of numbered labels: classes.txt, or a YAML file with names.
        negatives: as for COCO.
        seed: of their draw.

    Raises:
        DataError: neither form. A bad row or box is a `Rejected`.
        UsageError: boxes that can be read either way, or numbers that several lists could name;
            see `read_coco`.
        MissingExtra: a parquet file without pyarrow.
    """
    asking = Asking(subset, mode, "detection", negatives, seed)
    files = _files(annotations)
    root = annotations if annotations.is_dir() else annotations.parent
    collection = Collection(ImageFolder(images))
    splits = [name for path in files for name in _SPLIT.findall(f"{path.parent.name}/{path.name}")]
    collection.notes += told_as_one(splits, "name a file, or a folder that holds one of them alone")
    writer = ImageWriter(images)
    items: list[_Item] = []
    for file in files:
        for row, where in _rows(file, root):
            try:
                items.append(_find_image(row, where, collection.images, writer))
            except DataError as error:
                collection.reject(error, _bare(row))
    if any("sentences" in item.row or _is_mirror(item.row) for item in items):
        return _grounding(items, collection, boxes, str(annotations))
    if names is not None:
        by_number = find_names(names).by_class
    else:
        by_number = _names_of_labels(items, read_columns(files, root), str(annotations))
    documented: BoxForm | None = "xywh" if files[0].suffix == ".jsonl" else None
    form = tell_form(_boxes(items), str(annotations), boxes, documented)
    numbered = not by_number and _all_numbers(items)
    if documented is not None:  # an image folder
        collection.tell_unused("in no row")
    for item in items:
        _add(item, form, by_number, numbered, collection)
    if numbered and collection.labels():
        collection.notes.append(
            "labels are numbers, and no README.md or features name them; --names FILE does"
        )
    return collection.reading(asking, list(by_number.values()) or None)


def _files(annotations: Path) -> list[Path]:
    """The metadata of an image folder, else parquet files."""
    if annotations.is_file():
        return [annotations]
    found = sorted(annotations.rglob("metadata.jsonl")) or sorted(annotations.rglob("*.parquet"))
    if not found:
        raise DataError(f"{annotations}: no metadata.jsonl and no .parquet file")
    for path in found:
        check_regular(path)
    return found


def _rows(file: Path, root: Path) -> Iterator[tuple[Row, str]]:
    """(row, where) of every row; paths of image folders start from the root."""
    if file.suffix == ".parquet":
        yield from read_parquet(file)
        return
    prefix = file.parent.relative_to(root).as_posix()
    for line, content in read_lines(file):
        where = f"{file}:{line}"
        if isinstance(content, DataError):
            raise content
        row = parse_json_object(content, where)
        if prefix != "." and isinstance(row.get("file_name"), str):
            row["file_name"] = f"{prefix}/{row['file_name']}"
        yield row, where


def _bare(row: Row) -> Row:
    """The row without pixels."""
    return {key: value for key, value in row.items() if key != "image"}


def _find_image(row: Row, where: str, images: ImageFolder, writer: ImageWriter) -> _Item:
    """The row with its image, which is written where it stands in the row."""
    image = row.get("image")
    if isinstance(image, Mapping) and image.get("bytes"):
        name = image.get("path") or row.get("file_name") or row.get("image_id")
        path = images.locate(images.admit(writer.write(image["bytes"], name, where)), where)
        check_declared(row, read_header(images.folder / path, where).size_wh, where)
    else:
        held = image.get("path") if isinstance(image, Mapping) else image
        written = next((p for p in (row.get("image_path"), row.get("file_name"), held) if p), None)
        path = images.locate(require({"file_name": written}, "file_name", str, where), where)
    size = {side: number(row.get(side)) for side in ("width", "height")}
    if size["width"] is None and size["height"] is None:
        return _Item(_bare(row), where, path, read_header(images.folder / path, where).size_wh)
    return _Item(_bare(row), where, path, size_of(size, where))


def _objects(item: _Item) -> list[Row]:
    """The objects of a row as one dict each, whether lists stand in it or a list of dicts."""
    objects = item.row.get("objects", item.row)
    if isinstance(objects, list):
        if not all(isinstance(entry, dict) for entry in objects):
            raise DataError(f"{item.where}: objects {objects!r:.80}; expected boxes and labels")
        return objects
    if not isinstance(objects, dict):
        raise DataError(f"{item.where}: objects {objects!r:.80}; expected boxes and labels")
    boxes = _first(objects, BOXES)
    if not isinstance(boxes, list):
        raise DataError(f"{item.where}: no boxes; expected objects with bbox and categories")
    if boxes and all(map(is_number, boxes)):
        raise DataError(
            f"{item.where}: one box, {boxes!r:.80}; expected lists of all boxes and labels of an "
            "image, or sentences for one box (answer, sentences)"
        )
    lists = {key: value for key, value in objects.items() if isinstance(value, list)}
    wrong = [key for key, value in lists.items() if len(value) != len(boxes)]
    for key in wrong:
        if key in LABELS or bare_name(key) in UNCOUNTED:
            raise DataError(f"{item.where}: {len(boxes)} boxes, but {len(lists[key])} {key}")
    return [
        {key: value[place] for key, value in lists.items() if len(value) == len(boxes)}
        for place in range(len(boxes))
    ]


def _first(row: Row, keys: Iterable[str]) -> Any:
    return next((row[key] for key in keys if row.get(key) is not None), None)


def _label_key(entry: Row) -> str | None:
    """Where the label of an object stands: in words, else as a number."""
    found = [key for key in LABELS if entry.get(key) is not None]
    return next((key for key in found if isinstance(entry[key], str)), next(iter(found), None))


def _label(entry: Row) -> Any:
    key = _label_key(entry)
    return None if key is None else entry[key]


def _boxes(items: Iterable[_Item]) -> Iterator[tuple[Any, Any, tuple[int, int]]]:
    """What tells the form: box, area and size of the image of every object."""
    for item in items:
        try:
            for entry in _objects(item):
                yield _first(entry, BOXES), entry.get("area"), item.size_wh
        except DataError:
            continue  # told when it is added


def _names_of_labels(
    items: Sequence[_Item], columns: Sequence[tuple[Column, dict[int, str]]], where: str
) -> dict[int, str]:
    """Names of the numbers of labels: those of the column in which the labels stand.

    Where the features do not have this column, the only names that they hold of no other column of
    the rows; empty where there are none, or labels are texts beyond them.

    Raises:
        UsageError: several lists could name the numbers.
    """
    used, labels = _labels(items)
    described = [(path, names) for path, names in columns if _is_one_of(path, used)]
    lists: list[dict[int, str]] = []
    others = set() if described else _keys(items)
    for path, names in described or columns:
        if names and others.isdisjoint(path[-1:]) and names not in lists:
            lists.append(names)
    numbers = any(type(label) is int for label in labels)
    if len(lists) > 1 and numbers:
        first, second = (", ".join(names.values()) for names in lists[:2])
        raise UsageError(
            f"{where}: the numbers of labels could be those of {first!r:.60} or of {second!r:.60}; "
            "name them with --names FILE"
        )
    names = lists[0] if len(lists) == 1 else {}
    return names if numbers or labels <= set(names.values()) else {}


def _labels(items: Iterable[_Item]) -> tuple[set[Column], set[Any]]:
    """The columns in which labels stand, or could where there is none; and the labels."""
    used: set[Column] = set()
    labels: set[Any] = set()
    for item in items:
        outer: Column = ("objects",) if "objects" in item.row else ()
        try:
            entries = _objects(item)
        except DataError:
            continue  # told when it is added
        for entry in entries:
            if (key := _label_key(entry)) is not None:
                used.add((*outer, key))
                labels |= {entry[key]} if isinstance(entry[key], str | int) else set()
    return used or {(*outer, key) for outer in ((), ("objects",)) for key in LABELS}, labels


def _keys(items: Iterable[_Item]) -> set[str]:
    """What the rows have, and their objects."""
    rows = [item.row for item in items]
    inner = [row["objects"] for row in rows if isinstance(row.get("objects"), dict)]
    return {key for row in (*rows, *inner) for key in row}


def _is_one_of(path: Column, used: Iterable[Column]) -> bool:
    """Whether a column of the features is one of those, whatever the features stand in."""
    return any(
        path[-len(column) :] == column and ("objects" in path) == ("objects" in column)
        for column in used
    )


def _all_numbers(items: Iterable[_Item]) -> bool:
    """Whether no label is a text, so that numbers are the names that there are."""
    for item in items:
        try:
            if any(isinstance(_label(entry), str) for entry in _objects(item)):
                return False
        except DataError:
            continue
    return True


def _add(
    item: _Item,
    form: BoxForm,
    names: Mapping[int, str],
    numbered: bool,
    collection: Collection,
) -> None:
    """Put a row into the collection; `numbered`: labels without a name go by their number."""
    try:
        entries = _objects(item)
    except DataError as error:
        collection.reject(error, item.row)
        return
    marks = []
    for entry in entries:
        label = _label(entry)
        if type(label) is int:
            label = names.get(label, str(label) if numbered else None)
        corners = corners_of(_first(entry, BOXES), form)
        crowd = is_uncounted(entry)
        marks.append(Mark(label, corners, item.where, crowd, entry, untold_turn(entry)))
    key = str(PurePosixPath(item.image).with_suffix(""))
    known = item.row.get("image_id")
    picture = Picture(
        key, item.image, item.size_wh, [], key if known is None else known, row=item.row
    )
    collection.add(picture, marks, item.where)


def _is_mirror(row: Row) -> bool:
    """Whether a row is one of lmms-lab's: sentences as answers, one box."""
    box = row.get("bbox")
    return (
        isinstance(row.get("answer"), list) and isinstance(box, list) and all(map(is_number, box))
    )


def _grounding(
    items: list[_Item], collection: Collection, boxes: BoxForm | None, where: str
) -> Reading:
    """A grounding sample per sentence."""
    form = _mirror_form(items, boxes, where)
    total = sum(max(1, len(_sentences(item.row))) for item in items)
    rejected = [row for row in collection.rows if isinstance(row, Rejected)]

    def rows() -> Iterator[Sample | Rejected]:
        yield from rejected
        for item in items:
            try:
                yield from _expressions(item, form)
            except DataError as error:
                yield Rejected(str(error), item.row)

    return Reading(total + len(rejected), rows(), None, collection.notes, collection.images)


def _mirror_form(items: list[_Item], boxes: BoxForm | None, where: str) -> BoxForm:
    """The form of a mirror's boxes: told by COCO's own box or by the outline beside it."""
    for item in items if boxes is None else ():
        box, same = item.row.get("bbox"), _known_corners(item.row)
        for form in ("xyxy", "xywh") if same and is_box(box) else ():
            corners = corners_of(box, form)
            if all(abs(a - b) <= 1 for a, b in zip(corners, same, strict=True)):
                return form
    told = ((item.row.get("bbox"), None, item.size_wh) for item in items)
    return tell_form(told, where, boxes)


def _known_corners(row: Row) -> Any:
    """The corners of the box by another field of the row; None where none tells."""
    try:
        if row.get("raw_anns"):
            found = corners_of(json.loads(row["raw_anns"])["bbox"], "xywh")
        else:
            outline = row.get("segmentation") or ()
            found = hull(zip(outline[0::2], outline[1::2], strict=True))
            found = found if len(outline) >= 6 else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if is_box(found) else None


def _sentences(row: Row) -> list[tuple[Any, str]]:
    """(id or None, sentence) of a row."""
    listed = row.get("sentences") or row.get("answer") or ()
    found = []
    for entry in listed if isinstance(listed, list) else ():
        text = (entry.get("sent") or entry.get("raw")) if isinstance(entry, dict) else entry
        if isinstance(text, str) and text.strip():
            found.append((entry.get("sent_id") if isinstance(entry, dict) else None, text.strip()))
    return found


def _expressions(item: _Item, form: BoxForm) -> Iterator[Sample]:
    """The samples of a row; ids are those of its sentences, or the row's with a number behind."""
    row = item.row
    if why := untold_turn(row):
        raise DataError(f"{item.where}: {why}")
    box = placed_xyxy(corners_of(row.get("bbox"), form), item.size_wh, item.where)
    known = _first(row, ("question_id", "ref_id", "ann_id")) or PurePosixPath(item.image).stem
    sentences = _sentences(row)
    if not sentences:
        raise DataError(f"{item.where}: no sentence")
    for place, (key, text) in enumerate(sentences, start=1):
        yield Sample(
            id=f"{known}/{place}" if key is None else str(key),
            image=item.image,
            width=item.size_wh[0],
            height=item.size_wh[1],
            task="grounding",
            labels=(text,),
            objects=(Object(box, text),),
            question=text,
            meta={k: row[k] for k in ("image_id", "ann_id", "ref_id", "split") if k in row},
        )
