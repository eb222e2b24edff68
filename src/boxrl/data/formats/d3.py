"""D3, the Described Object Detection data set, to samples.

Source: github.com/shikras/d-cube. Four pickles (sentences, annotations, images, groups), each a
dict by id; or, better, its COCO-form JSON files, whose categories are the sentences. Annotation is
complete: a sentence without a box in an image describes nothing in it. Sentences of absence
("person without a hat") are the ABS part, the others PRES.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

from boxrl.data.formats.coco import read_categories, read_pictures
from boxrl.data.formats.coco_dialects import open_coco
from boxrl.data.formats.coco_joins import as_id, join
from boxrl.data.formats.image_folder import ImageFolder
from boxrl.data.formats.pickles import read_pickle
from boxrl.data.formats.pictures import Picture, detection_sample, hide
from boxrl.data.formats.reading import (
    Reading,
    Rejected,
    placed_xywh,
    require,
    size_of,
)
from boxrl.data.formats.turns import untold_turn
from boxrl.data.samples import checked_area
from boxrl.data.subsets import Instance
from boxrl.errors import DataError, UsageError
from boxrl.types import Object, Sample

Setting = Literal["intra", "inter"]

TABLES = ("sentences", "annotations", "images", "groups")


class Sentences(NamedTuple):
    """The descriptions.

    Attributes:
        ids: sentence ids by text, in order of id.
        kinds: `presence` or `absence` by text, where the source tells.
        of_group: the texts asked for in a group of images.
    """

    ids: Mapping[str, Any]
    kinds: dict[str, str]
    of_group: dict[Any, list[str]]


def read_d3(
    annotations: Path,
    images: Path,
    *,
    setting: Setting = "intra",
    mode: Literal["all", "single_class"] = "all",
    negatives: int | None = None,
    seed: int = 0,
) -> Reading:
    """One sample per image, or one for each of its sentences.

    Args:
        annotations: folder of the four pickles, or one of the three JSON files.
        images: folder that `file_name` ("GROUP/NAME.jpg") starts from.
        setting: candidates are the sentences of the image's group (`intra`) or all (`inter`).
        mode: `all` asks for all of them in one sample, `single_class` for each in one of its own.
        negatives: None asks for every candidate, as the benchmark does; K asks for those that
            the image holds and for K others, drawn, which is the form of training data.
        seed: of that draw.

    Raises:
        DataError: files missing, damaged or of another form. A bad row is a `Rejected`.
        UsageError: `negatives` is below 0.
    """
    if negatives is not None and negatives < 0:
        raise UsageError(f"--negatives {negatives}; expected 0 or more")
    opened = _open_json if annotations.suffix == ".json" else _open_pickles
    found = ImageFolder(images)
    archive = opened(annotations, found)
    sentences = archive.sentences
    rng = random.Random(seed)

    def rows() -> Iterator[Sample | Rejected]:
        for picture in archive.pictures:
            if isinstance(picture, Rejected):
                yield picture
                continue
            asked = _asked(picture, sentences, setting, negatives, rng)
            for labels in [asked] if mode == "all" and asked else [[label] for label in asked]:
                kinds = [sentences.kinds[label] for label in labels if label in sentences.kinds]
                meta = {"setting": setting, "group": _groups(picture.row)}
                meta |= {"kinds": kinds} if kinds else {}
                kept, ids = picture.instances, sentences.ids
                key = picture.key if mode == "all" else f"{picture.key}/{labels[0]}"
                yield detection_sample(key, picture, labels, kept, ids, meta)

    return Reading(archive.images, rows(), archive.annotations, archive.notes, found)


def _asked(
    picture: Picture,
    sentences: Sentences,
    setting: Setting,
    negatives: int | None,
    rng: random.Random,
) -> list[str]:
    """Sentences in order of id, so that a sentence's place never tells whether it is there."""
    if setting == "inter":
        candidates = set(sentences.ids)
    else:
        groups = _groups(picture.row)
        candidates = {text for group in groups for text in sentences.of_group.get(group, ())}
    absent = picture.absent(sorted(candidates, key=sentences.ids.__getitem__))
    if negatives is not None:
        absent = rng.sample(absent, min(negatives, len(absent)))
    asked = (candidates & picture.present) - picture.unknown
    return sorted(asked.union(absent), key=sentences.ids.__getitem__)


def _groups(row: dict[str, Any]) -> list[Any]:
    """The image's groups: ids in the pickles, the folder's name in the JSON files."""
    groups = row.get("group_id")
    if groups is None:
        return [str(row.get("file_name")).rpartition("/")[0]]
    listed = groups if isinstance(groups, list) else [groups]
    return [group for group in listed if isinstance(group, (int, str))]


class _Archive(NamedTuple):
    """Opened files: how many images and annotations, the sentences, the images to be read."""

    images: int
    annotations: int
    sentences: Sentences
    pictures: Iterable[Picture | Rejected]
    notes: Sequence[str] = ()


