"""Which annotation of a COCO file belongs to which image, by what its ids and paths say.

Ids and paths of real files repeat, are missing, or are a number here and a text there. Nothing is
joined by a guess: what could belong to an image, but need not, hides its label there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from boxrl.data.files import as_whole
from boxrl.data.formats.coco_dialects import number
from boxrl.data.formats.pictures import Shown, shown_elsewhere
from boxrl.data.formats.reading import require

Row = dict[str, Any]
Key = int | str


MANY = 100_000
"""Annotations whose images no longer fit the processor's cache."""


class Joined(NamedTuple):
    """The annotations of a file by image.

    Attributes:
        mine: by image id, the positions of its annotations.
        repeated: image ids that several images bear.
        meant: by image id, positions of annotations that bear it as a number where it is a text,
            or the other way round.
        anywhere: positions of annotations of no image of the file, which may be any image's.
        strays: positions of all annotations of no image, each with the reason.
    """

    mine: dict[Key, list[int]]
    repeated: frozenset[Key]
    meant: dict[Key, list[int]]
    anywhere: list[int]
    strays: list[tuple[int, str]]


def as_id(value: Any) -> Key | None:
    """The value as a key, None for what can be no id; 2.0, as pandas writes it, is 2."""
    if isinstance(value, bool):
        return None
    value = as_whole(value)
    return value if isinstance(value, (int, str)) else None


def as_ids(values: Sequence[Any]) -> Sequence[Key | None]:
    """Every value as a key; as they are where all are keys already, as in most files."""
    return values if {int, str}.issuperset(map(type, values)) else [*map(as_id, values)]


def join(images: Sequence[Any], annotations: Sequence[Any]) -> Joined:
    """Annotations to images, by id alone.

    Args:
        images: the id of every image, as it stands.
        annotations: the image id of every annotation, as it stands.
    """
    counts = Counter(as_ids(images))
    del counts[None]
    by_text: dict[str, Key] = {}
    keys = as_ids(annotations)
    found = _places_by_key(keys)
    mine = {key: found.pop(key, []) for key in counts if key is not None}
    meant: dict[Key, list[int]] = defaultdict(list)
    anywhere, strays = [], []
    for position in sorted(chain.from_iterable(found.values())):
        key = keys[position]
        by_text = by_text or {str(known): known for known in mine}
        why = f"no image has the id {annotations[position]!r:.80}"
        other = by_text.get(str(key)) if key is not None else None
        if other is None:
            anywhere.append(position)
        else:
            meant[other].append(position)
            why += f", but one has {other!r:.80}; write both as a number or both as a text"
        strays.append((position, why))
    repeated = frozenset(key for key, count in counts.items() if count > 1 and key is not None)
    return Joined(mine, repeated, dict(meant), anywhere, strays)


def _places_by_key(keys: Sequence[Key | None]) -> dict[Key | None, list[int]]:
    """Ascending places of every key.

    MANY numbers are sorted: to add to so many images' lists in turn takes three times as long.
    """
    sortable = len(keys) >= MANY and {*map(type, keys)} == {int}
    column = np.array(keys if sortable else ())
    if column.dtype != np.int64:
        found: dict[Key | None, list[int]] = defaultdict(list)
        for place, key in enumerate(keys):
            found[key].append(place)
        return found
    order = np.argsort(column, kind="stable")
    known, starts = np.unique(column[order], return_index=True)
    places, bounds = order.tolist(), [*starts.tolist(), len(keys)]
    return {k: places[a:b] for k, (a, b) in zip(known.tolist(), pairwise(bounds), strict=True)}


class Twins(NamedTuple):
    """Images that are listed more than once.

    Attributes:
        lacking: by place in `images`, the category ids of which its twins show more objects.
        sizes: places of those whose twins declare another size, so that one of them is wrong.
        groups: the places of every such image.
    """

    lacking: dict[int, set[Any]]
    sizes: frozenset[int]
    groups: list[list[int]]


def find_twins(
    paths: Sequence[str], images: Sequence[Row], annotations: Sequence[Row], joined: Joined
) -> Twins:
    """Images whose paths are one and the same path.

    Args:
        paths: where every image lies; empty for one that has no path.
        images: their records.
        annotations: of the whole file.
        joined: which of them belongs to which image.
    """
    by_path: dict[str, list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        by_path[path].append(index)
    by_path.pop("", None)
    groups = [group for group in by_path.values() if len(group) > 1]
    lacking: dict[int, set[Any]] = {}
    sizes: set[int] = set()
    for group in groups:
        shown = [_boxes(joined, annotations, as_id(images[index].get("id"))) for index in group]
        lacking.update(zip(group, shown_elsewhere(shown), strict=True))
        declared = {_declared_size(images[index]) for index in group} - {None}
        sizes.update(group if len(declared) > 1 else ())
    return Twins(lacking, frozenset(sizes), groups)


def _declared_size(image: Row) -> str | None:
    sides = number(image.get("width")), number(image.get("height"))
    return f"{sides[0]} x {sides[1]}" if all(sides) else None


def _boxes(joined: Joined, annotations: Sequence[Row], key: Key | None) -> Shown:
    """Boxes by category id, as the file writes them; those too that may be meant for the image."""
    found: Shown = defaultdict(Counter)
    if key is None:
        return found
    for position in (*joined.mine.get(key, ()), *joined.meant.get(key, ())):
        row = annotations[position]
        shown = f"{row.get('bbox')} {bool(row.get('iscrowd'))}"
        found[as_id(row.get("category_id"))][shown] += 1
    return found


def image_name(row: Row, where: str) -> str:
    """The image's path as the file has it.

    LVIS has no `file_name`: it is the last two parts of `coco_url`, as train2017/x.jpg.

    Raises:
        DataError: neither is there.
    """
    url = row.get("coco_url")
    if row.get("file_name") is None and isinstance(url, str) and url.strip():
        parts = urlsplit(url).path.split("/")[-2:]
        row = {"file_name": "/".join(parts)}
    return str(require(row, "file_name", str, where))


def annotation_ids(values: Sequence[Any]) -> list[int]:
    """The id of every annotation: the file's where all are whole and no two are equal, else 1, 2...

    Ids that start at 0 are raised by one: COCO's matching takes a 0 for "unmatched".

    Args:
        values: the ids as they stand.
    """
    found = as_ids(values)
    ids = [key for key in found if isinstance(key, int)]
    if len(ids) < len(found) or len(set(ids)) < len(ids):
        return list(range(1, len(found) + 1))
    return [key + 1 for key in ids] if 0 in ids else ids
