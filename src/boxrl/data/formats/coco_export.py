"""Samples to a COCO instances file, alone or joined with the file that they were converted from.

A sample holds boxes, labels, crowd flags, areas and the source's ids. Segmentations, licences and
whatever else a COCO file tells are nine tenths of it and of no use to a model that answers with
boxes; they stay where they are, and `like` joins them again by the ids.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from boxrl.data.files import write_atomic
from boxrl.data.formats.coco import read_categories, read_instance
from boxrl.data.formats.coco_dialects import sides
from boxrl.data.formats.coco_joins import Key, annotation_ids, as_id, image_name
from boxrl.data.formats.documents import Document
from boxrl.data.formats.turns import turned_corners
from boxrl.data.samples import normal_image
from boxrl.data.subsets import Instance
from boxrl.errors import DataError
from boxrl.types import Object, Sample

DECIMALS = 9
"""x + width - x is width but for the last bits; COCO's own files have two decimals."""

FEDERATED = {
    "neg_category_ids": "verified_absent",
    "not_exhaustive_category_ids": "unexhausted",
}
"""What LVIS tells of an image -> the key of `meta` that holds it."""

Row = dict[str, Any]


class WrittenBox(NamedTuple):
    """What a COCO file was written with.

    Attributes:
        annotations: all of them.
        as_original: those that stand there as in the original file.
    """

    annotations: int
    as_original: int


def write_coco(path: Path, samples: Sequence[Sample], original: Path | None = None) -> WrittenBox:
    """Write a COCO instances file.

    Samples of one image become one image. Ids of the source (`meta`) are kept where they are
    whole, positive and unique; otherwise all of a kind are numbered from 1.

    Args:
        path: the file.
        samples: of detection or grounding.
        original: the file that they were converted from: what it tells beyond the samples is
            taken from there; see `like`.

    Raises:
        DataError: samples without boxes by nature (region, counting), one label with two ids, or
            an `original` that the samples do not come from.
    """
    wrong = next((s for s in samples if s.task not in ("detection", "grounding")), None)
    if wrong is not None:
        raise DataError(f"sample {wrong.id!r}: a {wrong.task} sample has no place in a COCO file")
    document = build_document(samples)
    ours = {id(row) for row in document["annotations"]}
    if original is not None:
        document = like(document, Document(original))
    as_original = sum(id(row) not in ours for row in document["annotations"])
    _tell_what_is_known(document, samples)
    with write_atomic(path) as handle:
        handle.write(json.dumps(document, ensure_ascii=False))  # json.dump takes twice as long
    return WrittenBox(len(document["annotations"]), as_original)


def build_document(samples: Sequence[Sample]) -> dict[str, list[Row]]:
    """`images`, `annotations` and `categories`, from nothing but the samples."""
    categories = _category_ids(samples)
    image_ids = _image_ids(samples)
    images: dict[int, Row] = {}
    annotations: list[Row] = []
    for sample in samples:
        key = image_ids[_image_key(sample)]
        images.setdefault(
            key,
            {
                "id": key,
                "file_name": sample.image,
                "width": sample.width,
                "height": sample.height,
            },
        )
        annotations += _annotations(sample, key, categories)
    _number(annotations)
    return {
        "images": list(images.values()),
        "annotations": annotations,
        "categories": [{"id": key, "name": name} for name, key in categories.items()],
    }


def _tell_what_is_known(document: dict[str, Any], samples: Sequence[Sample]) -> None:
    """Add what samples know of an image beyond the objects that they ask for.

    COCO says of every label without an annotation that its image does not hold it. So crowd regions
    that nobody asks about are written, too, and where samples leave out an object that is or may be
    there, LVIS's fields say of every image which labels it does not hold.
    """
    ids = {row["name"]: row["id"] for row in document["categories"]}
    image_ids = _image_ids(samples)
    of_image: dict[Any, list[Sample]] = defaultdict(list)
    for sample in samples:
        of_image[image_ids[_image_key(sample)]].append(sample)
    numbers = [row["id"] for row in document["annotations"] if type(row["id"]) is int]
    free = 1 + max(numbers, default=0)
    regions = [row for key, found in of_image.items() for row in _regions(key, found, ids)]
    document["annotations"] += [row | {"id": free + n} for n, row in enumerate(regions)]
    if any("neg_category_ids" in row for row in document["images"]):
        return
    left_out = {key: _left_out(found) for key, found in of_image.items()}
    partly = any(not ids.keys().isdisjoint(labels) for labels in left_out.values())
    for row in document["images"]:
        found = of_image[key := as_id(row["id"])]
        row |= _federated(found, ids)
        if partly:
            absent = ids.keys() - {item.label for item in _shown(found)} - left_out[key]
            row.setdefault("neg_category_ids", [ids[label] for label in ids if label in absent])


