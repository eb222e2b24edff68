"""Defects of one row of a samples file, and how they can be repaired without a guess."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from boxrl.data.files import is_box
from boxrl.data.formats.image_folder import inside_folder
from boxrl.data.formats.reading import MOST_SHARE
from boxrl.data.images import Header, check_pixels, turn_box
from boxrl.data.samples import parse_sample, render_checked, why_unanswerable, without_labels
from boxrl.errors import DataError
from boxrl.guard.files import parse_json_object
from boxrl.types import Object, Sample, fold_label


class Defect(NamedTuple):
    """Something wrong.

    Attributes:
        line: of the samples file, from 1.
        id: the sample's id where the row has one.
        rule: short name of the kind of defect.
        severity: `error` makes the file unfit for training, `warning` is worth a look.
        message: what is wrong.
        fix: what to do about it.
    """

    line: int
    id: str
    rule: str
    severity: Literal["error", "warning"]
    message: str
    fix: str


Frame = Literal["stored", "shown", "either"]
"""Of which picture a sample has the size, where EXIF turns its image: `either` where both have one
size, as of an image that is upside down, mirrored or square."""


class Checked(NamedTuple):
    """A row after its checks.

    Attributes:
        line: of the samples file, from 1.
        id: as far as known.
        sample: the row, repaired where needed; None where that would take a guess.
        defects: of the row as it stands.
        changes: what was repaired in `sample`.
        header: of the image, where EXIF turns it.
        frame: there, of which picture the row has the size; None where of neither.
    """

    line: int
    id: str
    sample: Sample | None
    defects: list[Defect]
    changes: list[str]
    header: Header | None = None
    frame: Frame | None = None


def check_row(line: int, content: bytes | DataError) -> Checked:
    """All defects that a row shows without its image.

    Args:
        line: its number, from 1.
        content: the line, or why it could not be read.
    """
    try:
        if isinstance(content, DataError):
            raise content
        row = parse_json_object(content, "row")
    except DataError as error:
        defect = Defect(line, "", "json", "error", str(error), "write one JSON object a line")
        return Checked(line, "", None, [defect], [])
    key = row["id"] if isinstance(row.get("id"), str) else ""
    found = _Findings(line, key)
    try:
        sample: Sample | None = parse_sample(row, "row")
    except DataError as error:
        sample = _repair_boxes(row, found, error)
    if sample is not None and _UNWRITABLE.search(content):
        sample = _writable(sample, found)
    if sample is not None:
        sample = _check_objects(sample, found)
        _check_frame(sample, found)
        if why := why_unanswerable(sample):
            found.error("no-answer", why, "write the answer, of a count in digits", None)
    lost = any(change is None for change in found.changes)
    changes = [change for change in found.changes if change is not None]
    return Checked(line, key, None if lost else sample, found.defects, changes)


_UNWRITABLE = re.compile(rb"\\u[dD]|NaN|Infinity")
"""What a line must hold for its sample to be unfit for writing; most lines do not."""


def _writable(sample: Sample, found: _Findings) -> Sample | None:
    try:
        render_checked(sample, "row")
    except DataError as error:
        found.error("field", _bare(error), "write valid Unicode and finite numbers", None)
        return None
    return sample


class _Findings:
    """Defects and changes of one row being collected."""

    def __init__(self, line: int, key: str) -> None:
        self.line, self.key = line, key
        self.defects: list[Defect] = []
        self.changes: list[str | None] = []

    def error(self, rule: str, message: str, fix: str, change: str | None) -> None:
        """A defect; `change` says how it was repaired, None that the row has to go."""
        self.defects.append(Defect(self.line, self.key, rule, "error", message, fix))
        self.changes.append(change)

    def warning(self, rule: str, message: str, fix: str, change: str | None = None) -> None:
        """A doubt, and the change where there is one."""
        self.defects.append(Defect(self.line, self.key, rule, "warning", message, fix))
        if change:
            self.changes.append(change)


def _repair_boxes(row: dict[str, Any], found: _Findings, error: DataError) -> Sample | None:
    """The sample with its bad boxes repaired or taken out; None where more than boxes is wrong."""
    objects = row.get("objects")
    try:
        empty = parse_sample(row | {"objects": []}, "row")
    except DataError as other:
        for mistake in _bad_fields(row) or [other]:
            found.error("field", _bare(mistake), _FIELDS_HELP, None)
        _check_boxes(row, found)
        return None
    if not isinstance(objects, list):
        found.error("field", _bare(error), "objects is a list of {bbox, label}", None)
        return None
    kept, lost = [], []
    for index, item in enumerate(objects):
        bbox = item.get("bbox") if isinstance(item, dict) else None
        repaired = _repair_box(bbox, empty.size_wh, f"objects[{index}]", found)
        if repaired is not None:
            kept.append(item | {"bbox": repaired})
        elif isinstance(item, dict):
            lost.append(item.get("label"))
    try:
        sample = parse_sample(row | {"objects": kept}, "row")
    except DataError as other:
        found.error("field", _bare(other), "an object needs a bbox and a label", None)
        return None
    return _asking_less(sample, lost, found) if lost else sample


def _bad_fields(row: dict[str, Any]) -> list[DataError]:
    """What is wrong with each field by itself; `meta`, which goes by others, is left out."""
    mistakes = []
    for key in dict.fromkeys([*_SOUND, *row]):
        if key not in ("objects", "meta"):
            alone = {name: value for name, value in _SOUND.items() if name != key}
            try:
                parse_sample(alone | ({key: row[key]} if key in row else {}), "row")
            except DataError as error:
                mistakes.append(error)
    return mistakes


def _check_boxes(row: dict[str, Any], found: _Findings) -> None:
    """The defects of the boxes of a row that has to go for another field, as far as they show."""
    try:
        size = parse_sample(_SOUND | {key: row.get(key) for key in ("width", "height")}, "row")
    except DataError:
        return
    objects = row.get("objects", [])
    for index, item in enumerate(objects if isinstance(objects, list) else []):
        bbox = item.get("bbox") if isinstance(item, dict) else None
        _repair_box(bbox, size.size_wh, f"objects[{index}]", found)


_FIELDS_HELP = "see docs/data.md for the fields of a sample"
_SOUND: dict[str, Any] = {
    "id": "-", "image": "-", "width": 1, "height": 1, "task": "detection", "labels": ["-"],
}  # fmt: skip
"""A row without defects, in which each field of another is tried."""


def _asking_less(sample: Sample, lost: Sequence[Any], found: _Findings) -> Sample | None:
    """The sample without the labels that it no longer shows in full; None where none is left."""
    labels = [label for label in lost if isinstance(label, str)]
    fewer = without_labels(sample, labels) if len(labels) == len(lost) else None
    if fewer is None:
        found.changes.append(None)
    else:
        names = ", ".join(map(repr, dict.fromkeys(labels)))
        found.changes.append(f"{names} not asked for any more: a box of it cannot be used")
    return fewer


def _repair_box(
    bbox: Any, size_wh: tuple[int, int], where: str, found: _Findings
) -> list[float] | None:
    """The box, cut to the image where it leaves it; None where nothing of it is left."""
    if not is_box(bbox):
        message = f"{where}: bbox {bbox!r:.80} is not four finite numbers"
        found.error("box-malformed", message, "write x1, y1, x2, y2 in pixels", None)
        return None
    x1, y1, x2, y2 = bbox
    width, height = size_wh
    if x2 < x1 or y2 < y1:
        xywh = x1 >= 0 and y1 >= 0 and x1 + x2 <= width and y1 + y2 <= height
        message = f"{where}: bbox {bbox} has x2 < x1 or y2 < y1"
        message += "; it looks like x, y, width, height" if xywh else ""
        found.error("box-reversed", message, "write x1, y1, x2, y2 with x1 < x2, y1 < y2", None)
        return None
    inside = [max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)]
    if x1 == x2 or y1 == y2:
        message, change = f"{where}: bbox {bbox} has no area", f"{where}: left out, no area"
        found.error("box-empty", message, "leave the box out", change)
        return None
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        message = f"{where}: bbox {bbox} lies outside the image of {width} x {height}"
        found.error("box-outside", message, "boxes are original pixels", None)
        return None
    if inside != bbox:
        message = f"{where}: bbox {bbox} leaves the image of {width} x {height}"
        change = f"{where}: bbox {bbox} clipped to {inside}"
        found.error("box-outside", message, "clip it to the image", change)
    return inside


def _check_objects(sample: Sample, found: _Findings) -> Sample:
    """Duplicate boxes, labels that were not asked for, negatives that are none."""
    asked = {fold_label(label) for label in sample.labels}
    seen, kept, unasked = set(), [], []
    for index, item in enumerate(sample.objects):
        key = (item.bbox, fold_label(item.label))
        if key in seen:
            where = f"objects[{index}]"
            message = f"{where}: duplicate box {item.label!r} {list(item.bbox)}"
            found.warning("box-duplicate", message, "keep one", f"{where}: left out, a duplicate")
        elif key[1] not in asked and not item.iscrowd:
            where = f"objects[{index}]"
            message = f"{where}: label {item.label!r} is not among the labels asked for"
            change = _moved(item, sample, where)
            found.error("label-not-asked", message, "ask for it or move it to meta.others", change)
            unasked.append({"bbox": list(item.bbox), "label": item.label})
        else:
            kept.append(item)
        seen.add(key)
    if sample.task == "detection" and not asked:
        found.error("nothing-asked", "no label is asked for", "ask for one", None)
    if len(asked) < len(sample.labels):
        message = "two labels asked for are the same once case and spacing are folded"
        found.warning("label-duplicate", message, "ask for each once")
    _check_others(sample, asked, found)
    if len(kept) == len(sample.objects):
        return _check_known(sample, found)
    meta = dict(sample.meta)
    for aligned in ("annotation_ids", "areas", "scores"):  # with the objects, which have changed
        meta.pop(aligned, None)
    if unasked:
        meta["others"] = [*meta.get("others", []), *unasked]
    return _check_known(replace(sample, objects=tuple(kept), meta=meta), found)


def _moved(item: Object, sample: Sample, where: str) -> str | None:
    """How a box that is not asked for is moved aside.

    None, so that its row goes, where nothing would be left of what is asked, or where it may be
    what is asked for by another spelling: its row would say that the image does not hold it.
    """
    shown = {fold_label(target.label) for target in sample.targets}
    unanswered = {skeleton(label) for label in sample.labels if fold_label(label) not in shown}
    if sample.task in ("grounding", "region") or skeleton(item.label) in unanswered:
        return None
    return f"{where}: moved to meta.others, not asked for"


_NOT_LETTERS = re.compile(r"[\W_]+")


def skeleton(label: str) -> str:
    """The label without case, spacing, punctuation and a plural s.

    Args:
        label: as it is written.
    """
    bare = _NOT_LETTERS.sub("", fold_label(label))
    return bare[:-1] if len(bare) > 3 and bare.endswith("s") else bare or label


def _check_known(sample: Sample, found: _Findings) -> Sample:
    """Labels asked for that no answer would be known to be right for."""
    ignored, unverified = sample.ignored, sample.meta.get("unverified", ())
    if sample.task != "detection" or not (ignored or unverified):
        return sample
    shown = {fold_label(item.label) for item in sample.targets}
    crowd = {fold_label(item.label) for item in ignored} - shown
    doubtful = crowd | {fold_label(label) for label in unverified}
    labels = [label for label in sample.labels if fold_label(label) in doubtful]
    fewer = without_labels(sample, labels) if labels else sample
    for label in labels:
        where = "only as a crowd region" if fold_label(label) in crowd else "in meta.unverified"
        message = f"{label!r} is asked for, but stands {where}: the gold answer would leave it out"
        change = None if fewer is None else f"{label!r} is not asked for any more"
        found.error("label-unverified", message, "do not ask for it", change)
    return fewer or sample


def _check_others(sample: Sample, asked: set[str], found: _Findings) -> None:
    """An object in meta.others whose label was asked for contradicts the answer."""
    others = sample.meta.get("others", ())
    if sample.task != "detection" or not isinstance(others, list):
        return
    for item in others:
        is_box = isinstance(item, dict) and not item.get("iscrowd")
        label = item.get("label") if is_box else None
        if isinstance(label, str) and fold_label(label) in asked:
            message = f"{label!r} is asked for, but one box of it stands in meta.others"
            found.error("conflicting-negative", message, "move it to objects", None)
            return


def _check_frame(sample: Sample, found: _Findings) -> None:
    """Boxes that all end where no box of pixels does were meant as shares of the image."""
    if sample.objects and all(max(item.bbox) <= MOST_SHARE for item in sample.objects):
        message = (
            f"all coordinates are at most {MOST_SHARE:g}: they look like shares of the image, not "
            "pixels"
        )
        found.error("frame", message, "multiply by the image's width and height", None)


def check_image(row: Checked, images: Path) -> Checked:
    """The row with the defects that its image shows: unreadable, of another size, rotated.

    What is to be said of a row in the frame `either`, `settle` says.
    """
    if row.sample is None:
        return row
    found = _Findings(row.line, row.id)
    header = _read_header(row.sample.image, images, found)
    if header is None:
        return _after(row, None, found)
    frame = _frame_of(row.sample, header)
    sample = _check_size(row.sample, header, frame, found)
    return _after(row, sample, found)._replace(header=header, frame=frame)


def _after(row: Checked, sample: Sample | None, found: _Findings) -> Checked:
    """The row with what was found, and with the sample as it is repaired."""
    changes = [change for change in found.changes if change is not None]
    return row._replace(
        sample=sample, defects=row.defects + found.defects, changes=row.changes + changes
    )


def _read_header(name: str, images: Path, found: _Findings) -> Header | None:
    """The header of a sample's image; None where it cannot be read."""
    try:
        header = check_pixels(images / inside_folder(images, name, "row"), "row")
    except DataError as error:
        fix = "replace the image or leave the sample out"
        found.error("image-unreadable", _bare(error), fix, None)
        return None
    if header.animated:
        message = f"image {name!r} holds several pictures; only the first is used"
        found.warning("image-animated", message, "save the picture that is meant by itself")
    return header


