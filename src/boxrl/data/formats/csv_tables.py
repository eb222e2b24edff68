"""Tables of boxes to samples: a row per object, as TensorFlow, OpenImages and Kaggle have them.

The first line names the columns, by whichever names are in use, or is a row itself:

    filename,width,height,class,xmin,ymin,xmax,ymax    TensorFlow, Roboflow
    image_id,class_name,x_min,y_min,x_max,y_max        Kaggle; also x,y,w,h, or bbox "[x, y, w, h]"
    ImageID,Source,LabelName,Confidence,XMin,XMax,...  OpenImages, in shares of the image
    a.jpg,10,20,110,70,dog                             keras-retinanet

A row without a box and label shows that its image has no object, one with a label that this label
is not to be asked for there; images that stand in no row are left out.
In OpenImages a box around a group is a crowd region, and only verified labels are known to be
absent.
"""

from __future__ import annotations

import ast
import csv
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from boxrl.data.files import is_number
from boxrl.data.formats.box_forms import BoxForm, corners_of, tell_form
from boxrl.data.formats.coco_dialects import number
from boxrl.data.formats.documents import read_document
from boxrl.data.formats.image_folder import ImageFolder
from boxrl.data.formats.marks import Collection, Mark, keys_of
from boxrl.data.formats.open_images import Verified, read_names, read_verified
from boxrl.data.formats.pictures import UNCOUNTED, Asking, Picture, is_uncounted
from boxrl.data.formats.reading import Reading, size_of, told_as_one
from boxrl.data.formats.turns import ANGLES, untold_turn
from boxrl.data.images import read_header
from boxrl.data.subsets import Mode
from boxrl.errors import DataError, UsageError

COLUMNS = {
    "image": ("filename", "file", "image", "imageid", "imagename", "imagepath", "img", "path",
              "frame", "patientid"),
    "label": ("class", "label", "classname", "labelname", "category", "categoryname", "name",
              "object", "classid"),
    "x1": ("xmin", "x1", "left"),
    "y1": ("ymin", "y1", "top"),
    "x2": ("xmax", "x2", "right"),
    "y2": ("ymax", "y2", "bottom"),
    "x": ("x", "bboxx"),
    "y": ("y", "bboxy"),
    "w": ("w", "width", "bboxwidth", "bboxw"),
    "h": ("h", "height", "bboxheight", "bboxh"),
    "bbox": ("bbox", "box"),
    "boxes": ("annotations",),
    "image_width": ("width", "imagewidth", "imgwidth"),
    "image_height": ("height", "imageheight", "imgheight"),
}  # fmt: skip
"""What a column can be called, letters and digits alone."""

SPLITS = ("split", "subset", "set", "usage")
"""What a column of splits can be called."""

LOOKED_AT = 100
"""Rows that are enough to tell which column names the labels and which numbers them."""

KERAS = ("image", "x1", "y1", "x2", "y2", "label")
"""Columns of a table that does not name them."""


class _Row(NamedTuple):
    """One object, or an image without any.

    Attributes:
        line: of the file.
        image: as it is written.
        label: text, or None.
        box: numbers in the order of the file; None where the row has none.
        size: declared size of the image, its values None where there is none.
        group: whether the box is around a group, or nobody has to find it.
        turn: the angles beside the box by the name of their column.
        of: what else tells which image is meant: its other names, its split.
    """

    line: int
    image: str
    label: str | None
    box: Any
    size: dict[str, Any]
    group: bool
    turn: dict[str, str]
    of: tuple[str, ...]


