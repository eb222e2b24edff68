"""Samples as JSON lines: the one file that training, prompts and evaluation read."""

from __future__ import annotations

import hashlib
import json
import posixpath
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast, get_args

import msgspec
import numpy as np

from boxrl.data.files import is_number, is_whole, no_cycle_search, read_jsonl, write_atomic
from boxrl.data.kinds import way_out
from boxrl.errors import DataError
from boxrl.guard.files import parse_json_object, read_head
from boxrl.parsing.answers import read_count
from boxrl.types import Object, Sample, Task, fold_label

TASKS: tuple[str, ...] = get_args(Task)
_FIELDS = {
    "id", "image", "width", "height", "task", "labels", "objects", "question", "answer", "meta",
}  # fmt: skip
_STRINGS = {str}


def _as_plain(value: Any) -> Any:
    """Numbers and arrays of numpy as JSON has them: boxes of one's own come from there."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"no JSON for {type(value).__name__}")


_ENCODER = msgspec.json.Encoder(enc_hook=_as_plain)
IMAGE_HEAD_BYTES = 16 * 1024

KNOWLEDGE = ("unverified", "verified_absent", "unexhausted")
"""Keys of `meta` that say what is not known of an image: lists of labels."""


@no_cycle_search()
def read_samples(path: str | Path) -> list[Sample]:
    """Every sample of a file.

    Args:
        path: the samples file, as `boxrl data convert` writes it.

    Raises:
        DataError: the first bad line, as `file:line: what, got, expected`; also for no sample
            at all and for a duplicate id.
    """
    path = Path(path)
    samples: dict[str, Sample] = {}
    for number, row in read_jsonl(path):
        try:
            sample = parse_sample(row, f"{path}:{number}")
        except DataError as error:
            next_step = way_out(path, "samples") or f". Run boxrl data lint {path}"
            raise DataError(f"{error}{next_step}") from error
        if sample.id in samples:
            raise DataError(f"{path}:{number}: duplicate id {sample.id!r}; ids must be unique")
        samples[sample.id] = sample
    if not samples:
        raise DataError(f"{path}: holds no samples")
    return list(samples.values())


def write_samples(path: str | Path, samples: Iterable[Sample]) -> int:
    """Write samples atomically, one JSON object a line; returns how many."""
    count = 0
    with write_atomic(Path(path)) as handle:
        for sample in samples:
            handle.write(render_sample(sample) + "\n")
            count += 1
    return count


def render_sample(sample: Sample) -> str:
    """One line of a samples file; `parse_sample` of its JSON gives the sample back."""
    row: dict[str, Any] = {
        "id": sample.id,
        "image": sample.image,
        "width": sample.width,
        "height": sample.height,
        "task": sample.task,
        "labels": sample.labels,
        "objects": sample.objects,
    }
    optional = {"question": sample.question, "answer": sample.answer, "meta": sample.meta}
    row.update({key: value for key, value in optional.items() if value})
    line = _ENCODER.encode(row)
    if b"null" in line:  # as which msgspec writes NaN and infinity; json refuses them
        json.dumps(row, allow_nan=False, default=msgspec.to_builtins)
    return line.decode()


def render_checked(sample: Sample, where: str) -> str:
    r"""The sample's line, or a DataError where its text or meta cannot be written.

    JSON can say `\ud800`, half of a character, and Python's reader lets NaN and Infinity pass.
    """
    try:
        line = render_sample(sample)
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: invalid Unicode: unpaired surrogate") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{where}: meta cannot be written as JSON ({error})") from error
    return line


def object_row(item: Object) -> dict[str, Any]:
    """The object as `objects` and `meta.others` hold it."""
    row: dict[str, Any] = {"bbox": list(item.bbox), "label": item.label}
    return row | {"iscrowd": True} if item.iscrowd else row


@lru_cache(maxsize=2048)
def parse_line(line: str) -> Sample:
    """The sample of one line of a samples file, remembered: a group's rows hold the same line.

    Args:
        line: as `render_sample` writes it.

    Raises:
        DataError: it is no sample.
    """
    return parse_sample(parse_json_object(line, "sample"), "sample")


def parse_sample(row: dict[str, Any], where: str) -> Sample:
    """A sample from its JSON object, checked field by field.

    Args:
        row: the JSON object.
        where: start of every error message, usually `file:line`.

    Raises:
        DataError: the first thing that is wrong.
    """
    unknown = sorted(set(row) - _FIELDS)
    if unknown:
        raise DataError(
            f"{where}: unknown field {unknown[0]!r}; fields: {', '.join(sorted(_FIELDS))}"
        )
    width, height = (_positive_int(row, key, where) for key in ("width", "height"))
    task = _text(row, "task", where)
    if task not in TASKS:
        raise DataError(f"{where}: task {task!r}; expected one of {', '.join(TASKS)}")
    labels = row.get("labels")
    if not (
        isinstance(labels, list)
        and _STRINGS.issuperset(map(type, labels))
        and all(map(str.strip, labels))
    ):
        raise DataError(f"{where}: labels must be a list of non-empty strings, got {labels!r:.80}")
    meta = row.get("meta") or {}
    _check_meta(meta, (width, height), where)
    objects = tuple(parse_objects(row.get("objects", []), (width, height), where))
    _check_scores(meta.get("scores"), len(objects), where)
    return Sample(
        id=_text(row, "id", where),
        image=checked_image(_text(row, "image", where), where),
        width=width,
        height=height,
        task=cast(Task, task),
        labels=held_once(tuple(labels)),
        objects=objects,
        question=_text(row, "question", where) if row.get("question") is not None else None,
        answer=_text(row, "answer", where) if row.get("answer") is not None else None,
        meta=meta,
    )


def checked_sample(sample: Sample, where: str) -> Sample:
    """A sample made in Python, as the line of a file that says the same would be read.

    Args:
        sample: unchecked: boxes of numpy, a size the other way round, a task of another name.
        where: start of every error message.

    Raises:
        DataError: the first thing that is wrong, as of `parse_sample`.
    """
    row = {field.name: getattr(sample, field.name) for field in fields(sample)}
    if isinstance(sample.labels, tuple | list):
        row["labels"] = list(sample.labels)
    if isinstance(sample.objects, tuple | list):
        row["objects"] = [
            msgspec.structs.asdict(item) if isinstance(item, Object) else item
            for item in sample.objects
        ]
    if isinstance(sample.meta, Mapping):
        row["meta"] = dict(sample.meta)
    return parse_sample(row, where)


def _check_meta(meta: Any, size_wh: tuple[int, int], where: str) -> None:
    """Refuse what evaluation would stumble over; all stays as it is, whatever else it says."""
    if not isinstance(meta, dict):
        raise DataError(f"{where}: meta must be an object, got {type(meta).__name__}")
    if "others" in meta:
        tuple(parse_objects(meta["others"], size_wh, f"{where}: meta.others"))
    areas = meta.get("areas", [])
    if not isinstance(areas, list):
        raise DataError(f"{where}: meta.areas must be a list of square pixels, got {areas!r:.80}")
    of_areas = f"{where}: meta.areas"
    for area in areas:
        checked_area(area, of_areas)
    for key in KNOWLEDGE:
        names = meta.get(key, [])
        if not isinstance(names, list) or not _STRINGS.issuperset(map(type, names)):
            raise DataError(f"{where}: meta.{key} must be a list of labels, got {names!r:.80}")


def _check_scores(scores: Any, count: int, where: str) -> None:
    """Refuse scores that a gold answer could not state."""
    if scores is None:
        return
    shares = isinstance(scores, list) and all(is_number(v) and 0 <= v <= 1 for v in scores)
    if not shares or len(scores) != count:
        raise DataError(
            f"{where}: meta.scores must be a number from 0 to 1 per object, got {scores!r:.80}"
        )


@lru_cache(maxsize=1024)
def held_once(labels: tuple[str, ...]) -> tuple[str, ...]:
    """The labels; of equal ones the same object, because many samples ask for the same 80."""
    return labels


def without_labels(sample: Sample, labels: Collection[str]) -> Sample | None:
    """The sample that asks for these labels no longer, because its boxes of them are not all known.

    Their boxes go to `meta.others`, and `meta.unverified` names them.

    Args:
        sample: of any task.
        labels: compared as labels are.

    Returns:
        None where nothing is left to be asked.
    """
    gone = set(map(fold_label, labels))
    kept = [place for place, label in enumerate(sample.labels) if fold_label(label) not in gone]
    if sample.task != "detection" or not kept:
        return None
    meta = dict(sample.meta)
    taken = [item for item in sample.objects if fold_label(item.label) in gone]
    stay = [place for place, item in enumerate(sample.objects) if item not in taken]
    for key, places, whole in (
        ("category_ids", kept, len(sample.labels)),
        ("annotation_ids", stay, len(sample.objects)),
        ("areas", stay, len(sample.objects)),
        ("scores", stay, len(sample.objects)),
    ):
        if isinstance(meta.get(key), list) and len(meta[key]) == whole:
            meta[key] = [meta[key][place] for place in places]
    if taken:
        meta["others"] = [*meta.get("others", ()), *map(object_row, taken)]
    names = [label for label in sample.labels if fold_label(label) in gone]
    meta["unverified"] = sorted({*meta.get("unverified", ()), *names})
    return replace(
        sample,
        labels=tuple([sample.labels[place] for place in kept]),
        objects=tuple([sample.objects[place] for place in stay]),
        meta=meta,
    )


def parse_objects(rows: Any, size_wh: tuple[int, int] | None, where: str) -> Iterator[Object]:
    """Objects from JSON, boxes checked against the image's size where it is known.

    Raises:
        DataError: a box that is not four finite numbers with x1 < x2 and y1 < y2 in the image.
    """
    if not isinstance(rows, (list, tuple)):
        raise DataError(f"{where}: objects must be a list, got {type(rows).__name__}")
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("label"), str):
            raise DataError(f"{where}: an object needs a bbox and a label, got {row!r:.80}")
        bbox = checked_bbox(row.get("bbox"), size_wh, where)
        crowd = row.get("iscrowd")
        yield Object(bbox, row["label"], crowd is not None and checked_crowd(crowd, where))


def checked_crowd(value: Any, where: str, name: str = "iscrowd") -> bool:
    """Whether an object is a crowd region, as a flag says: true, false, 1, 0 or null.

    Args:
        value: of the flag.
        where: start of the error message.
        name: of the flag.

    Raises:
        DataError: it is something else, such as a text.
    """
    if value not in (None, 0, 1):
        raise DataError(f"{where}: {name} must be true or false, got {value!r:.80}")
    return bool(value)


def checked_bbox(
    value: Any, size_wh: tuple[int, int] | None, where: str
) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2) in pixels, or a DataError that says what is wrong with it."""
    width, height = size_wh or (sys.float_info.max, sys.float_info.max)
    try:
        x1, y1, x2, y2 = value
        inside = 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
    except (TypeError, ValueError):
        inside = False
    if not inside or bool in map(type, value):
        raise DataError(f"{where}: {_bbox_mistake(value, size_wh)}")
    return float(x1), float(y1), float(x2), float(y2)


