"""Damaged archives of annotation tools and trainers; see damaged_archives.py."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.archives import write_json
from tests.support.damaged_archives import (
    GONE,
    IMAGES,
    LABELS,
    NO_BOX,
    SIZE,
    Change,
    Thing,
    put,
    without,
)


def by_image(things: list[Thing], hurt: Change, build: Callable[[Thing], Any]) -> list[list[Any]]:
    """What stands in each image, the first thing changed."""
    found: list[list[Any]] = [[], [], []]
    for number, thing in enumerate(things):
        item = build(thing) if number else hurt.apply(build(thing))
        found[thing.image] += [item] if item is not None else []
    return found


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


NO_LABEL = [*put("label", None, 7, "", " "), *without("label")]

LABELME = [
    *GONE * 2, *[Change("flagged", lambda row: row | {"flags": {"difficult": True}})] * 4,
    *put("points", None, [], "x", [[1, 2]], [[1, 2], [3]], [["x", 2], [3, 4]], [[1, 2], [900, 40]]),
    *without("points"), *NO_LABEL,
]  # fmt: skip


def labelme(folder: Path, things: list[Thing], hurt: Change, rng: random.Random) -> Path:
    (folder / "shapes").mkdir(exist_ok=True)

    def shape(thing: Thing) -> dict[str, Any]:
        x1, y1, x2, y2 = thing.bbox
        return {"label": thing.label, "points": [[x1, y1], [x2, y2]], "shape_type": "rectangle",
                "group_id": None}  # fmt: skip

    for name, shapes in zip(IMAGES, by_image(things, hurt, shape), strict=True):
        content = {"shapes": shapes, "imagePath": name, "imageWidth": SIZE[0],
                   "imageHeight": SIZE[1]}  # fmt: skip
        write_json(folder / "shapes" / name.replace(".png", ".json"), content)
    return folder / "shapes"


def in_value(*changes: Change) -> list[Change]:
    """Changes of what stands inside of `value`."""
    return [
        Change(c.kind, lambda row, c=c: row | {"value": c.apply(row["value"])}) for c in changes
    ]


STUDIO = [
    *GONE * 2, *put("value", None, {}, [], "x"), *without("value"),
    *in_value(
        *put("x", None, "x", 99, -5), *put("width", None, "x", 0, 200), *without("x", "height"),
        *put("rectanglelabels", None, [], ["", " "], [7], "x"), *without("rectanglelabels"),
    ),
]  # fmt: skip


def labelstudio(folder: Path, things: list[Thing], hurt: Change, rng: random.Random) -> Path:
    def result(thing: Thing) -> dict[str, Any]:
        x1, y1, x2, y2 = thing.bbox
        shares = {"x": x1 / SIZE[0], "y": y1 / SIZE[1], "width": (x2 - x1) / SIZE[0],
                  "height": (y2 - y1) / SIZE[1]}  # fmt: skip
        value = {key: 100 * share for key, share in shares.items()}
        return {"type": "rectanglelabels", "original_width": SIZE[0], "original_height": SIZE[1],
                "value": value | {"rectanglelabels": [thing.label]}}  # fmt: skip

    tasks = [
        {
            "id": n,
            "data": {"image": f"/data/upload/{IMAGES[n]}"},
            "annotations": [{"result": found}],
        }
        for n, found in enumerate(by_image(things, hurt, result))
    ]
    return write_json(folder / "export.json", tasks)


def attribute(name: str, *values: str) -> list[Change]:
    """Damage: the attribute holds one of these, or is not there."""

    def change(xml: str, value: str | None) -> str:
        head, _, rest = xml.partition(f' {name}="')
        return head + (f' {name}="{value}"' if value is not None else "") + rest.partition('"')[2]

    return [Change("damaged", lambda xml, v=value: change(xml, v)) for value in (*values, None)]


CVAT = [
    *GONE * 2, *attribute("xtl", "", "x", "nan", "900"), *attribute("ybr", "-5", "1e9", "0"),
    *attribute("label", "", " "), *attribute("rotation", "x"),
]  # fmt: skip


def cvat(folder: Path, things: list[Thing], hurt: Change, rng: random.Random) -> Path:
    def box(thing: Thing) -> str:
        x1, y1, x2, y2 = thing.bbox
        return (
            f'<box label="{thing.label}" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" rotation="0"/>'
        )

    images = "".join(
        f'<image name="{name}" width="{SIZE[0]}" height="{SIZE[1]}">{"".join(found)}</image>'
        for name, found in zip(IMAGES, by_image(things, hurt, box), strict=True)
    )
    labels = "".join(f"<label><name>{name}</name></label>" for name in LABELS)
    path = folder / "cvat.xml"
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    path.write_text(f"<annotations>{meta}{images}</annotations>")
    return path


TABLE = [
    *GONE * 2, *[Change("flagged", lambda row: row | {"iscrowd": 1})] * 4,
    *put("xmin", "", "x", "nan", -9, 900), *put("ymax", "", "x", "inf", 0),
    *put("class", "", " "), *put("filename", "", " "), *put("width", 7, "x"),
]  # fmt: skip


def csv(folder: Path, things: list[Thing], hurt: Change, rng: random.Random) -> Path:
    def row(thing: Thing) -> dict[str, Any]:
        box = dict(zip(("xmin", "ymin", "xmax", "ymax"), thing.bbox, strict=True))
        return {"filename": IMAGES[thing.image], "width": SIZE[0], "height": SIZE[1],
                "class": thing.label, **box, "iscrowd": 0}  # fmt: skip

    rows = [row for found in by_image(things, hurt, row) for row in found]
    rng.shuffle(rows)
    head = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax", "iscrowd")
    path = folder / "boxes.csv"
    text = "".join(",".join(str(row[name]) for name in head) + "\n" for row in rows)
    path.write_text(",".join(head) + "\n" + text)
    return path


INSTANCE = [*GONE * 2, *put("bbox", *NO_BOX), *without("bbox"), *put("label", 99, None, "x")]


def odvg(folder: Path, things: list[Thing], hurt: Change, rng: random.Random) -> Path:
    write_json(folder / "label_map.json", {str(n): name for n, name in enumerate(LABELS)})

    def instance(thing: Thing) -> dict[str, Any]:
        return {"bbox": list(thing.bbox), "label": LABELS.index(thing.label)}

    rows = [
        {"filename": name, "width": SIZE[0], "height": SIZE[1], "detection": {"instances": found}}
        for name, found in zip(IMAGES, by_image(things, hurt, instance), strict=True)
    ]
    return write_lines(folder / "odvg.jsonl", rows)


ENTRY = [
    *GONE * 2, *[Change("flagged", lambda row: row | {"iscrowd": 1})] * 4,
    *put("bbox", *NO_BOX), *without("bbox"), *NO_LABEL,
]  # fmt: skip


def hf(folder: Path, things: list[Thing], hurt: Change, rng: random.Random) -> Path:
    def entry(thing: Thing) -> dict[str, Any]:
        return {"bbox": list(thing.bbox), "label": thing.label}

    rows = [
        {"file_name": name, "objects": found}
        for name, found in zip(IMAGES, by_image(things, hurt, entry), strict=True)
    ]
    return write_lines(folder / "metadata.jsonl", rows)


REX = [
    *GONE * 2,
    *(Change("damaged", lambda box, v=value: v) for value in NO_BOX if value is not None),
]


def rexomni(folder: Path, things: list[Thing], hurt: Change, rng: random.Random) -> Path:
    rows = []
    for place, name in enumerate(IMAGES):
        truth: dict[str, list[Any]] = {}
        for number, thing in enumerate(things):
            if thing.image == place:
                box = list(thing.bbox) if number else hurt.apply(list(thing.bbox))
                truth.setdefault(thing.label, []).extend([box] if box is not None else [])
        rows.append({"image_path": name, "categories": list(LABELS), "gt": truth})
    return write_lines(folder / "COCO.jsonl", rows)


DRONE_LABELS = dict(zip(LABELS, ("pedestrian", "car", "bus"), strict=True))


def drone_field(place: int, value: str) -> Callable[[str], str]:
    def change(line: str) -> str:
        fields = line.split(",")
        return ",".join([*fields[:place], value, *fields[place + 1 :]])

    return change


DRONE = [
    *GONE * 2, *[Change("flagged", drone_field(4, "0"))] * 3,
    *(Change("damaged", drone_field(place, value))
      for place in range(6) for value in ("", "x", "-9", "900", "1.5")),
    Change("damaged", lambda line: line.rpartition(",")[0]),
]  # fmt: skip


def visdrone(folder: Path, things: list[Thing], hurt: Change, rng: random.Random) -> Path:
    (folder / "drone").mkdir(exist_ok=True)
    numbers = {"dog": 1, "cat": 4, "red cup": 9}

    def line(thing: Thing) -> str:
        x1, y1, x2, y2 = thing.bbox
        return f"{x1},{y1},{x2 - x1},{y2 - y1},1,{numbers[thing.label]},0,0"

    for name, found in zip(IMAGES, by_image(things, hurt, line), strict=True):
        (folder / "drone" / name.replace(".png", ".txt")).write_text("\n".join(found))
    return folder / "drone"