def read_csv(
    annotations: Path,
    images: Path,
    *,
    subset: Sequence[str] = (),
    mode: Mode = "positive",
    label: str | None = None,
    boxes: BoxForm | None = None,
    negatives: int = 0,
    seed: int = 0,
) -> Reading:
    """Samples of a table, in the order in which it names the images.

    Args:
        annotations: the .csv file, packed by gzip or not; or a folder that holds one file of boxes.
        images: folder of the images; headers are read where the table tells no sizes.
        subset: as for COCO.
        mode: as for COCO; of OpenImages `all` asks for the labels present and verified absent.
        label: of every box, where the table has no column of labels.
        boxes: `xywh` or `xyxy` of a column of boxes that can be read either way.
        negatives: as for COCO.
        seed: of their draw.

    Raises:
        DataError: no such table, or one whose columns are not known. A bad row is a `Rejected`.
        UsageError: no labels, or boxes of an unknown form; see `read_coco`.
    """
    asking = Asking(subset, mode, "detection", negatives, seed)
    path = _file(annotations)
    table = _Table(path, label)
    rows = list(table.rows())
    collection = Collection(ImageFolder(images))
    collection.notes += told_as_one(table.splits(), "part the file by this column")
    _add_images(rows, table, collection, boxes)
    collection.tell_unused("in no row")
    boxed = {row.label for row in rows if row.box is not None}
    names = table.names(rows) or [name for name in collection.labels() if name in boxed]
    return collection.reading(asking, names)