def _bbox_mistake(value: Any, size_wh: tuple[int, int] | None) -> str:
    """What is wrong with a bbox."""
    if not isinstance(value, (list, tuple)) or len(value) != 4 or not all(map(is_number, value)):
        return f"bbox {value!r:.80}; expected four finite numbers x1, y1, x2, y2"
    x1, y1, x2, y2 = value
    if x1 >= x2 or y1 >= y2:
        what = "zero width" if x1 == x2 else "zero height" if y1 == y2 else "flipped corners"
        return f"bbox {value} has {what}; boxes are xyxy pixels, x1 < x2, y1 < y2"
    size = f" of {size_wh[0]} x {size_wh[1]}" if size_wh else ""
    return f"bbox {value} leaves the image{size}; boxes are original pixels"


def why_unanswerable(sample: Sample) -> str | None:
    """Why no answer to a question could be right, in words; None where one could.

    Args:
        sample: any; of boxes there is always an answer.
    """
    if sample.task not in ("region", "counting"):
        return None
    if sample.answer is None:
        return f"a {sample.task} sample without an answer: nothing says what is right"
    if sample.task == "counting" and read_count(sample.answer) is None:
        return f"the answer {sample.answer!r:.40} is no whole number in digits, as a count is"
    return None


def checked_area(value: Any, where: str) -> float:
    """An area in square pixels, 0 or more.

    Raises:
        DataError: anything else; `where` starts the message.
    """
    if not is_number(value) or value < 0:
        raise DataError(f"{where}: area {value!r:.80}; expected square pixels, 0 or more")
    area: float = value
    return area


