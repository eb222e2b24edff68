"""YOLO label files of every odd kind, read as ultralytics itself reads them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from boxrl.data.formats.reading import Rejected
from boxrl.data.formats.yolo import read_yolo
from tests.support.archives import write_image

SIZE = (200, 100)
Lines = list[str]


def draw_boxes(rng: random.Random) -> Lines:
    lines = []
    for _ in range(rng.randint(1, 5)):
        w, h = rng.uniform(0.02, 0.6), rng.uniform(0.02, 0.6)
        x, y = rng.uniform(w / 2, 1 - w / 2), rng.uniform(h / 2, 1 - h / 2)
        form = rng.choice(("{:.6f}", "{:.4f}", "{!r}", "{:e}"))
        lines.append(" ".join([str(rng.randrange(3)), *map(form.format, (x, y, w, h))]))
    return lines


def draw_outline(rng: random.Random, corners: int) -> str:
    numbers = [f"{rng.random():.6f}" for _ in range(2 * corners)]
    return " ".join([str(rng.randrange(3)), *numbers])


def also(*lines: str) -> Callable[[Lines, random.Random], Lines]:
    return lambda found, rng: [*found, rng.choice(lines)]


KINDS: dict[str, Callable[[Lines, random.Random], Lines]] = {
    "boxes": lambda found, rng: found,
    "edge": also(*(f"0 {x} 0.5 0.2 0.2" for x in (1.005, 1.0, 0.0, -0.005, 1.02, -0.02))),
    "outlines": lambda found, rng: [draw_outline(rng, rng.randint(3, 8)) for _ in found],
    "rotated": lambda found, rng: [draw_outline(rng, 4)],
    "mixed": lambda found, rng: [*found, draw_outline(rng, 5)],
    "confidence": lambda found, rng: [f"{line} 0.9" for line in found],
    "pixels": lambda found, rng: ["0 100 50 20 20"],
    "class": also("3 0.5 0.5 0.1 0.1", "-1 0.5 0.5 0.1 0.1"),
    "whole float": also("1.0 0.5 0.5 0.1 0.1"),
    "not finite": also(*(f"0 {x} 0.5 0.1 0.1" for x in ("nan", "inf", "-inf"))),
    "text": also("dog 0.5 0.5 0.1 0.1"),
    "nothing": lambda found, rng: [],
    "twice": lambda found, rng: found + found,
    "tabs": lambda found, rng: [line.replace(" ", "\t") for line in found],
    "commas": lambda found, rng: [line.replace(" ", ",") for line in found],
    "blank lines": lambda found, rng: ["", *found, "  ", ""],
    "larger than the image": also("1 0.5 0.5 1.005 1.0"),
}


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_the_same_boxes_of_the_same_images(tmp_path: Path, ending: str) -> None:
    utils = pytest.importorskip("ultralytics.data.utils")
    write_image(tmp_path / "grey.jpg", SIZE)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    (tmp_path / "data.yaml").write_text("names: [a, b, c]\n")
    theirs = {}
    for number, kind in enumerate(list(KINDS) * 12):
        rng = random.Random(f"{number}{ending}")
        image = tmp_path / "images" / f"{number}.jpg"
        image.hardlink_to(tmp_path / "grey.jpg")
        labels = tmp_path / "labels" / f"{number}.txt"
        text = ending.join(KINDS[kind](draw_boxes(rng), rng))
        labels.write_bytes(rng.choice((b"", b"\xef\xbb\xbf")) + text.encode())
        found = utils.verify_image_label((str(image), str(labels), "", False, 3, 0, 0, False))
        theirs[str(number)] = None if found[0] is None else sorted(map(_in_pixels, found[1]))
    reading = read_yolo(tmp_path, tmp_path / "images", mode="all")
    ours = {
        row.id: sorted(["abc".index(item.label), *item.bbox] for item in row.objects)
        for row in reading.rows
        if not isinstance(row, Rejected)
    }
    assert ours.keys() == {key for key, boxes in theirs.items() if boxes is not None}
    for key, boxes in ours.items():
        assert boxes == [pytest.approx(box, abs=1e-3) for box in theirs[key] or ()]


def _in_pixels(row: list[float]) -> list[float]:
    label, x, y, w, h = map(float, row)
    corners = ((x - w / 2) * SIZE[0], (y - h / 2) * SIZE[1],
               (x + w / 2) * SIZE[0], (y + h / 2) * SIZE[1])  # fmt: skip
    limits = (*SIZE, *SIZE)
    return [label, *(min(max(v, 0), limit) for v, limit in zip(corners, limits, strict=True))]