def _open_json(path: Path, images: ImageFolder) -> _Archive:
    """A JSON file: a group's sentences are those with a box in any of its images."""
    document = open_coco(path)
    categories = read_categories(document)
    pictures, annotations = document.array("images"), document.array("annotations")
    groups = {as_id(row.get("id")): _groups(row) for row in pictures}
    of_group = defaultdict(set)
    for row in annotations:
        sentence = categories.label(row)
        for group in groups.get(as_id(row.get("image_id")), ()):
            of_group[group].update([sentence] if sentence else [])
    if len(set(map(type, categories.ids.values()))) > 1:
        raise DataError(f"{path}: category ids are numbers and texts; write all as one")
    ids = dict(sorted(categories.ids.items(), key=itemgetter(1)))
    known = {group: sorted(texts) for group, texts in of_group.items()}
    notes = list(categories.notes)
    rows = read_pictures(document, categories, images, notes)
    return _Archive(len(pictures), len(annotations), Sentences(ids, {}, known), rows, notes)


def _open_pickles(folder: Path, images: ImageFolder) -> _Archive:
    tables = {name: _read_table(folder / f"{name}.pkl") for name in TABLES}
    texts, ids, kinds = {}, {}, {}
    for key, row in sorted(tables["sentences"].items()):
        where = f"{folder / 'sentences.pkl'}: sentence {key}"
        text = require(row, "raw_sent", str, where)
        if text in ids:
            raise DataError(f"{where}: duplicate sentence {text!r}; each must lead back to one id")
        texts[key], ids[text] = text, key
        kinds[text] = "absence" if row.get("is_negative") else "presence"
    of_group = {
        key: [
            texts[sentence]
            for sentence in require(row, "inner_sent_id", list, f"{folder / 'groups.pkl'}: {key}")
            if as_id(sentence) in texts
        ]
        for key, row in tables["groups"].items()
    }
    rows = _pictures(folder, tables, texts, images)
    sentences = Sentences(ids, kinds, of_group)
    return _Archive(len(tables["images"]), len(tables["annotations"]), sentences, rows)


def _read_table(path: Path) -> dict[int, dict[str, Any]]:
    table = read_pickle(path)
    if isinstance(table, dict) and all(
        isinstance(key, int) and isinstance(row, dict) for key, row in table.items()
    ):
        return table
    raise DataError(f"{path}: expected a dict of dicts by id, got {type(table).__name__}")


def _pictures(
    folder: Path,
    tables: dict[str, dict[int, dict[str, Any]]],
    texts: dict[int, str],
    images: ImageFolder,
) -> Iterator[Picture | Rejected]:
    """As `coco.read_pictures`, by the same laws."""
    listed = [row | {"id": key} for key, row in sorted(tables["images"].items())]
    keys, annotations = list(tables["annotations"]), list(tables["annotations"].values())
    shift = int(0 in tables["annotations"])  # a 0 is COCO matching's "unmatched"
    joined = join([row["id"] for row in listed], [row.get("image_id") for row in annotations])

    found_anywhere = (_texts(annotations[position], texts) for position in joined.anywhere)
    anywhere = frozenset(text for text in chain.from_iterable(found_anywhere) if text)

    def at(position: int) -> str:
        return f"{folder / 'annotations.pkl'}: annotation {keys[position]}"

    def rejected(position: int, reason: str) -> Rejected:
        return Rejected(reason, {**annotations[position], "segmentation": None})

    for place, row in enumerate(listed):
        where, mine = f"{folder / 'images.pkl'}: image {row['id']}", joined.mine.get(row["id"], [])
        lost = list(joined.meant.get(row["id"], ()))
        try:
            picture = _picture(row, place, images, where)
            for position in mine:
                found, key, size_wh = annotations[position], keys[position] + shift, picture.size_wh
                try:
                    picture.instances += _instances(found, key, texts, size_wh, at(position))
                except DataError as error:
                    yield rejected(position, str(error))
                    lost.append(position)
            hide(picture, chain.from_iterable(_texts(annotations[n], texts) for n in lost), where)
        except DataError as error:
            yield Rejected(str(error), row, max(1, len(mine)))
        else:
            picture.hidden |= anywhere
            yield picture
    for position, why in joined.strays:
        yield rejected(position, f"{at(position)}: {why}")


def _picture(row: dict[str, Any], place: int, images: ImageFolder, where: str) -> Picture:
    size_wh = size_of(row, where)
    image = images.locate(require(row, "file_name", str, where), where)
    return Picture(str(row["id"]), image, size_wh, [], row["id"], row=row, place=place)


def _texts(row: dict[str, Any], texts: dict[int, str]) -> list[str | None]:
    """The sentences that describe an object; None for each that cannot be told."""
    numbers = row.get("sent_id")
    if not isinstance(numbers, list):
        return [None]
    keys = map(as_id, numbers)
    return [texts.get(key) if isinstance(key, int) else None for key in keys]


def _instances(
    row: dict[str, Any], key: int, texts: dict[int, str], size_wh: tuple[int, int], where: str
) -> list[Instance]:
    """One instance per sentence that describes the object."""
    if why := untold_turn(row):
        raise DataError(f"{where}: {why}")
    bbox = placed_xywh(_unwrapped(row.get("bbox")), size_wh, where)
    area = checked_area(_unwrapped(row.get("area")), where)
    crowd = _unwrapped(row.get("iscrowd", 0)) == 1
    numbers = require(row, "sent_id", list, where)
    unknown = [number for number in numbers if as_id(number) not in texts]
    if unknown:
        raise DataError(f"{where}: sent_id {unknown[0]!r:.80} is not among the sentences")
    return [Instance(Object(bbox, texts[number], crowd), key, area) for number in numbers]


def _unwrapped(value: Any) -> Any:
    """The content of the one-element containers that the pickles put around boxes and areas."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