def checked_image(path: str, where: str) -> str:
    """The relative image path in its one spelling, or a DataError where it leaves the folder."""
    slashed = path.replace("\\", "/")
    climbs = slashed.startswith("/") or ".." in slashed.split("/")
    if climbs or "\x00" in path or slashed[1:3] == ":/":
        raise DataError(f"{where}: image path {path!r} leaves the images folder")
    return normal_image(path)


def normal_image(path: str) -> str:
    """The one spelling of an image's path: no `.` parts, no doubled slashes."""
    plain = "/" not in path and not path.startswith(".")
    return path if plain and path else posixpath.normpath(path)


def image_path(images: Path, sample: Sample) -> Path:
    """Where the sample's image lies.

    Raises:
        DataError: it is missing, or a link leads out of the images folder.
    """
    path = images / sample.image
    if not path.is_file():
        raise DataError(
            f"sample {sample.id!r}: no image {path}; --images, in a recipe data.images, names "
            "their folder"
        )
    if not path.resolve().is_relative_to(images.resolve()):
        raise DataError(
            f"sample {sample.id!r}: image {path} is a link out of the images folder, which may "
            "be a link itself, but hold none; link the folder above, or copy the images"
        )
    return path


def hash_question(sample: Sample) -> str:
    """Short hash of what is asked of which image, wherever that lies; targets do not count."""
    region = sample.objects[:1] if sample.task == "region" else ()
    image = posixpath.basename(sample.image)
    asked = (image, sample.size_wh, sample.task, sample.labels, sample.question, region)
    return hashlib.sha256(repr(asked).encode("utf-8", "replace")).hexdigest()[:8]


def hash_images(images: Path, samples: Iterable[Sample]) -> str | None:
    """SHA-256 over size and start of every image of samples; None where one cannot be read.

    Only who has the images can tell it.

    Args:
        images: folder that image paths start at.
        samples: in any order.
    """
    digest, found = hashlib.sha256(), {sample.image: sample for sample in samples}
    try:
        for name in sorted(found):
            path = image_path(images, found[name])
            digest.update(f"{name}\0{path.stat().st_size}\0".encode("utf-8", "surrogatepass"))
            digest.update(read_head(path, IMAGE_HEAD_BYTES))
    except (DataError, OSError):
        return None
    return digest.hexdigest()


def _text(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise DataError(f"{where}: {key} must be a non-empty string, got {value!r:.80}")
    return value


def _positive_int(row: dict[str, Any], key: str, where: str) -> int:
    value: Any = row.get(key)
    if not is_whole(value, 1):
        raise DataError(f"{where}: {key} must be an integer >= 1, got {value!r:.80}")
    return int(value)
