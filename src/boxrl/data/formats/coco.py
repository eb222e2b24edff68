"""COCO instances files to samples.

Source: cocodataset.org, "Data format": `images` (id, file_name, width, height), `annotations`
(id, image_id, category_id, bbox [x, y, width, height], area, iscrowd), `categories` (id, name).
Objects365, ODinW and the exports of most annotation tools have the same form; LVIS adds to each
image what was found absent (`neg_category_ids`) and what is annotated in part alone
(`not_exhaustive_category_ids`); other labels were not looked for there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from boxrl.data.formats.coco_dialects import (
    OTHER_FLAGS,
    PlainAnnotation,
    as_written,
    image_size,
    number,
    open_coco,
    read_attributes,
    sides,
)
from boxrl.data.formats.coco_joins import (
    Joined,
    Key,
    Row,
    Twins,
    annotation_ids,
    as_id,
    as_ids,
    find_twins,
    image_name,
    join,
)
from boxrl.data.formats.documents import Document
from boxrl.data.formats.image_folder import ImageFolder
from boxrl.data.formats.pictures import (
    BACKGROUND,
    IGNORED,
    Asking,
    Picture,
    ask,
    bare_name,
    hide,
    ignore,
    is_uncounted,
)
from boxrl.data.formats.reading import Reading, Rejected, placed_xywh, placed_xyxy, require
from boxrl.data.formats.turns import turned_corners
from boxrl.data.samples import checked_area, checked_crowd, normal_image
from boxrl.data.subsets import Instance, Mode
from boxrl.errors import DataError, tally
from boxrl.types import Object

FLAGS = ("iscrowd", "ignore", "difficult", "isgroupof", "is_group_of")
"""Fields that say of an object that nobody has to find it."""


class Categories(NamedTuple):
    """The categories of a COCO file.

    Attributes:
        names: by id, in the file's order, of what can be asked for.
        regions: ids of regions in which nobody annotated anything.
        notes: which categories are left out, and why.
    """

    names: dict[Key, str]
    regions: frozenset[Key]
    notes: list[str]

    @property
    def ids(self) -> dict[str, Key]:
        """Ids by name."""
        return {name: key for key, name in self.names.items()}

    def label(self, row: Row) -> str | None:
        """The label of an annotation; None where it cannot be told."""
        key = as_id(row.get("category_id"))
        return self.names.get(key) if key is not None else None


def read_coco(
    annotations: Path,
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
        annotations: the JSON file, packed by gzip or not, or the folder that holds it alone.
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
    return read_instances(
        open_coco(annotations), images, Asking(subset, mode, task, negatives, seed)
    )


def read_instances(document: Document, images: Path, asking: Asking) -> Reading:
    """Samples of an opened COCO file.

    Args:
        document: the file.
        images: folder of its images.
        asking: what is asked of them.

    Raises:
        DataError, UsageError: see `read_coco`.
    """
    found = ImageFolder(images)
    categories = read_categories(document)
    notes = document.notes + categories.notes
    pictures = read_pictures(document, categories, found, notes)
    rows = ask(pictures, categories.ids, asking, notes)
    counts = (len(document.array(key)) for key in ("images", "annotations"))
    return Reading(next(counts), rows, next(counts), notes, found)


def read_categories(document: Document) -> Categories:
    """The categories that name objects.

    A category without annotations is left out where its name says background, or where it is
    another's `supercategory`, as the root that Roboflow writes before the classes of a project.

    Raises:
        DataError: a duplicate id or name: a name must lead back to one id.
    """
    listed = _listed(document)
    annotated = set(as_ids(document.column("annotations", "category_id")))
    children = defaultdict(set)
    for (key, _), row in zip(listed, document.array("categories"), strict=True):
        children[str(row.get("supercategory"))].add(key)
    names: dict[Key, str] = {}
    keys, known, regions = set(), set(), set()
    notes = []
    for index, (key, name) in enumerate(listed):
        bare = bare_name(name)
        if key not in annotated and bare in BACKGROUND | IGNORED:
            notes.append(f"category {name!r} left out: it names no object and is never annotated")
        elif key not in annotated and children[name] - {key}:
            notes.append(f"category {name!r} left out: the parent of others, never annotated")
        elif bare in IGNORED:
            regions.add(key)
            notes.append(f"category {name!r} is not asked for: its regions are ignored")
        elif key in keys or name in known:
            what = f"id {key}" if key in keys else f"name {name!r}"
            raise DataError(
                f"{document.where('categories', index)}: duplicate category {what}; "
                "merge the two categories first"
            )
        else:
            names[key] = name
            known.add(name)
        keys.add(key)
    return Categories(names, frozenset(regions), notes)


def _listed(document: Document) -> list[tuple[Key, str]]:
    """Id and name of every category, in the file's order; a name that is a number is its text."""
    listed = []
    for index, row in enumerate(document.array("categories")):
        where, key, name = f"categories[{index}]", as_id(row.get("id")), row.get("name")
        try:
            name = str(name) if type(name) in (int, float) else require(row, "name", str, where)
            listed.append((key if key is not None else require(row, "id", int, where), name))
        except DataError as error:
            raise DataError(f"{document.where('categories', index)}: {error}") from error
    return listed


