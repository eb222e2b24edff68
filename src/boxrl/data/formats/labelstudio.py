"""Label Studio's exports to samples: JSON and JSON-MIN, shapes in percent of the image.

Source: github.com/HumanSignal/label-studio-sdk, converter. A task has annotations, an annotation
results; a rectangle turns clockwise about its top left corner, in pixels. Cancelled annotations and
tasks without any are left out; an annotation without results shows no object. Predictions are no
annotations. A task of several images is refused, unless all its results name one of them. What is
painted with a brush has no box here, and its label is not asked for there; nor is one that an image
has as key points alone.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote

from boxrl.data.formats.coco_dialects import number
from boxrl.data.formats.documents import Document
from boxrl.data.formats.image_folder import ImageFolder
from boxrl.data.formats.marks import Collection, Mark, unboxed
from boxrl.data.formats.outlines import Corners, around_ellipse, around_turned, hull
from boxrl.data.formats.pictures import Asking, Picture
from boxrl.data.formats.reading import Reading, size_of
from boxrl.data.images import read_header
from boxrl.data.subsets import Mode
from boxrl.errors import DataError, tally

Row = dict[str, Any]

WHOLE_IMAGE = ("choices", "textarea", "rating", "number", "datetime", "taxonomy", "pairwise",
               "ranker", "relation")  # fmt: skip
"""Types of results that are no regions."""

_SHAPED = frozenset(("original_width", "x", "points"))
"""Keys of which a shape of JSON-MIN has one."""

_UPLOAD = re.compile(r"/?data/upload/(?:\d+/)?")
_HASH = re.compile(r"^[0-9a-f]{8}-(?=.)")
_SERVED = re.compile(r"/?data/local-files/?\?d=([^&]*)")
_BUCKET = re.compile(r"^(?:s3|gs|azure-blob|https?)://[^/]+/")
_IMAGE = re.compile(r"\.(?:jpe?g|jfif|png|bmp|webp|gif|tiff?|avif)(?:$|[?#&])", re.IGNORECASE)


class _Annotation(NamedTuple):
    """What one person drew into one image: its task's place, id and image, and the results."""

    place: int
    key: str
    written: str
    results: list[Row]


def read_labelstudio(
    annotations: Path,
    images: Path,
    *,
    subset: Sequence[str] = (),
    mode: Mode = "positive",
    negatives: int = 0,
    seed: int = 0,
) -> Reading:
    """Samples of an export, in the order of its tasks; a sample's id is its task's.

    Args:
        annotations: the JSON or JSON-MIN file.
        images: folder of the images; opened only where a task tells no size.
        subset: as for COCO.
        mode: as for COCO.
        negatives: as for COCO.
        seed: of their draw.

    Raises:
        DataError: no such file, or no list of tasks. A bad task or shape is a `Rejected`.
        UsageError: see `read_coco`.
    """
    asking = Asking(subset, mode, "detection", negatives, seed)
    document = Document(annotations)
    collection = Collection(ImageFolder(images))
    found: list[_Annotation] = []
    idle = 0
    for place, task in enumerate(document.array(None)):
        try:
            drawn = list(_annotations(task, place))
        except DataError as error:
            where = document.where(None, place)
            collection.reject(DataError(f"{where}: {error}"), task)
            continue
        idle += not drawn
        found += drawn
    paths = _paths([item.written for item in found], collection.images)
    for item in found:
        where = document.where(None, item.place)
        try:
            image = collection.images.locate(paths[item.written], where)
            size_wh = _size(item.results, images / image, where)
            marks, painted, points = _marks(item.results, size_wh, where)
        except DataError as error:
            collection.reject(error, item.results, max(1, len(item.results)))
            continue
        picture = Picture(item.key, image, size_wh, [], item.key, row=item.key)
        collection.add(picture, marks, where, [*painted, *unboxed(points, marks)])
    if idle:
        collection.notes.append(f"{tally(idle, 'task')} without a finished annotation left out")
    return collection.reading(asking)


def _annotations(task: Row, place: int) -> Iterator[_Annotation]:
    """The finished annotations of a task."""
    key = str(task.get("id") if task.get("id") is not None else "")
    if isinstance(task.get("annotations"), list):
        held = task.get("data")
        data: Row = held if isinstance(held, dict) else {}
        for annotation in task["annotations"]:
            if not isinstance(annotation, dict):
                raise DataError(f"expected an annotation, got {annotation!r:.80}")
            if annotation.get("was_cancelled") is True:
                continue
            results = _checked(annotation.get("result"))
            written = _written(data, results)
            yield _Annotation(place, key or _stem(written), written, results)
        return
    results = _from_min([shapes for shapes in map(_drawn, task.values()) if shapes is not None])
    written = _written(task, results)
    yield _Annotation(place, key or _stem(written), written, results)


def _written(data: Row, results: list[Row]) -> str:
    """The path of the image that the results are drawn into.

    Args:
        data: of the task, under whichever keys the labelling set-up names.
        results: of one annotation; `to_name` is what the set-up calls their image.

    Raises:
        DataError: no image, or several, of which the results do not name one by its key.
    """
    names = dict.fromkeys(("image", "img", "image_url", "url", *data))
    found = {str(name): _images_of(data.get(name)) for name in names}
    paths = [path for listed in found.values() for path in listed]
    if not paths:
        raise DataError("no path of an image among its data")
    shapes = [item for item in results if item.get("type") not in WHOLE_IMAGE]
    drawn_on = {str(item.get("to_name")) for item in shapes}
    if len(drawn_on) == 1 and found.get(min(drawn_on)):
        paths = found[min(drawn_on)]
    if len(_different(paths)) > 1 or any(number(item.get("item_index")) for item in shapes):
        raise DataError(
            f"a task of several images, {paths!r:.120}, of which its results name none by its key "
            "in data; samples have one: export them as tasks of their own"
        )
    return paths[0]


