"""What an image may hold beyond its targets is neither a target nor a proof of absence.

Archives of every format are written, one object in each is taken out, damaged or flagged, and
whatever the reader makes of it must not ask for a label with fewer boxes than the file shows.
"""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from boxrl.data.controls import apply_control
from boxrl.data.formats import READERS
from boxrl.data.formats.reading import Rejected
from boxrl.data.lint import lint
from boxrl.data.mixing import Source, mix
from boxrl.data.samples import parse_sample, read_samples, render_sample
from boxrl.data.stats import describe
from boxrl.errors import BoxrlError
from boxrl.parsing import parse
from boxrl.prompts import render_target, render_think
from boxrl.types import Asked, Object, Sample, Target, fold_label
from tests.support import damaged_tools as tools
from tests.support.archives import write_image
from tests.support.damaged_archives import (
    ANSWER,
    COCO,
    D3,
    IMAGES,
    LABELS,
    LISA,
    PLAIN,
    SIZE,
    VOC,
    YOLO,
    Change,
    Thing,
    check_hull,
    check_ref,
    coco,
    d3,
    draw_things,
    lisa,
    lvis,
    ovdeval,
    refcoco,
    vlmr1,
    voc,
    yolo,
)


class Format(NamedTuple):
    """How archives of a format are made, with which options they are read, what must hold."""

    reader: str
    write: Callable[[Path, list[Thing], Change, random.Random], Path]
    changes: list[Change]
    options: list[dict[str, Any]]
    check: Callable[[Sample, list[Thing], Change], None]


MODES: list[dict[str, Any]] = [
    {"mode": "all"}, {"mode": "all"}, {}, {"mode": "one_box"}, {"mode": "single_class"},
    {"negatives": 2}, {"mode": "all", "subset": ("pos_1",)}, {"subset": ("pos_2",)},
    {"subset": ("pos_3", "single_box"), "negatives": 1}, {"mode": "all", "subset": ("small",)},
]  # fmt: skip


def damaged_files(folder: Path, name: str, count: int, seed: int) -> Iterator[tuple[Any, ...]]:
    """(objects, what was done to the first, samples, the archive) of so many files."""
    form = FORMATS[name]
    for image in IMAGES:
        write_image(folder / image, SIZE)
    for number in range(count):
        rng = random.Random(f"{name}/{seed}/{number}")
        things = rng.sample(found := draw_things(rng), len(found))
        hurt = rng.choice(form.changes)
        path = form.write(folder, things, hurt, rng)
        options = copy.deepcopy(rng.choice(form.options))
        try:
            rows = list(READERS[form.reader](path, folder, **options).rows)
        except BoxrlError:
            rows = []
        yield things, hurt, [row for row in rows if not isinstance(row, Rejected)], options


def check_law(sample: Sample, things: list[Thing], hurt: Change) -> None:
    """No label is asked for with fewer boxes than the file shows."""
    here = [t for t in things if IMAGES[t.image] == sample.image]
    shown = Counter(t.label for t in here)
    if things[0] in here and hurt.kind != "damaged":
        shown[things[0].label] -= 1
    flagged = {things[0].label} if things[0] in here and hurt.kind == "flagged" else set()
    targets = Counter(item.label for item in sample.targets)
    for label in sample.labels:
        assert targets[label] >= shown[label], (label, sample, hurt)
        if label in flagged:
            assert targets[label], ("a crowd alone proves nothing", sample)
            assert label in {item.label for item in sample.ignored}
    for label in (sample.meta or {}).get("unverified", ()):
        assert label not in sample.labels


def check_drone(sample: Sample, things: list[Thing], hurt: Change) -> None:
    """The same, under VisDrone's own labels."""
    check_law(sample, [t._replace(label=tools.DRONE_LABELS[t.label]) for t in things], hurt)


def check_one_target(sample: Sample) -> None:
    """Thought, answer and target count the same boxes."""
    target = Target.from_sample(sample).detections
    counts = dict(part.split(" ", 1)[::-1] for part in render_think(sample).split(", ") if part)
    assert {k: int(v) for k, v in counts.items()} == {
        label: sum(fold_label(label) == fold_label(x) for x in target.labels)
        for label in sample.labels
    }
    asked = Asked.from_sample(sample)
    read = parse(render_target(sample, PLAIN), PLAIN, sample.size_wh, asked=asked)
    assert len(read.detections) == len(target)
    assert sample.is_negative <= (read.status == "empty")


def check_name(folder: Path, name: str, count: int, seed: int) -> Counter[str]:
    seen: Counter[str] = Counter()
    for things, hurt, samples, _ in damaged_files(folder, name, count, seed):
        seen["files"] += 1
        seen[hurt.kind] += 1
        for sample in samples:
            seen["samples"] += 1
            seen["negatives"] += sample.is_negative
            FORMATS[name].check(sample, things, hurt)
            check_one_target(sample)
    return seen