def read_pictures(
    document: Document, categories: Categories, images: ImageFolder, notes: list[str]
) -> Iterator[Picture | Rejected]:
    """Every image with its annotations, in the order of the file.

    Laws: a label of which an object could not be read, or may lie elsewhere, is hidden in its
    image; an image with an object of no readable label is rejected; of images that bear one id,
    or one path with different sizes, all are.

    Args:
        document: the COCO file.
        categories: its categories.
        images: folder of the images.
        notes: what people should hear of is added here.

    Yields:
        A rejection for each bad image and, before its image, for each bad annotation; then one
        for each annotation of an image that the file does not have.

    Raises:
        DataError: `images` or `annotations` is no array of objects.
    """
    rows = document.array("annotations")
    joined = join(document.column("images", "id"), document.column("annotations", "image_id"))
    names = _image_names(document.array("images"))
    images.settle(filter(None, names))
    paths = [name and (images.find(name) or normal_image(name)) for name in names]
    twins = find_twins(paths, document.array("images"), rows, joined)
    reader = _PictureReader(document, categories, images, names, joined, twins)
    notes += reader.notes()
    for index in range(len(document.array("images"))):
        yield from reader.read(index)
    for position, why in joined.strays:
        error = DataError(f"annotations[{position}]: {why}")
        yield document.rejected("annotations", position, error, as_written(rows[position]))


def _image_names(pictures: Sequence[Row]) -> list[str]:
    """The path of every image, as written; empty for one that has none."""
    names = []
    for row in pictures:
        try:
            names.append(image_name(row, "image"))
        except DataError:
            names.append("")
    return names