def _different(paths: list[str]) -> list[str]:
    """Paths without those that are the end of another, as a file's name beside its address is."""
    kept: list[str] = []
    for path in sorted({_rootless(path).partition("?")[0] for path in paths}, key=len)[::-1]:
        ends = [f"/{known}" for longer in kept for known in (longer, _unhashed(longer))]
        if not any(end.endswith(f"/{path}") for end in ends):
            kept.append(path)
    return kept


def _unhashed(path: str) -> str:
    """The path without the hash that an upload's name starts with."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + _HASH.sub("", name)


def _rootless(path: str) -> str:
    """The path without the root of a storage."""
    served = _SERVED.search(path)
    return unquote(served.group(1)) if served else _BUCKET.sub("", _UPLOAD.sub("", path))


def _images_of(value: Any) -> list[str]:
    """The paths of images in a value: a text, or a list of pages."""
    return [
        path
        for path in (value if isinstance(value, list) else [value])
        if isinstance(path, str) and not path.startswith("data:") and _IMAGE.search(path)
    ]


def _stem(written: str) -> str:
    return PurePosixPath(unquote(written)).stem


def _drawn(value: Any) -> list[Row] | None:
    """A value of JSON-MIN that is a list of shapes, or the text of one that the CSV export has.

    Raises:
        DataError: such a text, but cut or damaged.
    """
    if isinstance(value, str) and value.startswith("[{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DataError(f"shapes {value!r:.80} that are not JSON") from error
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return None
    drawn = not value or any(not _SHAPED.isdisjoint(item) for item in value)
    return value if drawn else None


def _from_min(drawn: list[list[Row]]) -> list[Row]:
    """Shapes of JSON-MIN, where values and sizes stand side by side, as results."""
    return [{**item, "value": item} for shapes in drawn for item in shapes]


def _checked(results: Any) -> list[Row]:
    if not isinstance(results, list) or not all(isinstance(item, dict) for item in results):
        raise DataError(f"expected a list of results, got {results!r:.80}")
    return results


def _paths(written: list[str], images: ImageFolder) -> dict[str, str]:
    """Paths without the roots of Label Studio's storages, and without an upload's hash.

    The hash goes where the image lies without it, and no other upload has the same name.
    """
    bare = {path: _rootless(path) for path in dict.fromkeys(written)}
    uploads = defaultdict(set)
    for path in bare.values():
        uploads[_HASH.sub("", path)].add(path)
    for path, kept in bare.items():
        name = _HASH.sub("", kept)
        alone = len(uploads[name] - {name}) == 1
        if name != kept and alone and not images.holds(kept) and images.holds(name):
            bare[path] = name
    return bare


def _size(results: list[Row], image: Path, where: str) -> tuple[int, int]:
    """The size that the results tell; of an image without any, that in its header."""
    told = (
        (number(item.get("original_width")), number(item.get("original_height")))
        for item in results
    )
    sizes = [size for size in told if all(size)]
    if any(size != sizes[0] for size in sizes):
        raise DataError(f"{where}: results of several sizes, {sizes!r:.80}")
    if any(item.get("image_rotation") for item in results):
        raise DataError(f"{where}: the image was turned in the editor; save it upright")
    if not sizes:
        return read_header(image, where).size_wh
    return size_of({"width": sizes[0][0], "height": sizes[0][1]}, where)


def _marks(
    results: list[Row], size_wh: tuple[int, int], where: str
) -> tuple[list[Mark], list[str], list[str]]:
    """The boxes of an annotation, the labels of what is painted, and those of key points.

    Results that share an id are one region: its shape and the labels of every tag stand apart.
    """
    regions: dict[str, Row] = {}
    named: dict[str, list[Any]] = defaultdict(list)
    for place, item in enumerate(results):
        if item.get("type") not in WHOLE_IMAGE:
            key = str(item.get("id") or f"#{place}")
            value = item["value"] if isinstance(item.get("value"), dict) else {}
            regions.setdefault(key, {}).update(value)
            named[key] += [name for name in _labels(value) if name not in named[key]]
    marks: list[Mark] = []
    painted: list[str] = []
    points: list[str] = []
    for key, value in regions.items():
        corners = _corners(value, size_wh)
        boxless = painted if "rle" in value else points if "keypointlabels" in value else None
        for label in named[key] or [None]:
            if boxless is not None and isinstance(label, str):
                boxless.append(label)
            else:
                marks.append(Mark(label, corners, where, row=value))
    return marks, painted, points


def _labels(value: Row) -> list[Any]:
    """The labels that a result gives its region."""
    listed = [names for key, names in value.items() if str(key).endswith("labels")]
    return [name for names in listed if isinstance(names, list) for name in names]


def _corners(value: Row, size_wh: tuple[int, int]) -> Corners | None:
    """The box around a shape in pixels; None for a shape without one."""
    width, height = (side / 100 for side in size_wh)
    try:
        if "points" in value:
            return hull((x * width, y * height) for x, y in value["points"])
        x, y = value["x"] * width, value["y"] * height
        turn = value.get("rotation") or 0
        if "radiusX" in value:
            radii = value["radiusX"] * width, value["radiusY"] * height
            return around_ellipse(x, y, *radii, turn)
        right, below = x + value["width"] * width, y + value["height"] * height
        return around_turned((x, y, right, below), turn, (x, y))
    except (TypeError, ValueError, KeyError, OverflowError):
        return None
