"""COCO instances files to samples, and back.

Source: cocodataset.org, "Data format": `images` (id, file_name, width, height), `annotations`
(id, image_id, category_id, bbox [x, y, width, height], area, iscrowd), `categories` (id, name).
LVIS, Objects365, ODinW and the exports of most annotation tools have the same form.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

from boxrl.data.formats.reading import (
    Document,
    Reading,
    Rejected,
    inside_folder,
    placed_xywh,
    require,
    size_of,
)
from boxrl.data.images import read_header
from boxrl.data.samples import checked_area, checked_crowd
from boxrl.data.subsets import Instance, Mode, Subset, asked_labels, build_subsets, keep
from boxrl.errors import DataError, UsageError
from boxrl.types import Object, Sample

N_OPTIONS = 4
"""Options of a region question: the region's own label and distractors."""

_POLYGONS = re.compile(r'(?<!\\)"segmentation":\s*\[[\[\]\s\d.,eE+-]*\]')


class Picture(NamedTuple):
    """An image of a COCO file with its usable annotations.

    Attributes:
        row: the image's own JSON object.
        place: its index in `images`.
        size_wh: (width, height) in pixels.
        instances: in the order of `annotations`, crowd regions included.
    """

    row: dict[str, Any]
    place: int
    size_wh: tuple[int, int]
    instances: list[Instance]


def read_coco(
    annotations: Path | Document,
    images: Path,
    *,
    subset: Sequence[str] = (),
    mode: Mode = "positive",
    task: Literal["detection", "region"] = "detection",
    negatives: int = 0,
    seed: int = 0,
) -> Reading:
    """Samples of a COCO instances file, in the file's order of images.

    Args:
        annotations: the JSON file, or what another reader turned into that form.
        images: folder that `file_name` starts from; opened only where a size is not declared.
        subset: names in SUBSETS, applied in order.
        mode: which labels a detection sample asks for; see `subsets.asked_labels`.
        task: `detection`: one sample per image (`single_class`: per image and label);
            `region`: one sample per box, which asks what the box holds.
        negatives: so many labels that the image does not hold are drawn and asked for too.
        seed: of that draw, and of the options of region questions.

    Raises:
        DataError: the file is no COCO file. A bad image or annotation is a `Rejected` row.
        UsageError: an unknown subset, or negatives where none can be drawn.
    """
    if negatives < 0 or (negatives and (mode == "all" or task == "region")):
        raise UsageError(
            f"--negatives {negatives}; expected 0 or more, in detection; "
            "--mode all asks for every absent label already"
        )
    subsets = build_subsets(subset)
    document = annotations if isinstance(annotations, Document) else open_coco(annotations)
    categories = read_categories(document)
    ids = {name: key for key, name in categories.items()}
    rng = random.Random(seed)
    meta: dict[str, Any] = {"subset": ",".join(subset)} if subset else {}
    base = {"mode": mode, **meta}

    def rows() -> Iterator[Sample | Rejected]:
        for picture in read_pictures(document, categories, images):
            if isinstance(picture, Rejected):
                yield picture
            elif task == "region":
                yield from _region_samples(picture, subsets, ids, rng, meta)
            else:
                absent = _draw_absent(picture, ids, negatives, rng)
                yield from _detection_samples(picture, subsets, mode, absent, ids, base)

    return Reading(len(document.array("images")), rows())


def open_coco(path: Path) -> Document:
    """The file without its polygons, which are nine tenths of a large one.

    Raises:
        DataError: no such file or not JSON.
    """
    return Document(path, slim=lambda text: _POLYGONS.sub('"segmentation": null', text))


def read_categories(document: Document) -> dict[int, str]:
    """Names by category id, in the file's order.

    Raises:
        DataError: a duplicate id or name: a name must lead back to one id.
    """
    names: dict[int, str] = {}
    known: set[str] = set()
    for index, row in enumerate(document.array("categories")):
        try:
            where = f"categories[{index}]"
            key, name = require(row, "id", int, where), require(row, "name", str, where)
        except DataError as error:
            raise DataError(f"{document.where('categories', index)}: {error}") from error
        if key in names or name in known:
            what = f"id {key}" if key in names else f"name {name!r}"
            raise DataError(
                f"{document.where('categories', index)}: duplicate category {what}; "
                "merge the two categories first"
            )
        names[key] = name
        known.add(name)
    return names


def read_pictures(
    document: Document, categories: dict[int, str], images: Path
) -> Iterator[Picture | Rejected]:
    """Every image with its annotations, in the order of the file.

    Annotation ids that start at 0 are raised by one: COCO's matching takes a 0 for "unmatched".

    Args:
        document: the COCO file.
        categories: id -> name.
        images: folder of the images, for those whose size the file does not give.

    Yields:
        A rejection for each bad image and, before its image, for each bad annotation; then one
        for each annotation of an image that the file does not have.

    Raises:
        DataError: `images` or `annotations` is no array of objects.
    """
    pictures, rows = document.array("images"), document.array("annotations")
    by_image = defaultdict(list)
    for position, row in enumerate(rows):
        by_image[as_id(row.get("image_id"))].append(position)
    shift = id_shift(document)
    seen = set()
    for index, picture in enumerate(pictures):
        key = as_id(picture.get("id"))
        mine = by_image.pop(key, [])
        try:
            if key in seen:
                raise DataError(f"images[{index}]: duplicate id {key!r}")
            seen.add(key)
            size_wh = _image_size(picture, images, f"images[{index}]")
        except DataError as error:
            yield document.rejected("images", index, error, picture)
            continue
        instances = []
        for position in mine:
            try:
                where = f"annotations[{position}]"
                instances.append(read_instance(rows[position], shift, categories, size_wh, where))
            except DataError as error:
                yield document.rejected("annotations", position, error, rows[position])
        yield Picture(picture, index, size_wh, instances)
    for position in sorted(chain.from_iterable(by_image.values())):
        image_id = rows[position].get("image_id")
        orphan = DataError(f"annotations[{position}]: no image has the id {image_id!r:.80}")
        yield document.rejected("annotations", position, orphan, rows[position])


