"""Archives of every reader of boxes with one instance deleted, damaged or flagged."""

from __future__ import annotations

import json
import math
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from boxrl.families import FAMILIES
from boxrl.types import Sample
from tests.support.archives import annotation, write_image, write_json

SIZE = (64, 48)
LABELS = ("dog", "cat", "red cup")
IMAGES = ("i0.png", "i1.png", "i2.png")
PLAIN = FAMILIES["plain"]


class Thing(NamedTuple):
    """An object as the archive shows it: place of its image, label, corners in whole pixels."""

    image: int
    label: str
    bbox: tuple[int, int, int, int]


def draw_things(rng: random.Random) -> list[Thing]:
    """One to nine objects, no two with equal boxes."""
    boxes: set[tuple[int, int, int, int]] = set()
    while len(boxes) < rng.randint(1, 9):
        x, y = rng.randrange(SIZE[0] - 4), rng.randrange(SIZE[1] - 4)
        boxes.add((x, y, rng.randint(x + 2, SIZE[0]), rng.randint(y + 2, SIZE[1])))
    return [Thing(rng.randrange(3), rng.choice(LABELS), box) for box in sorted(boxes)]


class Change(NamedTuple):
    """What happened to one object of a file.

    Attributes:
        kind: `gone` (the file does not show it any more), `damaged` or `flagged` (crowd,
            difficult, ignored).
        apply: changes the object's own record.
    """

    kind: str
    apply: Callable[[Any], Any]


def put(key: str, *values: Any) -> list[Change]:
    """Damage: the field holds one of these instead."""
    return [Change("damaged", lambda row, v=value: row | {key: v}) for value in values]


def without(*keys: str) -> list[Change]:
    return [
        Change("damaged", lambda row, k=key: {n: v for n, v in row.items() if n != k})
        for key in keys
    ]


NAN = math.nan
NO_BOX = (None, [], "x", [1, 2, 3], [NAN, 2, 3, 4], [5, 5, 0, 4], [5, 5, -3, 4], [60, 40, 50, 50],
          [5, "y", 3, 4], {"a": 1}, [1, 2, True, 4], 7)  # fmt: skip
GONE = [Change("gone", lambda row: None)]
CROWD = [Change("flagged", lambda row: row | {"iscrowd": 1})]
AS_TEXT = Change("damaged", lambda row: row | {"image_id": str(row["image_id"])})
COCO = [
    *GONE * 4, *CROWD * 8,
    *put("bbox", *NO_BOX), *without("bbox", "category_id", "image_id"),
    *put("category_id", 99, None, "dog", [1], 1.5, {}), *put("area", -1, "much", [2]),
    *put("image_id", 99, None, "x", [1], {}, 1.5), *put("iscrowd", "maybe", 2, [1]),
    Change("damaged", lambda row: row | {"id": 1}),  # of another, which loses nothing
    *without("id", "area"), AS_TEXT,
]  # fmt: skip


def coco_document(things: list[Thing], hurt: Change, rng: random.Random) -> dict[str, Any]:
    rows = []
    for number, thing in enumerate(things, start=1):
        x1, y1, x2, y2 = thing.bbox
        rows.append(
            annotation(
                number, thing.image + 1, LABELS.index(thing.label) + 1, [x1, y1, x2 - x1, y2 - y1]
            )
        )
    changed = hurt.apply(rows.pop(0))
    rows += [changed] if changed is not None else []
    images = [
        {"id": n, "file_name": name, "width": SIZE[0], "height": SIZE[1]}
        for n, name in enumerate(IMAGES, start=1)
    ]
    rng.shuffle(rows)
    names = [{"id": n, "name": name} for n, name in enumerate(LABELS, start=1)]
    return {"images": images, "annotations": rows, "categories": names}


def list_twice(document: dict[str, Any], rng: random.Random) -> None:
    """One image under two ids and spellings, its annotations parted."""
    first = document["images"][0]
    document["images"].append(first | {"id": 9, "file_name": f"./{first['file_name']}"})
    for row in document["annotations"]:
        if row.get("image_id") == 1 and rng.random() < 0.5:
            row["image_id"] = 9


def give_one_id(document: dict[str, Any], rng: random.Random) -> None:
    document["images"][1]["id"] = 1
    for row in document["annotations"]:
        row["image_id"] = 1 if row.get("image_id") == 2 else row.get("image_id")


def add_root(document: dict[str, Any], rng: random.Random) -> None:
    for row in document["categories"]:
        row["supercategory"] = "pets"
    document["categories"].insert(0, {"id": 0, "name": "pets", "supercategory": "none"})


def add_region(document: dict[str, Any], rng: random.Random) -> None:
    """A region in which anything may be."""
    document["categories"].append({"id": 7, "name": "ignored regions"})
    document["annotations"].append(annotation(99, 1, 7, [1, 1, 9, 9]))


def write_floats(document: dict[str, Any], rng: random.Random) -> None:
    for row in document["images"]:
        row["id"] = float(row["id"])