class _PictureReader:
    """Reads the images of a file one by one."""

    def __init__(
        self,
        document: Document,
        categories: Categories,
        images: ImageFolder,
        names: Sequence[str],
        joined: Joined,
        twins: Twins,
    ) -> None:
        self.document, self.categories = document, categories
        self.images, self.names = images, names
        self.joined, self.twins = joined, twins
        self.pictures = document.array("images")
        self.rows = document.array("annotations")
        self.numbers = annotation_ids(document.column("annotations", "id"))
        self.plain = bool(self.rows) and isinstance(self.rows[0], PlainAnnotation)
        self.labels = categories.names | dict.fromkeys(categories.regions, "")
        self.federated = any("neg_category_ids" in row for row in self.pictures)
        found = (categories.label(self.rows[position]) for position in joined.anywhere)
        self.anywhere = frozenset(label for label in found if label)

    def notes(self) -> Iterator[str]:
        """What people should hear of before they miss it in the samples."""
        if self.twins.groups:
            first = self.names[self.twins.groups[0][0]]
            yield (
                f"{tally(len(self.twins.groups), 'image')} listed more than once, the first "
                f"{first!r:.80}; a label is asked for where all of its objects are shown"
            )
        if self.anywhere:
            names = ", ".join(map(repr, sorted(self.anywhere)[:5]))
            more = f" and {len(self.anywhere) - 5} more" if len(self.anywhere) > 5 else ""
            yield (
                f"{names}{more}: asked for nowhere, because {len(self.joined.anywhere):,} "
                "annotations belong to no image of the file, and so to any; take them out of it"
            )

    def read(self, index: int) -> Iterator[Picture | Rejected]:
        """The image at that place, the rejections of its annotations before it."""
        row = self.pictures[index]
        key = as_id(row.get("id"))
        mine = self.joined.mine.get(key, []) if key is not None else []
        try:
            picture = self._picture(index)
        except DataError as error:
            yield self.document.rejected("images", index, error, row, max(1, len(mine)))
            return
        lost, regions, size_wh = self._doubtful(key, index), list[Instance](), picture.size_wh
        plain = self._plain(mine, size_wh)
        instances = picture.instances = [instance for instance in plain if instance]
        if len(instances) < len(mine):
            instances.clear()
            for position, known in zip(mine, plain, strict=True):
                try:
                    instance = known or self._instance(position, size_wh)
                except DataError as error:
                    item = as_written(self.rows[position])
                    yield self.document.rejected("annotations", position, error, item)
                    lost.add(self.categories.label(item))
                else:
                    (instances if instance.object.label else regions).append(instance)
        try:
            hide(picture, lost, f"images[{index}]")
        except DataError as error:
            yield self.document.rejected("images", index, error, row, max(1, len(instances)))
        else:
            picture.hidden |= self.anywhere
            yield ignore(picture, regions)

    def _doubtful(self, key: Key | None, index: int) -> set[str | None]:
        """Labels of annotations that may be the image's, but are not known to be."""
        if key not in self.joined.meant and index not in self.twins.lacking:
            return set()
        strays = self.joined.meant.get(key, []) if key is not None else []
        found = {self.categories.label(self.rows[position]) for position in strays}
        lacking = self.twins.lacking.get(index, ())
        return found | {self.categories.label({"category_id": item}) for item in lacking}

    def _plain(self, positions: list[int], size_wh: tuple[int, int]) -> list[Instance | None]:
        """Annotations of which nothing is to be mended or refused, as nearly all are; or None.

        Law: what it gives, `read_instance` gives, in five times the time.
        """
        if not self.plain:
            return [None] * len(positions)
        (right, bottom), rows, numbers, labels = size_wh, self.rows, self.numbers, self.labels
        found: list[Instance | None] = []
        for position in positions:
            row: Any = rows[position]
            label, crowd, area = labels.get(row.category_id), row.iscrowd or 0, row.area
            x1, y1, x2, y2 = row.bbox
            x2, y2 = x1 + x2, y1 + y2
            area = (x2 - x1) * (y2 - y1) if area is None else area
            if (
                label
                and 0 <= x1 < x2 <= right
                and 0 <= y1 < y2 <= bottom
                and area >= 0
                and 0 <= crowd <= 1
                and not row.says_more
            ):
                item = Object((x1, y1, x2, y2), label, crowd == 1)
                found.append(Instance(item, numbers[position], area))
            else:
                found.append(None)
        return found

    def _instance(self, position: int, size_wh: tuple[int, int]) -> Instance:
        """One annotation; a region that is to be ignored has no label."""
        row, number = self.rows[position], self.numbers[position]
        return read_instance(row, number, self.labels, size_wh, f"annotations[{position}]")

    def _picture(self, index: int) -> Picture:
        """The image without its annotations."""
        row, where = self.pictures[index], f"images[{index}]"
        key = as_id(row.get("id"))
        if key is None:
            require(row, "id", (int, str), where)
        if key in self.joined.repeated:
            raise DataError(
                f"{where}: duplicate id {key!r:.80}; no annotation of it is known to be its own"
            )
        image = self.images.locate(self.names[index] or image_name(row, where), where)
        if index in self.twins.sizes:
            raise DataError(
                f"{where}: {image!r:.80} is listed again with another size; one path leads to one "
                "image, so rename one of the two"
            )
        return Picture(
            key=str(key),
            image=image,
            size_wh=image_size(row, self.images, image, where),
            instances=[],
            image_id=key,
            verified=self._names(row, "neg_category_ids", where) if self.federated else None,
            unexhausted=self._names(row, "not_exhaustive_category_ids", where),
            row=row,
            place=index,
        )

    def _names(self, row: Row, key: str, where: str) -> frozenset[str]:
        """The names of a list of category ids; ids of categories that are none have no name."""
        listed = row.get(key)
        if listed is None:
            return frozenset()
        if not isinstance(listed, list):
            raise DataError(f"{where}: {key} must be a list of category ids, got {listed!r:.80}")
        labels: Iterable[str | None] = (
            self.categories.label({"category_id": item}) for item in listed
        )
        return frozenset(label for label in labels if label)


def read_instance(
    row: Row, key: int, names: dict[Key, str], size_wh: tuple[int, int], where: str
) -> Instance:
    """One annotation, checked.

    Args:
        row: its JSON object.
        key: its id.
        names: labels by category id.
        size_wh: of its image.
        where: start of the error message.

    Raises:
        DataError: an unknown category, or a box or area that is none.
    """
    category = as_id(row.get("category_id"))
    if category is None or category not in names:
        got = f"{row.get('category_id')!r:.80}"
        raise DataError(f"{where}: category_id {got} is not among the categories")
    box = sides(row, size_wh, where)
    turned = turned_corners(row, box, size_wh, where)
    bbox = placed_xyxy(turned, size_wh, where) if turned else placed_xywh(box, size_wh, where)
    crowd = any([checked_crowd(number(row.get(flag)), where, flag) for flag in FLAGS])
    told = {flag: row.get(flag) for flag in OTHER_FLAGS}
    crowd = crowd or is_uncounted({**told, "attributes": read_attributes(row)})
    area = number(row.get("area"))
    area = checked_area((bbox[2] - bbox[0]) * (bbox[3] - bbox[1]) if area is None else area, where)
    return Instance(Object(bbox, names[category], crowd), key, area)
