"""Objects as the files of annotation tools have them, to pictures.

A reader of a tool's files collects the marks of every image; here each is checked, numbered from
1 and put into its picture, under the law of pictures.py: a mark that cannot be read hides its
label. Such files name their labels where they use them, so all are read before the first is asked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

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
)
from boxrl.data.formats.reading import Reading, Rejected, placed_xyxy, require
from boxrl.data.subsets import Instance
from boxrl.errors import DataError
from boxrl.types import Object


class Mark(NamedTuple):
    """An object as its file has it, not checked yet.

    Attributes:
        label: what the file calls it.
        corners: x1, y1, x2, y2 in pixels.
        where: `file:line`, for error messages.
        iscrowd: whether it is a region in which nothing is counted.
        row: what stands there.
    """

    label: Any
    corners: Any
    where: str
    iscrowd: bool = False
    row: Any = None


class Collection:
    """The pictures of a source, in its order, with the rejections between them."""

    def __init__(self, images: ImageFolder) -> None:
        """Collect nothing yet.

        Args:
            images: where the images lie.
        """
        self.images = images
        self.notes: list[str] = []
        self.total = self.annotations = 0
        self._rows: list[Picture | Rejected] = []
        self._wheres: dict[int, str] = {}
        self._number = 0

    def reject(self, error: DataError, row: Any, annotations: int = 1) -> None:
        """Leave out an image, or a file of which none is known.

        Args:
            error: why; its message starts with `file:line`.
            row: what stands there.
            annotations: how many are lost with it.
        """
        self.total += 1
        self.annotations += annotations
        self._rows.append(Rejected(str(error), row, annotations))

    def add(
        self, picture: Picture, marks: Iterable[Mark], where: str, lost: Iterable[str | None] = ()
    ) -> None:
        """Put marks into a picture.

        Args:
            picture: the image, without instances.
            marks: all of its objects.
            where: start of the error message.
            lost: labels of objects that are known to be in the image and stand in no mark.
        """
        self.total += 1
        regions: list[Instance] = []
        hidden = set(lost)
        for mark in marks:
            self.annotations += 1
            try:
                instance = self._instance(mark, picture.size_wh)
            except DataError as error:
                self._rows.append(Rejected(str(error), mark.row))
                hidden.add(mark.label if _is_label(mark.label) else None)
                continue
            of_all = bare_name(instance.object.label) in IGNORED
            (regions if of_all else picture.instances).append(instance)
        try:
            hide(picture, hidden, where)
        except DataError as error:
            self._rows.append(Rejected(str(error), picture.row, max(1, len(picture.instances))))
        else:
            self._wheres[id(picture)] = where
            self._rows.append(ignore(picture, regions))

    def _instance(self, mark: Mark, size_wh: tuple[int, int]) -> Instance:
        label = require({"label": mark.label}, "label", str, mark.where).strip()
        bbox = placed_xyxy(mark.corners, size_wh, mark.where)
        self._number += 1
        area = (bbox[2] - bbox[0]) * (bbox[3] - bbox[1])
        return Instance(Object(bbox, label, mark.iscrowd), self._number, area)

    def reading(self, asking: Asking, names: Sequence[str] | None = None) -> Reading:
        """The samples of all pictures.

        Args:
            asking: what is asked of them.
            names: every label of the source, in order; those that occur, sorted, where None.

        Raises:
            UsageError: see `pictures.ask`.
        """
        self._part_twins()
        used = {item.object.label for picture in self._pictures() for item in picture.instances}
        hidden = {label for picture in self._pictures() for label in picture.hidden}
        if names is None:
            names = sorted(used | hidden)
        ids = {name: number for number, name in enumerate(names, start=1)}
        for name in [name for name in ids if bare_name(name) in BACKGROUND | IGNORED]:
            if name not in used:
                self.notes.append(f"label {name!r} is not asked for: it names no object")
                del ids[name]
        return Reading(self.total, ask(self._rows, ids, asking), self.annotations, self.notes,
                       self.images)  # fmt: skip

    def _pictures(self) -> list[Picture]:
        return [row for row in self._rows if isinstance(row, Picture)]

    def _part_twins(self) -> None:
        """Hide what several pictures of one image annotate differently; reject two sizes of one."""
        by_image = defaultdict(list)
        for place, row in enumerate(self._rows):
            if isinstance(row, Picture):
                by_image[row.image].append(place)
        for places in by_image.values():
            twins = [self._rows[place] for place in places]
            pictures = [row for row in twins if isinstance(row, Picture)]
            if len(pictures) == 1:
                continue
            self.notes.append(
                f"image {pictures[0].image!r:.80} is annotated {len(pictures)} times; what differs "
                "is not asked for"
            )
            labels = [_boxes_by_label(picture) for picture in pictures]
            differ = {name for found in labels for name in found
                      if any(other.get(name) != found[name] for other in labels)}  # fmt: skip
            sizes = {picture.size_wh for picture in pictures}
            for place, picture in zip(places, pictures, strict=True):
                picture.hidden = picture.hidden.union(differ, *(p.hidden for p in pictures))
                if len(sizes) > 1:
                    where = self._wheres[id(picture)]
                    reason = f"{where}: {picture.image!r:.80} is annotated in two sizes"
                    self._rows[place] = Rejected(reason, picture.row, len(picture.instances) or 1)


def _is_label(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _boxes_by_label(picture: Picture) -> dict[str, Counter[Any]]:
    found: dict[str, Counter[Any]] = defaultdict(Counter)
    for item in picture.instances:
        found[item.object.label][item.object.bbox, item.object.iscrowd] += 1
    return dict(found)


def keys_of(paths: Iterable[str]) -> dict[str, str]:
    """Ids of samples by the path of their file: without its suffix, where that is one file's alone.

    Args:
        paths: relative, with slashes.
    """
    stems: dict[str, list[str]] = defaultdict(list)
    for path in dict.fromkeys(paths):
        stems[str(PurePosixPath(path).with_suffix(""))].append(path)
    return {
        path: stem if len(alike) == 1 else path for stem, alike in stems.items() for path in alike
    }