def _shown(samples: Iterable[Sample]) -> Iterator[Object]:
    """The objects of samples, and the crowd regions that they do not ask about."""
    for sample in samples:
        yield from sample.objects
        for other in sample.meta.get("others", ()):
            if other.get("iscrowd"):
                yield Object(tuple(other["bbox"]), other["label"], iscrowd=True)


def _regions(key: int, samples: Sequence[Sample], ids: Mapping[str, Key]) -> Iterator[Row]:
    """The crowd regions of an image that stand in none of its samples' objects, each once."""
    written = {item for sample in samples for item in sample.objects}
    for region in dict.fromkeys(_shown(samples)):
        if region not in written and region.label in ids:
            x1, y1, x2, y2 = region.bbox
            yield _annotation(Instance(region, 0, (x2 - x1) * (y2 - y1)), key, ids)


def _left_out(samples: Sequence[Sample]) -> set[str]:
    """Labels of objects that are or may be in an image, of which not even a region is shown."""
    named = {label for sample in samples for label in sample.meta.get("unverified", ())}
    others = (other for sample in samples for other in sample.meta.get("others", ()))
    named |= {other["label"] for other in others}
    return named.difference(item.label for item in _shown(samples))


def _federated(samples: Sequence[Sample], ids: Mapping[str, Key]) -> Row:
    """LVIS's fields of an image in which only some labels were looked for, or all boxes of some."""
    row: Row = {}
    for field, key in FEDERATED.items():
        known = {label for sample in samples for label in sample.meta.get(key, ())}
        if any(key in sample.meta for sample in samples):
            row[field] = [ids[label] for label in ids if label in known]
    return row


def like(document: dict[str, list[Row]], original: Document) -> dict[str, Any]:
    """The document with what its original tells and samples have no field for.

    An image or annotation that still says what the original's says is written as it stands there,
    in its place; one that was changed or added is written as `document` has it, because its
    segmentation would be another object's, and so is CVAT's turned box, because whoever does not
    know its attribute takes it for an upright one. What is not in `document` is not brought back,
    categories aside.

    Law: where every row of a file can be read, `convert --mode all` and then this gives the
    file's own JSON, but that annotation ids from 0 stay raised by one and turned boxes upright.

    Args:
        document: as `build_document` makes it.
        original: the whole COCO file.

    Raises:
        DataError: other category ids there, or no image in common.
    """
    categories = read_categories(original)
    _check_origin(document, original, categories.ids)
    sizes = {row["id"]: (row["width"], row["height"]) for row in document["images"]}
    images, annotations = original.array("images"), original.array("annotations")
    numbers = annotation_ids(original.column("annotations", "id"))

    def same_image(theirs: Row, mine: Row, key: Key | None) -> bool:
        declared = {**theirs, "file_name": _file_name(theirs, mine["file_name"], "image")}
        return all(declared.get(field, value) == value for field, value in mine.items())

    def same_annotation(theirs: Row, mine: Row, key: int) -> bool:
        try:
            size_wh = sizes[mine["image_id"]]
            box = sides(theirs, size_wh, "annotation")
            if turned_corners(theirs, box, size_wh, "annotation"):
                return False
            item = read_instance(theirs, key, categories.names, size_wh, "annotation")
        except DataError:
            return False
        return _annotation(item, theirs["image_id"], categories.ids) == mine

    if [row.get("id") for row in annotations] == [number - 1 for number in numbers]:
        annotations = [row | {"id": n} for row, n in zip(annotations, numbers, strict=True)]
    image_ids = [as_id(row.get("id")) for row in images]
    return {
        **original.content,
        "images": _joined(document["images"], images, image_ids, same_image),
        "annotations": _joined(document["annotations"], annotations, numbers, same_annotation),
    }


