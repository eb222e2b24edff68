"""Any value anywhere in an archive or a samples file: errors that are ours, never a traceback."""

import copy
import json
import pickle
import random
import re
from collections import Counter

import pytest

from boxrl.data.formats import READERS
from boxrl.data.formats.reading import Rejected
from boxrl.data.lint import lint
from boxrl.data.samples import parse_sample, render_checked
from boxrl.errors import BoxrlError
from tests.data.formats import test_formats, test_vlmr1
from tests.data.formats.test_voc import voc_xml
from tests.support.archives import (
    GOLDEN,
    REX_OMNI,
    coco_document,
    lvis_document,
    write_image,
    write_json,
)

HOSTILE = (
    None, True, False, 0, -1, 2**70, 1.5, float("nan"), float("inf"), "", "x", "../../etc/passwd",
    "/etc/passwd", "\x00", "\ud800", [], [1], [[1, 2], [3]], {}, {"a": 1}, [None] * 4, ["a"] * 4,
    [1e308, 1e308, 1e308, 1e308], [0, 0, float("nan"), 5], "0" * 5000,
)  # fmt: skip


def places(value, path=()):
    """Paths to every value inside a JSON-like value."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


def spoiled(content, rng):
    """The content with one value replaced, taken out or doubled."""
    content = copy.deepcopy(content)
    path = rng.choice([place for place in places(content) if place])
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    kind = rng.random()
    if kind < 0.7:
        parent[path[-1]] = copy.deepcopy(rng.choice(HOSTILE))
    elif kind < 0.85:
        del parent[path[-1]]
    elif isinstance(parent, list):
        parent.append(copy.deepcopy(parent[path[-1]]))
    return content


def coco(folder, spoil):
    return write_json(folder / "coco.json", spoil(coco_document()))


def ovdeval(folder, spoil):
    path = test_formats.ovdeval_file(folder)
    return write_json(path, spoil(json.loads(path.read_text())))


def d3(folder, spoil):
    test_formats.d3_pickles(folder)
    tables = {name: pickle.loads((folder / f"{name}.pkl").read_bytes()) for name in test_formats.D3}
    for name, table in spoil(tables).items():
        if name in test_formats.D3:
            (folder / f"{name}.pkl").write_bytes(pickle.dumps(table))
    return folder


def refcoco(folder, spoil):
    test_formats.refer_folder(folder, "refcoco", "refs(unc).p")
    instances = folder / "refcoco/instances.json"
    content = {"refs": test_formats.refs(), "instances": json.loads(instances.read_text())}
    content = spoil(content)
    write_json(instances, content.get("instances"))
    (folder / "refcoco/refs(unc).p").write_bytes(pickle.dumps(content.get("refs"), protocol=2))
    return folder


def lisa(folder, spoil):
    test_formats.reason_seg(folder)
    path = folder / "val/1.json"
    write_json(path, spoil(json.loads(path.read_text())))
    return folder


def clevr(folder, spoil):
    row = {"image_path": "./a.png", "question": "How many?", "ground_truth": 4}
    path = folder / "x.jsonl"
    path.write_text(json.dumps(spoil(row)) + "\n")
    return path


def vlmr1(folder, spoil):
    path = folder / "x.jsonl"
    path.write_text("".join(json.dumps(spoil(row)) + "\n" for row in test_vlmr1.ROWS))
    return path


def spoiled_text(text, rng):
    """The text with one word or number replaced, doubled or taken out."""
    found = list(re.finditer(r"[^\s<>,;:=]+|[<>,;:=\n]", text))
    word = rng.choice(found)
    other = str(rng.choice(HOSTILE)).encode("utf-8", "replace").decode()[:60]
    new = rng.choice(["", word[0] * 2, other, f'"{other}"', "&x;", "\x00"])
    return text[: word.start()] + new + text[word.end() :]


def lines(path, rows, spoil):
    path.write_text("".join(json.dumps(spoil(row)) + "\n" for row in rows))
    return path


def golden_rows(name, file):
    text = (GOLDEN / name / file).read_text()
    return json.loads(text) if file.endswith(".json") else [*map(json.loads, text.splitlines())]


def lvis(folder, spoil):
    return write_json(folder / "lvis.json", spoil(lvis_document()))


def hf(folder, spoil):
    rows = [
        {"file_name": "a.png", "objects": {"bbox": [[1, 2, 30, 20]], "categories": ["dog"]}},
        {"file_name": "a.png", "objects": [{"bbox": [1, 2, 60, 20], "label": 1, "area": 9}]},
    ]
    return lines(folder / "metadata.jsonl", rows, spoil)


def chat(name, file):
    rows = golden_rows(name, file)

    def build(folder, spoil):
        return lines(folder / "chat.jsonl", [row for row in rows if isinstance(row, dict)], spoil)

    return build


def labelme(folder, spoil):
    return write_json(folder / "a.json", spoil(golden_rows("labelme", "street.json")))


def labelstudio(folder, spoil):
    return write_json(folder / "a.json", spoil(golden_rows("label_studio", "export.json")))


def odvg(folder, spoil):
    return lines(folder / "a.jsonl", golden_rows("odvg", "train.jsonl"), spoil)


def mdetr(folder, spoil):
    return write_json(folder / "m.json", spoil(golden_rows("mdetr", "final_mixed_train.json")))


def rexomni(folder, spoil):
    return lines(folder / "COCO.jsonl", [REX_OMNI], spoil)


ARCHIVES = {
    "coco": (coco, {}),
    "coco, all": (coco, {"mode": "all", "subset": ("pos_1", "small")}),
    "coco, region": (coco, {"task": "region"}),
    "ovdeval": (ovdeval, {}),
    "d3": (d3, {"negatives": 1}),
    "refcoco": (refcoco, {"split": "testA"}),
    "lisa": (lisa, {}),
    "clevr": (clevr, {}),
    "vlmr1": (vlmr1, {}),
    "lvis": (lvis, {"mode": "all"}),
    "hf": (hf, {"boxes": "xyxy"}),
    "chat, objects": (chat("ms_swift_objects", "rows.jsonl"), {}),
    "chat, captions": (chat("ms_swift_v2", "rows.jsonl"), {}),
    "chat, turns": (chat("qwen_finetune", "rows.json"), {"family": "qwen3-vl"}),
    "chat, pairs": (chat("paligemma_jsonl", "annotations.jsonl"), {}),
    "labelme": (labelme, {}),
    "labelstudio": (labelstudio, {"mode": "all"}),
    "odvg": (odvg, {"mode": "all"}),
    "odvg, captions": (mdetr, {}),
    "rexomni": (rexomni, {}),
}

TEXTS = {
    "yolo": ("a.txt", "0 0.5 0.5 0.2 0.4\n1 0.1 0.1 0.3 0.1\n", {"mode": "all"}),
    "voc": ("a.xml", voc_xml("a.png", [("dog", 0, (1, 2, 30, 40))]), {"mode": "all"}),
    "cvat": ("a.xml", (GOLDEN / "cvat_xml/annotations.xml").read_text(), {"mode": "all"}),
    "csv": ("a.csv", (GOLDEN / "csv_tf/_annotations.csv").read_text(), {}),
    "visdrone": ("a.txt", (GOLDEN / "visdrone/annotations/street.txt").read_text(), {}),
}
"""Formats that are no JSON: name of a file, its content, options."""


@pytest.mark.usefixtures("pickles_read_here")
@pytest.mark.parametrize("count", [40, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("archive", ARCHIVES)
def test_readers_reject_or_convert_and_what_they_convert_is_a_valid_sample(
    tmp_path, archive, count
):
    build, options = ARCHIVES[archive]
    reader = READERS[archive.partition(",")[0]]
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "equestrian/006.jpg")
    for name in ("street.png", "coco/a.png", "val2017/a.png"):
        write_image(tmp_path / name, (640, 480))
    rng = random.Random(archive)
    outcomes = Counter()
    for _ in range(count):
        annotations = build(tmp_path, lambda content: spoiled(content, rng))
        outcomes += outcome(reader, annotations, tmp_path, options)
    assert outcomes["samples"] > 0
    assert outcomes["rejected"] + outcomes["refused"] > 0


def outcome(reader, annotations, images, options):
    """How many rows became samples, were rejected, or refused with their file; all in one line."""
    outcomes = Counter()
    try:
        reading = reader(annotations, images, **options)
        for row in reading.rows:
            if isinstance(row, Rejected):
                outcomes["rejected"] += 1
                assert "\n" not in row.reason
            else:
                line = json.loads(render_checked(row, "row"))
                assert parse_sample(line, "row").id == row.id
                outcomes["samples"] += 1
        assert all("\n" not in note for note in reading.told())
    except BoxrlError as error:
        outcomes["refused"] += 1
        assert "\n" not in str(error)
    return outcomes


@pytest.mark.parametrize("count", [60, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", TEXTS)
def test_readers_of_texts_reject_or_convert_whatever_stands_in_them(tmp_path, name, count):
    file, content, options = TEXTS[name]
    for image in ("a.png", "street.png", "empty.png", "sub/street.png"):
        write_image(tmp_path / "images" / image, (640, 480))
    (tmp_path / "data.yaml").write_text("names: [dog, cat]")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/street.txt").write_text(content)
    rng = random.Random(name)
    outcomes = Counter()
    for _ in range(count):
        path = tmp_path / "labels" / file
        path.write_text(spoiled_text(content, rng), "utf-8")
        annotations = path if name in ("cvat", "csv") else path.parent
        outcomes += outcome(READERS[name], annotations, tmp_path / "images", options)
    assert outcomes["samples"] > 0
    assert outcomes["rejected"] + outcomes["refused"] > 0


def test_lint_survives_any_row_and_what_it_mends_is_clean(tmp_path):
    good = {
        "id": "1", "image": "a.png", "width": 64, "height": 48, "task": "detection",
        "labels": ["cat", "dog"], "question": "what?", "answer": "x",
        "objects": [
            {"bbox": [1, 2, 30, 40], "label": "cat"},
            {"bbox": [1.5, 2, 9, 40], "label": "dog", "iscrowd": True},
        ],
        "meta": {"others": [{"bbox": [1, 2, 3, 4], "label": "bird"}], "areas": [1, 2]},
    }  # fmt: skip
    write_image(tmp_path / "a.png")
    rng = random.Random(0)
    rows = [spoiled(good, rng) for _ in range(1500)]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcome = lint(path, tmp_path, fixed=tmp_path / "new.jsonl")
    assert outcome.rows == 1500
    assert outcome.errors > 300
    again = lint(tmp_path / "new.jsonl", tmp_path)
    left = {defect.rule for defect in again.defects if defect.severity == "error"}
    assert left <= {"conflicting-negative"}  # across rows, for a person to decide
