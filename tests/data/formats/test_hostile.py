"""Any value anywhere in an archive or a samples file: errors that are ours, never a traceback."""

import copy
import json
import pickle
import random

import pytest

from boxrl.data.formats import READERS
from boxrl.data.formats.reading import Rejected
from boxrl.data.lint import lint
from boxrl.data.samples import parse_sample, render_checked
from boxrl.errors import BoxrlError
from tests.data.formats import test_formats, test_vlmr1
from tests.support.archives import coco_document, write_image, write_json

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
}


@pytest.mark.usefixtures("pickles_read_here")
@pytest.mark.parametrize("archive", ARCHIVES)
def test_readers_reject_or_convert_and_what_they_convert_is_a_valid_sample(tmp_path, archive):
    build, options = ARCHIVES[archive]
    reader = READERS[archive.partition(",")[0]]
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "equestrian/006.jpg")
    rng = random.Random(archive)
    outcomes = {"samples": 0, "rejected": 0, "refused": 0}
    for _ in range(100):
        annotations = build(tmp_path, lambda content: spoiled(content, rng))
        try:
            for row in reader(annotations, tmp_path, **options).rows:
                if isinstance(row, Rejected):
                    outcomes["rejected"] += 1
                    assert "\n" not in row.reason
                else:
                    line = json.loads(render_checked(row, "row"))
                    assert parse_sample(line, "row").id == row.id
                    outcomes["samples"] += 1
        except BoxrlError as error:
            outcomes["refused"] += 1
            assert "\n" not in str(error)
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