TWISTS = [list_twice, give_one_id, add_root, add_region, write_floats]
"""What real files do to a whole document; what is shown stays as it is."""


def coco(folder: Path, things: list[Thing], hurt: Change, rng: random.Random) -> Path:
    document = coco_document(things, hurt, rng)
    if rng.random() < 0.5:
        rng.choice(TWISTS)(document, rng)
    return write_json(folder / "coco.json", document)


def lvis(folder: Path, things: list[Thing], hurt: Change, rng: random.Random) -> Path:
    document = coco_document(things, hurt, rng)
    for row in document["images"]:
        there = {LABELS.index(t.label) + 1 for t in things if t.image + 1 == row["id"]}
        row["neg_category_ids"] = sorted({1, 2} - there)
        row["not_exhaustive_category_ids"] = rng.sample(sorted(there), min(1, len(there)))
        row["coco_url"] = f"http://x.org/{row.pop('file_name')}"
    return write_json(folder / "lvis.json", document)


def ovdeval(folder: Path, things: list[Thing], hurt: Change, rng: random.Random) -> Path:
    document = coco_document(things, hurt, rng)
    for row in document["images"]:
        there = {t.label for t in things if t.image + 1 == row["id"]}
        row |= {"text": sorted(there), "neg_text": sorted(set(LABELS) - there)}
    return write_json(folder / rng.choice(["color.json", "logo.json"]), document)


D3 = [
    *GONE * 3, *[Change("flagged", lambda row: row | {"iscrowd": [1]})] * 5,
    *put("bbox", *NO_BOX), *put("sent_id", None, [99], ["x"], "x", [[1]], 7),
    *put("image_id", 99, None, "x", [1]), *put("area", None, [-1], "x"),
    *without("bbox", "sent_id", "image_id", "area"), AS_TEXT,
]  # fmt: skip


def d3(folder: Path, things: list[Thing], hurt: Change, rng: random.Random) -> Path:
    annotations = {}
    for number, thing in enumerate(things):
        x1, y1, x2, y2 = thing.bbox
        annotations[number] = {
            "sent_id": [LABELS.index(thing.label) + 1], "image_id": thing.image + 1,
            "iscrowd": [0], "area": [9.0], "bbox": [[x1, y1, x2 - x1, y2 - y1]],
        }  # fmt: skip
    changed = hurt.apply(annotations.pop(0))
    annotations |= {0: changed} if changed is not None else {}
    tables = {
        "annotations": annotations,
        "sentences": {n: {"raw_sent": name} for n, name in enumerate(LABELS, start=1)},
        "images": {
            n: {"file_name": name, "width": SIZE[0], "height": SIZE[1], "group_id": [5]}
            for n, name in enumerate(IMAGES, start=1)
        },
        "groups": {5: {"inner_sent_id": [1, 2, 3]}},
    }
    for name, table in tables.items():
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(table))
    return folder


def line_change(kind: str, change: Callable[[str], str]) -> Change:
    return Change(kind, change)


YOLO = [
    *GONE * 2,
    *[
        line_change("damaged", lambda line, k=key, v=value: " ".join(
            v if n == k else word for n, word in enumerate(line.split())
        ))
        for key, values in enumerate([("99", "dog", "0.5", "-1"), *[("nan", "x", "2", "-3")] * 4])
        for value in values
    ],
    line_change("damaged", lambda line: line.rpartition(" ")[0]),
    line_change("damaged", lambda line: line + " 0.9"),
    line_change("damaged", lambda line: " ".join([*line.split()[:3], "0", "0.2"])),
    line_change("damaged", lambda line: line.replace(".", ",")),
    line_change("damaged", lambda line: "\udcff" + line),
]  # fmt: skip


def yolo(folder: Path, things: list[Thing], hurt: Change, rng: random.Random) -> Path:
    lines: dict[int, list[str]] = {0: [], 1: [], 2: []}
    for number, thing in enumerate(things):
        x1, y1, x2, y2 = thing.bbox
        shares = ((x1 + x2) / 2 / SIZE[0], (y1 + y2) / 2 / SIZE[1], (x2 - x1) / SIZE[0],
                  (y2 - y1) / SIZE[1])  # fmt: skip
        line = " ".join([str(LABELS.index(thing.label)), *(f"{value:.6f}" for value in shares)])
        line = line if number else hurt.apply(line)
        lines[thing.image] += [line] if line is not None else []
    (folder / "labels").mkdir(exist_ok=True)
    for name, rows in zip(IMAGES, lines.values(), strict=True):
        content = "".join(f"{row}\n" for row in rows)
        (folder / "labels" / name.replace(".png", ".txt")).write_bytes(
            content.encode(errors="surrogateescape")
        )
    (folder / "data.yaml").write_text(f"names: {json.dumps(LABELS)}\n")
    return folder / "labels"