def _frame_of(sample: Sample, header: Header) -> Frame | None:
    if header.orientation == 1:
        return None
    sizes: dict[Frame, tuple[int, int]] = {"shown": header.size_wh, "stored": header.stored_wh}
    fitting: list[Frame] = [frame for frame, size in sizes.items() if size == sample.size_wh]
    return "either" if len(fitting) > 1 else next(iter(fitting), None)


def _check_size(
    sample: Sample, header: Header, frame: Frame | None, found: _Findings
) -> Sample | None:
    """The sample, turned where its boxes are those of the stored pixels; None where it must go."""
    name, (width, height) = sample.image, header.size_wh
    if frame == "shown":
        _warn_of_turn(name, header, found)
    if header.size_wh == sample.size_wh:
        return sample
    if frame == "stored":
        message = (
            f"image {name!r} is shown as {width} x {height} px ({_tag(header)}); the sample has "
            "the size, and so the boxes, of the stored pixels"
        )
        turned = f"size and boxes are those of image {name!r} as it is shown"
        found.error("image-rotated", message, "turn size and boxes: --fix does", turned)
        return _turn(sample, header)
    kind = " (its sides are exchanged)" if header.size_wh == sample.size_wh[::-1] else ""
    message = (
        f"image {name!r} has {width} x {height} px, the sample says {sample.width} x "
        f"{sample.height}{kind}"
    )
    fix = "declare the image's size; boxes must be in its pixels"
    found.error("image-size", message, fix, None)
    return None