def _check_origin(document: dict[str, list[Row]], original: Document, ids: dict[str, Key]) -> None:
    """That the samples can have been converted from this file."""
    expected = "--like takes the file that the samples were converted from"
    for row in document["categories"]:
        if ids.get(row["name"]) != row["id"]:
            raise DataError(
                f"{original.path}: category {row['name']!r} has the id {ids.get(row['name'])} "
                f"here and {row['id']} in the samples; {expected}"
            )
    files = {row["id"]: row["file_name"] for row in document["images"]}
    for index, row in enumerate(original.array("images")):
        key = as_id(row.get("id"))
        where = f"{original.path}: images[{index}]"
        if key in files and files[key] == _file_name(row, files[key], where):
            return
    raise DataError(f"{original.path}: has no image of the samples under its id; {expected}")


def _file_name(theirs: Row, mine: str, where: str) -> str:
    """Their path, or mine where that is theirs without folders that no archive unpacked to."""
    written = normal_image(image_name(theirs, where).replace("\\", "/"))
    return mine if f"/{written}".endswith(f"/{mine}") else written


def _joined(
    mine: list[Row],
    theirs: list[Row],
    keys: Sequence[Any],
    same: Callable[[Row, Row, Any], bool],
) -> list[Row]:
    """Their rows where mine say the same, mine where not, in their order; then the rest of mine.

    Args:
        mine: by `id`.
        theirs: rows as they stand in the original.
        keys: the id of each of theirs.
        same: whether one of theirs, with that id, says the same as mine.
    """
    left = {row["id"]: row for row in mine}
    joined = []
    for row, key in zip(theirs, keys, strict=True):
        written = left.pop(key, None)
        if written is not None:
            joined.append(row if same(row, written, key) else written)
    return [*joined, *left.values()]


def _annotations(sample: Sample, image_id: int, categories: Mapping[str, int]) -> Iterator[Row]:
    count = len(sample.objects)
    ids = _aligned(sample, "annotation_ids", count) or [None] * count
    areas = _aligned(sample, "areas", count) or [None] * count
    for item, key, area in zip(sample.objects, ids, areas, strict=True):
        yield _annotation(Instance(item, key, area), image_id, categories)


def _annotation(item: Instance, image_id: int, categories: Mapping[str, Key]) -> Row:
    """Its JSON object; the id or area may be None, for unknown."""
    x1, y1, x2, y2 = item.object.bbox
    width, height = round(x2 - x1, DECIMALS), round(y2 - y1, DECIMALS)
    return {
        "id": item.annotation_id,
        "image_id": image_id,
        "category_id": categories[item.object.label],
        "bbox": [x1, y1, width, height],
        "area": width * height if item.area is None else item.area,
        "iscrowd": int(item.object.iscrowd),
    }


def _aligned(sample: Sample, key: str, count: int) -> list[Any] | None:
    """A list of `meta` that has one entry per object."""
    value = sample.meta.get(key)
    return value if isinstance(value, list) and len(value) == count else None


def _number(annotations: list[Row]) -> None:
    ids = [row["id"] for row in annotations]
    if not all(type(key) is int and key > 0 for key in ids) or len(set(ids)) < len(ids):
        for number, row in enumerate(annotations, start=1):
            row["id"] = number


def _category_ids(samples: Iterable[Sample]) -> dict[str, int]:
    """Ids by label: the source's where every label has one, else numbered from 1."""
    known: dict[str, int] = {}
    labels: dict[str, None] = {}
    for sample in samples:
        labels.update(dict.fromkeys((*sample.labels, *(item.label for item in sample.objects))))
        ids = _aligned(sample, "category_ids", len(sample.labels)) or ()
        for label, key in zip(sample.labels, ids, strict=False):
            if key is not None and known.setdefault(label, key) != key:
                raise DataError(
                    f"sample {sample.id!r}: label {label!r} has category id {key} here and "
                    f"{known[label]} before; export the files one by one"
                )
    whole = all(type(key) is int for key in known.values())
    if whole and set(known) == set(labels) and len(set(known.values())) == len(known):
        return dict(sorted(known.items(), key=lambda pair: pair[1]))
    return {label: number for number, label in enumerate(labels, start=1)}


def _image_key(sample: Sample) -> Hashable:
    """Samples of one image agree in its path, its id and its size; one of them is not enough."""
    return sample.image, str(sample.meta.get("image_id")), sample.size_wh


def _image_ids(samples: Iterable[Sample]) -> dict[Hashable, int]:
    """Ids of the images: the source's where all are whole and no two are equal, else from 1."""
    known = {_image_key(sample): sample.meta.get("image_id") for sample in samples}
    ids = [key for key in known.values() if type(key) is int]
    if len(ids) == len(set(ids)) == len(known):
        return dict(zip(known, ids, strict=True))
    return {image: number for number, image in enumerate(known, start=1)}