def _file(path: Path) -> Path:
    """The file of boxes of a folder."""
    if not path.is_dir():
        return path
    found = sorted(path.glob("*annotations-bbox*.csv")) or sorted(path.glob("*.csv"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found[:5]) or "none"
        raise DataError(f"{path}: a folder; expected one .csv file of boxes in it, found {names}")
    return found[0]


class _Table:
    """A file with its columns and, of OpenImages, what stands beside it."""

    def __init__(self, path: Path, label: str | None) -> None:
        self.path, self.label = path, label
        self.text = read_document(path)
        first = next(iter(self.text.lstrip().splitlines()), "")
        self.delimiter = max(",;\t|", key=first.count)
        self.header = next(csv.reader([first], delimiter=self.delimiter), [])
        self.columns = self._find_columns()
        bare = [_bare(name) for name in self.header]
        self.beside = [
            (name, place) for place, name in enumerate(bare) if name in UNCOUNTED.union(ANGLES)
        ]
        self.telling = [
            place
            for place, name in enumerate(bare)
            if name in (*COLUMNS["image"], *SPLITS) and place != self.columns["image"]
        ]
        self.open_images = {"imageid", "labelname", "xmin"} <= set(bare)
        self.codes: dict[str, str] = read_names(path.parent) if self.open_images else {}
        self.verified: dict[str, Verified] = read_verified(path) if self.open_images else {}

    def _find_columns(self) -> dict[str, int]:
        """Places of the columns by what they hold."""
        bare = [_bare(name) for name in self.header]
        places = {
            role: bare.index(next(name for name in names if name in bare))
            for role, names in COLUMNS.items()
            if any(name in bare for name in names)
        }
        forms = (("x1", "y1", "x2", "y2"), ("x", "y", "w", "h"), ("x1", "y1", "w", "h"), ("bbox",),
                 ("boxes",))  # fmt: skip
        form = next((form for form in forms if all(role in places for role in form)), None)
        if "image" not in places or form is None:
            return self._unnamed()
        if {"x3", "y3"} <= set(bare):
            raise DataError(
                f"{self.path}:1: corners x1, y1 to x3, y3 and more are of no upright box; "
                "write xmin, ymin, xmax, ymax around them"
            )
        for side, role in (("w", "image_width"), ("h", "image_height")):
            if side in form and places.get(role) == places[side]:
                del places[role]
        if "label" in places:
            places["label"] = self._label_column(bare)
        kept = {"image", "label", "image_width", "image_height", *form}
        if "label" not in places and self.label is None:
            raise UsageError(
                f"{self.path}:1: no column of labels; name the one there is: --label NAME"
            )
        return {role: place for role, place in places.items() if role in kept}

    def _label_column(self, bare: list[str]) -> int:
        """The first column of labels that are no numbers, else the first."""
        found = [bare.index(name) for name in COLUMNS["label"] if name in bare]
        looked_at = [*islice(self._lines(), 1, LOOKED_AT)] if len(found) > 1 else []

        def names(place: int) -> bool:
            cells = [values[place] for _, values in looked_at if place < len(values)]
            return any(isinstance(number(cell), str) for cell in cells)

        return next(filter(names, found), found[0])

    def _unnamed(self) -> dict[str, int]:
        """The columns of a table whose first line is a row."""
        box = [number(value) for value in self.header[1:5]]
        if len(self.header) == len(KERAS) and (all(map(is_number, box)) or box == [None] * 4):
            self.header = []
            return {role: place for place, role in enumerate(KERAS)}
        raise DataError(
            f"{self.path}:1: columns {', '.join(self.header)!r:.120}; expected one of images "
            "(filename, image_id), of labels (class, label) and of boxes (xmin, ymin, xmax, ymax)"
        )

    def rows(self) -> Iterator[_Row]:
        """Every row that is not blank."""
        for place, (line, values) in enumerate(self._lines()):
            if place or not self.header:
                yield self._row(values, line)

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """(line, cells) of everything that is not blank, the header too."""
        reader = csv.reader(io.StringIO(self.text, newline=""), delimiter=self.delimiter)
        width = len(self.header) or len(KERAS)
        try:
            for values in reader:
                if any(map(str.strip, values[width:])):
                    raise DataError(
                        f"{self.path}:{reader.line_num}: {len(values)} cells, where there are "
                        f"{width} columns; put quotes around cells that hold a {self.delimiter!r}"
                    )
                if any(map(str.strip, values)):
                    yield reader.line_num, values
        except csv.Error as error:
            raise DataError(f"{self.path}:{reader.line_num}: not CSV ({error})") from error

    def _row(self, values: list[str], line: int) -> _Row:
        def cell(role: str) -> str:
            place = self.columns.get(role, len(values))
            return values[place].strip() if place < len(values) else ""

        label = cell("label") if "label" in self.columns else self.label
        label = None if number(label) is None else label  # as pandas writes a missing one: nan
        beside = {name: values[n].strip() for name, n in self.beside if n < len(values)}
        return _Row(
            line,
            cell("image"),
            self.codes.get(label, label) if label else None,
            self._box(cell),
            {"width": number(cell("image_width")), "height": number(cell("image_height"))},
            is_uncounted(beside),
            {name: beside[name] for name in ANGLES if name in beside},
            tuple(values[n].strip() if n < len(values) else "" for n in self.telling),
        )

    def _box(self, cell: Any) -> Any:
        """The numbers of a row's box, or a list of dicts of them; None where all is blank."""
        roles = [
            role for role in ("x1", "y1", "x2", "y2", "x", "y", "w", "h") if role in self.columns
        ]
        if roles:
            found = [number(cell(role)) for role in roles]
            return None if found == [None] * 4 else found
        text = cell("bbox") or cell("boxes")
        if not text or text in ("[]", "nan", "None"):
            return None
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return text

    def splits(self) -> set[str]:
        """What stands in a column of splits, where there is one."""
        place = next((n for n, name in enumerate(self.header) if _bare(name) in SPLITS), None)
        if place is None:
            return set()
        return {
            values[place].strip()
            for _, values in islice(self._lines(), 1, None)
            if place < len(values)
        }

    def names(self, rows: Sequence[_Row]) -> list[str] | None:
        """Every label of the list beside the table; None where there is none."""
        listed = list(self.codes.values())
        classes = self.path.parent / "classes.csv"
        if not self.header and classes.is_file():
            listed = [row[0] for row in csv.reader(io.StringIO(read_document(classes))) if row]
        return list(dict.fromkeys(listed)) or None


def _bare(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _add_images(
    rows: Sequence[_Row], table: _Table, collection: Collection, boxes: BoxForm | None
) -> None:
    """Put every image with its rows into the collection."""
    by_image: dict[str, list[_Row]] = {}
    for row in rows:
        by_image.setdefault(row.image, []).append(row)
    for row in by_image.pop("", ()):
        error = DataError(f"{table.path}:{row.line}: a row without an image")
        collection.stray(error, list(row), row.label)
    paths = {written: _path(written, collection.images) for written in by_image}
    collection.images.settle(paths.values())
    located = {path: collection.images.find(path) or path for path in paths.values()}
    keys = keys_of(located.values())
    form = _form(rows, table, boxes)
    for written, found in by_image.items():
        where = f"{table.path}:{found[0].line}"
        try:
            _check_one_image(found, where)
            image = collection.images.locate(paths[written], where)
            size_wh = _size(found, collection.images.folder / image, where)
        except DataError as error:
            collection.reject(error, written, len(found))
            continue
        scale = size_wh if table.open_images else (1, 1)
        marks = [mark for row in found for mark in _marks(row, table.path, form, scale)]
        key = keys[located[paths[written]]]
        picture = Picture(key, image, size_wh, [], written, row=written)
        if table.open_images:
            said = table.verified.get(written, Verified(set(), set()))
            boxed = {mark.label for mark in marks}
            picture.verified = frozenset(table.codes.get(code, code) for code in said.absent)
            picture.hidden = frozenset(table.codes.get(code, code) for code in said.present) - boxed
        boxless = [row.label for row in found if row.box is None and row.label]
        collection.add(picture, marks, where, boxless if "label" in table.columns else ())


def _path(written: str, images: ImageFolder) -> str:
    """The written path, or that of the one image of that stem."""
    if "." in written.rpartition("/")[2] and images.holds(written):
        return written
    found = images.of_stem(written)
    return found[0] if len(found) == 1 else written


def _check_one_image(rows: Sequence[_Row], where: str) -> None:
    """Stop where rows of one name are of several images, as of two splits or folders."""
    for cells in zip(*(row.of for row in rows), strict=True):
        meant = [cell for cell in dict.fromkeys(cells) if cell]
        if len(meant) > 1:
            raise DataError(
                f"{where}: {rows[0].image!r:.80} is the name of several images, of "
                f"{meant[0]!r:.80} and of {meant[1]!r:.80}; name each by its path from the images "
                "folder"
            )


def _size(rows: Sequence[_Row], image: Path, where: str) -> tuple[int, int]:
    sizes = {(row.size["width"], row.size["height"]) for row in rows}
    if len(sizes) > 1:
        raise DataError(
            f"{where}: rows tell several sizes of the image, {sorted(sizes, key=str)!r:.80}"
        )
    declared = rows[0].size
    if not declared["width"] and not declared["height"]:
        return read_header(image, where).size_wh
    return size_of(declared, where)


def _form(rows: Sequence[_Row], table: _Table, boxes: BoxForm | None) -> BoxForm:
    """How boxes are written; shares of the image are refused where no format says so."""
    if "bbox" in table.columns:
        sized = ((row.box, None, _declared(row)) for row in rows if row.box is not None)
        return tell_form(sized, str(table.path), boxes)
    form: BoxForm = "xywh" if "w" in table.columns or "boxes" in table.columns else "xyxy"
    return form


def _declared(row: _Row) -> tuple[int, int] | None:
    width, height = row.size["width"], row.size["height"]
    return (width, height) if is_number(width) and is_number(height) else None


def _marks(row: _Row, path: Path, form: BoxForm, scale: tuple[int, int]) -> Iterator[Mark]:
    """The objects of a row: none, one, or those of a list."""
    where = f"{path}:{row.line}"
    if row.box is None:
        return
    found = (
        row.box
        if isinstance(row.box, list) and row.box and isinstance(row.box[0], dict)
        else [row.box]
    )
    for box in found:
        told = box if isinstance(box, dict) else {}
        why = untold_turn(row.turn | told)
        if isinstance(box, dict):
            box = [box.get(key) for key in ("x", "y", "width", "height")]
        corners = corners_of(box, form)
        if scale != (1, 1) and all(map(is_number, corners)):
            corners = [value * scale[place % 2] for place, value in enumerate(corners)]
        group = row.group or is_uncounted(told)
        yield Mark(row.label, corners, where, group, list(row), why)