def read_instance(
    row: dict[str, Any],
    shift: int,
    categories: dict[int, str],
    size_wh: tuple[int, int],
    where: str,
) -> Instance:
    """One annotation, checked.

    Args:
        row: its JSON object.
        shift: added to its id; see `id_shift`.
        categories: names by id.
        size_wh: of its image.
        where: start of the error message.

    Raises:
        DataError: an unknown category, or a box, area or id that is none.
    """
    category = row.get("category_id")
    if not isinstance(category, int) or category not in categories:
        raise DataError(f"{where}: category_id {category!r:.80} is not among the categories")
    bbox = placed_xywh(row.get("bbox"), size_wh, where)
    label = Object(bbox, categories[category], checked_crowd(row, where))
    area = checked_area(row.get("area", (bbox[2] - bbox[0]) * (bbox[3] - bbox[1])), where)
    return Instance(label, require(row, "id", int, where) + shift, area)


def id_shift(document: Document) -> int:
    """What is added to annotation ids: 1 where they start at 0."""
    return int(any(row.get("id") == 0 for row in document.array("annotations")))


def as_id(value: Any) -> int | str | None:
    """The value as a key, None for what can be no id."""
    return value if isinstance(value, (int, str)) else None


def _image_size(row: dict[str, Any], images: Path, where: str) -> tuple[int, int]:
    """The declared size, or where none is declared the size in the image's header."""
    require(row, "id", (int, str), where)
    name = inside_folder(images, require(row, "file_name", str, where), where)
    if "width" in row or "height" in row:
        return size_of(row, where)
    return read_header(images / name, where).size_wh


def _detection_samples(
    picture: Picture,
    subsets: Sequence[Subset],
    mode: Mode,
    absent: Sequence[str],
    ids: dict[str, int],
    meta: dict[str, Any],
) -> Iterator[Sample]:
    """The samples of one image: none, one, or with `single_class` one per label."""
    kept = keep(subsets, picture.instances, picture.size_wh[0] * picture.size_wh[1])
    if subsets and not kept:
        return
    chosen = {id(item) for item in kept}
    dropped = [item for item in picture.instances if id(item) not in chosen]
    for labels in asked_labels(mode, kept, dropped, list(ids), absent):
        key = str(picture.row["id"])
        key += f"/{labels[0]}" if mode == "single_class" else ""
        yield detection_sample(key, picture, labels, kept, ids, meta)


def _draw_absent(
    picture: Picture, ids: dict[str, int], negatives: int, rng: random.Random
) -> list[str]:
    """Names without any instance in the image, not even a crowd region."""
    if not negatives:
        return []
    present = {item.object.label for item in picture.instances}
    absent = [name for name in ids if name not in present]
    return rng.sample(absent, min(negatives, len(absent)))


def detection_sample(
    key: str,
    picture: Picture,
    labels: Sequence[str],
    kept: Sequence[Instance],
    ids: dict[str, int],
    meta: dict[str, Any],
) -> Sample:
    """One detection sample: `labels` are asked for, the rest of the image goes to `meta.others`.

    Args:
        key: the sample's id.
        picture: the image.
        labels: names asked for, in prompt order.
        kept: the instances that count as targets where their label is asked for.
        ids: category ids by name; a label without one gets null.
        meta: what else is to be kept.
    """
    wanted = frozenset(labels)
    targets = [item for item in kept if item.object.label in wanted]
    chosen = {id(item) for item in targets}
    others = [
        {"bbox": list(item.object.bbox), "label": item.object.label}
        for item in picture.instances
        if id(item) not in chosen and not item.object.iscrowd
    ]
    return Sample(
        id=key,
        image=picture.row["file_name"],
        width=picture.size_wh[0],
        height=picture.size_wh[1],
        task="detection",
        labels=tuple(labels),
        objects=tuple(item.object for item in targets),
        meta={
            "image_id": picture.row["id"],
            "category_ids": [ids.get(label) for label in labels],
            "annotation_ids": [item.annotation_id for item in targets],
            "areas": [item.area for item in targets],
            **meta,
            **({"others": others} if others else {}),
        },
    )


def _region_samples(
    picture: Picture,
    subsets: Sequence[Subset],
    ids: dict[str, int],
    rng: random.Random,
    meta: dict[str, Any],
) -> Iterator[Sample]:
    """One question per box: which of the options is in it?

    Distractors are drawn from the names that the image does not hold, so that an overlapping
    object never makes a second option right.
    """
    present = {item.object.label for item in picture.instances}
    absent = [name for name in ids if name not in present]
    kept = keep(subsets, picture.instances, picture.size_wh[0] * picture.size_wh[1])
    for item in kept:
        if item.object.iscrowd:
            continue
        label = item.object.label
        options = [label, *rng.sample(absent, min(N_OPTIONS - 1, len(absent)))]
        rng.shuffle(options)
        yield Sample(
            id=f"{picture.row['id']}/{item.annotation_id}",
            image=picture.row["file_name"],
            width=picture.size_wh[0],
            height=picture.size_wh[1],
            task="region",
            labels=tuple(options),
            objects=(item.object,),
            answer=label,
            meta={
                "image_id": picture.row["id"],
                "category_ids": [ids[option] for option in options],
                "annotation_ids": [item.annotation_id],
                "areas": [item.area],
                **meta,
            },
        )