def tag(name: str, *values: str) -> list[Change]:
    """Damage: the element holds one of these instead, or is not there."""

    def change(xml: str, value: str | None) -> str:
        head, _, rest = xml.partition(f"<{name}>")
        _, _, tail = rest.partition(f"</{name}>")
        return head + (f"<{name}>{value}</{name}>" if value is not None else "") + tail

    return [Change("damaged", lambda xml, v=value: change(xml, v)) for value in (*values, None)]


VOC = [
    *GONE * 2,
    *[Change("flagged", lambda xml: xml.replace("<difficult>0", "<difficult>1"))] * 6,
    *tag("name", "", " "), *tag("xmin", "", "x", "nan", "900"), *tag("ymax", "", "-5", "1e9"),
    *tag("bndbox", "", "<xmin>1</xmin>"),
]  # fmt: skip


def voc(folder: Path, things: list[Thing], hurt: Change, rng: random.Random) -> Path:
    found: dict[int, list[str]] = {0: [], 1: [], 2: []}
    for number, thing in enumerate(things):
        x1, y1, x2, y2 = thing.bbox
        item = (
            f"<object><name>{thing.label}</name><difficult>0</difficult><bndbox><xmin>{x1 + 1}"
            f"</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        )
        item = item if number else hurt.apply(item)
        found[thing.image] += [item] if item is not None else []
    (folder / "xml").mkdir(exist_ok=True)
    for name, rows in zip(IMAGES, found.values(), strict=True):
        (folder / "xml" / name.replace(".png", ".xml")).write_text(
            f"<annotation><filename>{name}</filename><size><width>{SIZE[0]}</width><height>"
            f"{SIZE[1]}</height></size>{''.join(rows)}</annotation>"
        )
    return folder / "xml"


ANSWER = [
    *GONE * 2, *put("bbox_2d", *NO_BOX[:-1]), *without("bbox_2d", "label"),
    *put("label", None, 7, ["dog"]),
]  # fmt: skip


def vlmr1(folder: Path, things: list[Thing], hurt: Change, rng: random.Random) -> Path:
    rows = []
    for place, name in enumerate(IMAGES):
        items: list[Any] = [
            {"bbox_2d": list(thing.bbox), "label": thing.label} if number else hurt.apply(
                {"bbox_2d": list(thing.bbox), "label": thing.label}
            )
            for number, thing in enumerate(things) if thing.image == place
        ]  # fmt: skip
        items = [item for item in items if item is not None]
        question = f"<image>detect the following objects: {list(LABELS)}. Output"
        answer = json.dumps(items) if items else "None"
        if rng.random() < 0.1 and items:
            answer = answer[: rng.randrange(1, len(answer))]
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        rows.append({"id": place, "image": name, "conversations": turns})
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


LISA = [
    *GONE * 2, *[Change("flagged", lambda shape: shape | {"label": "ignore_1"})] * 3,
    *put("points", None, [], [[1, 2], [3]], [["x", 2]], [[900, 2]], "x"),
    *put("label", None, 7, ""), *without("points", "label"),
]  # fmt: skip


def lisa(folder: Path, things: list[Thing], hurt: Change, rng: random.Random) -> Path:
    (folder / "masks").mkdir(exist_ok=True)
    for place, name in enumerate(IMAGES):
        shapes: list[Any] = []
        for number, thing in enumerate(things):
            if thing.image == place:
                x1, y1, x2, y2 = thing.bbox
                shape = {"label": "target", "points": [[x1, y1], [x2, y1], [x1, y2]]}
                shapes += [shape] if number else [hurt.apply(shape)]
        row = {"text": ["which?"], "shapes": [shape for shape in shapes if shape is not None]}
        write_json(folder / "masks" / name.replace(".png", ".json"), row)
        write_image((folder / name).with_suffix(".jpg"), SIZE)
    return folder / "masks"


def check_hull(sample: Sample, things: list[Thing], hurt: Change) -> None:
    """The box is around every target that the file shows, those of damaged records too."""
    here = [thing for thing in things if Path(IMAGES[thing.image]).stem == Path(sample.image).stem]
    boxes = [thing.bbox for thing in here if thing != things[0] or hurt.kind == "damaged"]
    xs, ys = ([box[axis::2] for box in boxes] for axis in (0, 1))
    hull = (min(map(min, xs)), min(map(min, ys)), max(map(max, xs)), max(map(max, ys)))
    assert sample.objects[0].bbox == hull


def refcoco(folder: Path, things: list[Thing], hurt: Change, rng: random.Random) -> Path:
    root = folder / "refcoco"
    write_json(root / "instances.json", coco_document(things, hurt, rng))
    refs = [
        {"ref_id": n, "ann_id": n, "split": "val",
         "sentences": [{"sent_id": n, "sent": " ".join(map(str, thing.bbox))}]}
        for n, thing in enumerate(things, start=1)
    ]  # fmt: skip
    (root / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    return folder


def check_ref(sample: Sample, things: list[Thing], hurt: Change) -> None:
    """An expression is asked for with the box that it was written for."""
    assert sample.question is not None
    assert sample.objects[0].bbox == tuple(map(int, sample.question.split()))