def _tag(header: Header) -> str:
    return f"EXIF orientation {header.orientation}"


def _warn_of_turn(name: str, header: Header, found: _Findings) -> None:
    message = (
        f"image {name!r} is stored turned ({_tag(header)}); boxes are taken to be in the picture "
        "as it is shown, as labelling tools write them"
    )
    fix = "for tools that ignore EXIF save it upright (PIL.ImageOps.exif_transpose)"
    found.warning("image-rotated", message, fix)


def settle(row: Checked, frames: Collection[Frame | None]) -> Checked:
    """The row with what the file's other rows say of its frame, where its size says nothing.

    Args:
        row: any; those in another frame than `either` come back as they are.
        frames: of all rows of the file.
    """
    sample, header = row.sample, row.header
    if row.frame != "either" or sample is None or header is None:
        return row
    found = _Findings(row.line, row.id)
    start = f"image {sample.image!r} is stored turned ({_tag(header)}), which its size cannot show"
    if "stored" not in frames:
        _warn_of_turn(sample.image, header, found)
    elif "shown" not in frames:
        message = f"{start}; in all rows whose size does, boxes are those of the stored pixels"
        turned = f"boxes are those of image {sample.image!r} as it is shown"
        found.error("image-rotated", message, "turn the boxes: --fix does", turned)
        sample = _turn(sample, header)
    else:
        message = f"{start}; boxes of other rows are partly of the stored pixels, partly as shown"
        found.error("image-rotated", message, "lint the sources of the file one by one", None)
        sample = None
    return _after(row, sample, found)


def _turn(sample: Sample, header: Header) -> Sample:
    """A sample of stored pixels as one of the picture as it is shown."""

    def turned(bbox: Sequence[float]) -> tuple[float, float, float, float]:
        x1, y1, x2, y2 = bbox
        return turn_box((x1, y1, x2, y2), header.stored_wh, header.orientation)

    objects = tuple(msgspec.structs.replace(o, bbox=turned(o.bbox)) for o in sample.objects)
    meta = dict(sample.meta)
    if others := meta.get("others"):
        meta["others"] = [other | {"bbox": list(turned(other["bbox"]))} for other in others]
    width, height = header.size_wh
    return replace(sample, width=width, height=height, objects=objects, meta=meta)


def _bare(error: DataError) -> str:
    return str(error).removeprefix("row: ")