FORMATS = {
    "coco": Format("coco", coco, COCO, MODES, check_law),
    "lvis": Format("lvis", lvis, COCO, [{"mode": "all"}, {"negatives": 2}, {}], check_law),
    "ovdeval": Format("ovdeval", ovdeval, COCO, [{}, {"mode": "positive"}], check_law),
    "d3": Format("d3", d3, D3, [{}, {"setting": "inter"}, {"negatives": 1}], check_law),
    "d3 json": Format("d3", coco, COCO, [{"setting": "inter"}, {}, {"negatives": 1}], check_law),
    "yolo": Format("yolo", yolo, YOLO, MODES, check_law),
    "voc": Format("voc", voc, VOC, MODES, check_law),
    "vlmr1": Format("vlmr1", vlmr1, ANSWER, [{}], check_law),
    "lisa": Format("lisa", lisa, LISA, [{}], check_hull),
    "refcoco": Format("refcoco", refcoco, COCO, [{}], check_ref),
    "labelme": Format("labelme", tools.labelme, tools.LABELME, MODES, check_law),
    "labelstudio": Format("labelstudio", tools.labelstudio, tools.STUDIO, MODES, check_law),
    "cvat": Format("cvat", tools.cvat, tools.CVAT, MODES, check_law),
    "csv": Format("csv", tools.csv, tools.TABLE, MODES, check_law),
    "odvg": Format("odvg", tools.odvg, tools.INSTANCE, MODES, check_law),
    "hf": Format("hf", tools.hf, tools.ENTRY, [o | {"boxes": "xyxy"} for o in MODES], check_law),
    "rexomni": Format("rexomni", tools.rexomni, tools.REX, [{}], check_law),
    "chat": Format("chat", vlmr1, ANSWER, [{"family": "plain"}], check_law),
    "visdrone": Format("visdrone", tools.visdrone, tools.DRONE, MODES, check_drone),
}
"""RefGTA is read as RefCOCO; CLEVR has no boxes."""


@pytest.mark.usefixtures("pickles_read_here")
@pytest.mark.parametrize("name", FORMATS)
def test_no_label_is_asked_for_with_fewer_boxes_than_the_file_shows(tmp_path: Path, name: str):
    seen = check_name(tmp_path, name, 60, seed=0)
    assert seen["samples"] > 20
    assert seen["gone"] and seen["damaged"]


def test_every_reader_of_boxes_is_among_them():
    assert {form.reader for form in FORMATS.values()} == set(READERS) - {"refgta", "clevr"}


@pytest.mark.slow
@pytest.mark.usefixtures("pickles_read_here")
@pytest.mark.parametrize("name", FORMATS)
def test_nor_in_20_000_damaged_files(tmp_path: Path, name: str):
    seen = check_name(tmp_path, name, 21_000 // len(FORMATS), seed=1)
    assert seen["samples"] > 1000
    assert seen["gone"] and seen["damaged"]


def test_statistics_mixtures_and_controls_follow(tmp_path: Path):
    for things, hurt, samples, options in damaged_files(tmp_path, "coco", 60, seed=2):
        if not samples:
            continue
        for sample in mix([Source("a", samples)], [len(samples)], seed=0):
            check_law(sample, things, hurt)
        negatives = describe(samples)["negatives"]
        assert negatives == sum(not s.targets and not _doubtful(s) for s in samples)
        try:
            controlled = apply_control(samples, "absent_labels", 0)
        except BoxrlError:  # no label is known to be absent
            continue
        for sample in controlled:
            there = {t.label for t in things if IMAGES[t.image] == sample.image}
            if hurt.kind != "gone" and things[0].label in there:
                assert not set(sample.labels) & there, (sample, hurt, options)


def _doubtful(sample: Sample) -> bool:
    return any(item.label in sample.labels for item in sample.ignored)


BOXES = ([1, 2, 30, 40], [5, 5, 9, 9], [3, 4, 60, 47])


def test_mending_a_samples_file_asks_for_nothing_that_it_leaves_out(tmp_path: Path):
    for number in range(150):
        rng = random.Random(number)
        objects = [
            {"bbox": list(rng.choice(BOXES)), "label": rng.choice(LABELS)}
            for _ in range(rng.randint(1, 4))
        ]
        shown = Counter((item["label"]) for item in {json.dumps(o): o for o in objects}.values())
        hurt = rng.choice(objects)
        hurt |= rng.choice(
            [{"bbox": [5, 5, 5, 9]}, {"bbox": [70, 2, 90, 40]}, {"bbox": None}, {"iscrowd": True},
             {"bbox": [9, 9, 3, 3]}, {"bbox": [1, 2, 300, 40]}, {"label": 7}]
        )  # fmt: skip
        row = {
            "id": "1", "image": "a.png", "width": 64, "height": 48, "task": "detection",
            "labels": list(LABELS), "objects": objects,
        }  # fmt: skip
        path, fixed = tmp_path / f"{number}.jsonl", tmp_path / f"{number}.fixed.jsonl"
        path.write_text(json.dumps(row) + "\n")
        lint(path, fixed=fixed)
        if not fixed.read_text():
            continue
        (sample,) = read_samples(fixed)
        assert parse_sample(json.loads(render_sample(sample)), "row") == sample
        for label in sample.labels:
            flagged = hurt.get("iscrowd") and hurt["label"] == label
            count = sum(item.label == label for item in sample.targets)
            assert count >= shown[label] - bool(flagged), (row, sample)
            assert count or not flagged
        assert lint(fixed).errors == 0


def test_two_spellings_of_a_label_count_once():
    objects = (Object((0, 0, 5, 5), "car"), Object((9, 9, 20, 20), "Car"))
    sample = Sample("1", "a.png", 64, 48, "detection", ("Car", "bus"), objects)
    assert render_think(sample) == "2 Car, 0 bus"
    crowd = replace(sample, objects=(*objects, Object((0, 0, 9, 9), "Car", iscrowd=True)))
    assert render_think(crowd) == "2 Car, 0 bus"
