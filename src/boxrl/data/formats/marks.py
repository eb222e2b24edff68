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
    Shown,
    ask,
    bare_name,
    hide,
    ignore,
    shown_elsewhere,
)
from boxrl.data.formats.reading import Reading, Rejected, placed_xyxy, refuse_shares, require
from boxrl.data.subsets import Instance
from boxrl.errors import DataError, tally
from boxrl.types import Object


class Mark(NamedTuple):
    """An object as its file has it, not checked yet.

    Attributes:
        label: what the file calls it.
        corners: x1, y1, x2, y2 in pixels.
        where: `file:line`, for error messages.
        iscrowd: whether it is a region in which nothing is counted.
        row: what stands there.
        why: why its box cannot be read; "" where nothing is known against it.
    """

    label: Any
    corners: Any
    where: str
    iscrowd: bool = False
    row: Any = None
    why: str = ""


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
        self.rows: list[Picture | Rejected] = []
        self._wheres: dict[int, str] = {}
        self._number = 0
        self._strays: set[str] = set()
        self._unreadable: set[str] = set()

    def reject(self, error: DataError, row: Any, annotations: int = 1) -> None:
        """Leave out an image, or a file of which none is known.

        Args:
            error: why; its message starts with `file:line`.
            row: what stands there.
            annotations: how many are lost with it.
        """
        self.total += 1
        self.annotations += annotations
        self.rows.append(Rejected(str(error), row, annotations))

    def stray(self, error: DataError, row: Any, label: Any) -> None:
        """Leave out an object of no known image: its label is asked for in none.

        Args:
            error: why; its message starts with `file:line`.
            row: what stands there.
            label: what the file calls it.
        """
        self.annotations += 1
        self.rows.append(Rejected(str(error), row))
        self._strays |= {named} if (named := _label(label)) else set()

    def tell_unused(self, where: str) -> None:
        """Note how many images of the folder no path has led to: nobody says what they show.

        Args:
            where: what they lack or are not in, such as "in no row".
        """
        if unused := self.images.unused():
            count = tally(len(unused), "image")
            self.notes.append(f"{count} {where} left out, such as {unused[0]!r:.80}")

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
        hidden = set(map(_label, lost))
        for mark in marks:
            self.annotations += 1
            try:
                instance = self._instance(mark, picture.size_wh)
            except DataError as error:
                self.rows.append(Rejected(str(error), mark.row))
                hidden.add(_label(mark.label))
                continue
            of_all = bare_name(instance.object.label) in IGNORED
            (regions if of_all else picture.instances).append(instance)
        try:
            hide(picture, hidden, where)
        except DataError as error:
            self._unreadable.add(picture.image)
            self.rows.append(Rejected(str(error), picture.row, max(1, len(picture.instances))))
        else:
            self._wheres[id(picture)] = where
            self.rows.append(ignore(picture, regions))

    def _instance(self, mark: Mark, size_wh: tuple[int, int]) -> Instance:
        label = require({"label": mark.label}, "label", str, mark.where).strip()
        if mark.why:
            raise DataError(f"{mark.where}: {mark.why}")
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
            DataError: the boxes are shares of the image, or one has a label beyond the names.
            UsageError: see `pictures.ask`.
        """
        self._part_twins()
        self._name()
        for picture in self._pictures() if self._strays else ():
            picture.hidden |= self._strays
        if self._strays:
            lost = ", ".join(map(repr, sorted(self._strays)[:5]))
            self.notes.append(f"{lost}: asked for nowhere, because some belong to no image")
        shown = [item.object for picture in self._pictures() for item in picture.instances]
        refuse_shares((side for item in shown for side in item.bbox[2:]), self._first_where())
        used = {item.label for item in shown}
        if names is None:
            names = self.labels()
        ids = {name.strip(): number for number, name in enumerate(names, start=1)}
        self._refuse_strangers(ids)
        for name in [name for name in ids if bare_name(name) in BACKGROUND | IGNORED]:
            if name not in used:
                self.notes.append(f"label {name!r} is not asked for: it names no object")
                del ids[name]
        rows = ask(self.rows, ids, asking, self.notes)
        return Reading(self.total, rows, self.annotations, self.notes, self.images)

    def labels(self) -> list[str]:
        """Every label that occurs, sorted."""
        shown = {item.object.label for picture in self._pictures() for item in picture.instances}
        return sorted(shown.union(*(picture.hidden for picture in self._pictures())))

    def _refuse_strangers(self, names: Iterable[str]) -> None:
        """Stop at a label that the source does not list, and which nobody could be asked for."""
        known = frozenset(names)
        for picture in self._pictures():
            for item in picture.instances:
                if item.object.label not in known:
                    raise DataError(
                        f"{self._wheres[id(picture)]}: label {item.object.label!r:.80} is not "
                        f"among the {len(known)} that the source lists, such as "
                        f"{min(known, default='')!r:.80}; add it to the list, or take out its boxes"
                    )

    def _first_where(self) -> str:
        return next(iter(self._wheres.values()), "")

    def _pictures(self) -> list[Picture]:
        return [row for row in self.rows if isinstance(row, Picture)]

    def _part_twins(self) -> None:
        """Of pictures of one image, let each label be asked for in the one that shows all of it.

        Where each shows some of it, or the sizes differ, in none.
        """
        by_image: dict[str, list[Picture]] = defaultdict(list)
        for picture in self._pictures():
            by_image[picture.image].append(picture)
        wrong: dict[int, str] = {}
        first, count = "", 0
        for image, twins in by_image.items():
            if image in self._unreadable:
                why = "is annotated elsewhere with an object whose label cannot be read"
                wrong.update(dict.fromkeys(map(id, twins), why))
            if len(twins) == 1:
                continue
            first = first or image
            count += 1
            hide_elsewhere(twins)
            if len({picture.size_wh for picture in twins}) > 1:
                wrong.update(dict.fromkeys(map(id, twins), "is annotated in two sizes"))
        if count:
            self.notes.append(
                f"{tally(count, 'image')} annotated more than once, the first {first!r:.80}; a "
                "label is asked for where all of its objects are shown"
            )
        for place, row in enumerate(self.rows):
            if isinstance(row, Picture) and id(row) in wrong:
                reason = f"{self._wheres[id(row)]}: {row.image!r:.80} {wrong[id(row)]}"
                self.rows[place] = Rejected(reason, row.row, len(row.instances) or 1)

    def _name(self) -> None:
        """Give pictures of one id different ones."""
        seen: Counter[str] = Counter()
        for picture in self._pictures():
            seen[picture.key] += 1
            if seen[picture.key] > 1:
                picture.key += f"#{seen[picture.key]}"


def hide_elsewhere(twins: Sequence[Picture]) -> None:
    """Hide the labels of one image in every picture of it that does not show all their objects.

    Args:
        twins: pictures of one image; what one of them does not know, none knows.
    """
    doubtful = frozenset().union(*(picture.hidden for picture in twins))
    lacking = shown_elsewhere([_boxes_by_label(picture) for picture in twins])
    for picture, labels in zip(twins, lacking, strict=True):
        picture.hidden |= doubtful | labels


def unboxed(labels: Iterable[Any], marks: Iterable[Mark]) -> list[str | None]:
    """The labels of objects without a box that no mark has: points, lines, tags.

    Args:
        labels: of those objects; what is no label is none that could be asked for.
        marks: of the same image.
    """
    boxed = {_label(mark.label) for mark in marks}
    return [name for label in labels if (name := _label(label)) and name not in boxed]


def _label(value: Any) -> str | None:
    """The label without blanks around it; None where it is none."""
    return (value.strip() or None) if isinstance(value, str) else None


def _boxes_by_label(picture: Picture) -> Shown:
    found: Shown = defaultdict(Counter)
    for item in picture.instances:
        found[item.object.label][item.object.bbox, item.object.iscrowd] += 1
    return found


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
