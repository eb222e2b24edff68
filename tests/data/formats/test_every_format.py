"""Every format as its archive has it, through the command line, with exact counts."""

import json
import subprocess
import sys

import pytest

from boxrl.cli import main
from boxrl.data.formats import READERS
from boxrl.data.samples import read_samples
from tests.data.formats.test_formats import d3_pickles, ovdeval_file, reason_seg, refer_folder
from tests.data.formats.test_vlmr1 import ROWS
from tests.data.formats.test_voc import voc_xml
from tests.data.formats.test_yolo import yolo_folder
from tests.support.archives import (
    REX_OMNI,
    coco_document,
    golden_archive,
    lvis_document,
    write_image,
    write_json,
)


def coco(folder):
    return write_json(folder / "instances.json", coco_document()), folder


def refcoco(folder):
    return refer_folder(folder, "refcoco", "refs(unc).p"), folder


def refgta(folder):
    return refer_folder(folder, "refgta", "refs(utokyo).p", protocol=3), folder


def lisa(folder):
    reason_seg(folder)
    return folder, folder


def clevr(folder):
    write_image(folder / "images/x.png")
    row = {"image_path": "./images/x.png", "question": "How many?", "ground_truth": 4}
    (folder / "test.jsonl").write_text(json.dumps(row) + "\n")
    return folder / "test.jsonl", folder


def vlmr1(folder):
    write_image(folder / "equestrian/006.jpg")
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder / "train.jsonl", folder


def voc(folder):
    objects = [("dog", 0, (48, 240, 195, 371)), ("person", 1, (8, 12, 352, 498))]
    (folder / "2007_000027.xml").write_text(voc_xml("2007_000027.jpg", objects))
    return folder, folder


def lvis(folder):
    write_image(folder / "val2017/a.png")
    return write_json(folder / "lvis.json", lvis_document()), folder


def rexomni(folder):
    write_image(folder / "coco/a.png")
    (folder / "COCO.jsonl").write_text(json.dumps(REX_OMNI) + "\n")
    return folder / "COCO.jsonl", folder


# format, how it is built, options, (samples, boxes, crowd regions, negatives)
CASES = [
    ("coco", coco, (), (2, 4, 1, 0)),
    ("coco", coco, ("--mode", "all"), (3, 4, 1, 1)),
    ("coco", coco, ("--mode", "single_class"), (3, 4, 1, 0)),
    ("coco", coco, ("--mode", "one_box"), (2, 2, 1, 0)),
    ("coco", coco, ("--subset", "pos_2"), (1, 1, 0, 0)),
    ("coco", coco, ("--subset", "small,single_box"), (2, 2, 0, 0)),  # the person, the bottle
    ("coco", coco, ("--task", "region", "--seed", "1"), (4, 4, 0, 0)),
    ("coco", coco, ("--negatives", "1"), (3, 4, 1, 1)),
    ("ovdeval", lambda folder: (ovdeval_file(folder), folder), (), (2, 1, 0, 1)),
    (
        "ovdeval",
        lambda folder: (ovdeval_file(folder), folder),
        ("--mode", "positive"),
        (1, 1, 0, 0),
    ),
    ("d3", lambda folder: (d3_pickles(folder), folder), (), (2, 3, 0, 1)),
    ("d3", lambda folder: (d3_pickles(folder), folder), ("--setting", "inter"), (2, 3, 0, 1)),
    ("d3", lambda folder: (d3_pickles(folder), folder), ("--negatives", "0"), (1, 3, 0, 0)),
    ("refcoco", refcoco, ("--split", "testA"), (2, 2, 0, 0)),
    ("refcoco", refcoco, ("--split", "test"), (3, 3, 0, 0)),
    ("refgta", refgta, ("--split", "train"), (1, 1, 0, 0)),
    ("lisa", lisa, (), (2, 2, 0, 0)),
    ("clevr", clevr, (), (1, 0, 0, 0)),
    ("vlmr1", vlmr1, (), (6, 3, 0, 1)),
    ("yolo", yolo_folder, (), (1, 2, 0, 0)),
    ("yolo", yolo_folder, ("--mode", "all"), (2, 2, 0, 1)),
    ("voc", voc, (), (1, 1, 0, 0)),
    ("voc", voc, ("--mode", "all"), (1, 1, 1, 0)),
    ("yolo", yolo_folder, ("--negatives", "1"), (2, 2, 0, 1)),
    ("lvis", lvis, (), (1, 1, 0, 0)),
    ("lvis", lvis, ("--mode", "all"), (1, 1, 0, 0)),
    ("hf", golden_archive("hf_imagefolder", "."), (), (1, 2, 0, 0)),
    ("hf", golden_archive("hf_imagefolder", "."), ("--mode", "all"), (2, 2, 0, 1)),
    ("chat", golden_archive("ms_swift_v2", "rows.jsonl"), (), (4, 5, 0, 0)),
    ("chat", golden_archive("paligemma_jsonl", "annotations.jsonl"), (), (2, 3, 0, 1)),
    (
        "chat",
        golden_archive("llama_factory", "sharegpt.json"),
        ("--family", "qwen3-vl"),
        (2, 3, 0, 0),
    ),
    ("labelme", golden_archive("labelme", "."), (), (1, 5, 0, 0)),
    ("labelstudio", golden_archive("label_studio", "export.json"), (), (1, 4, 0, 0)),
    ("cvat", golden_archive("cvat_xml", "annotations.xml"), (), (1, 5, 0, 0)),
    ("cvat", golden_archive("cvat_xml", "."), ("--mode", "all"), (2, 5, 0, 1)),
    ("csv", golden_archive("csv_tf", "_annotations.csv"), (), (1, 2, 0, 0)),
    ("csv", golden_archive("openimages", "."), ("--mode", "all"), (1, 2, 1, 0)),
    ("odvg", golden_archive("odvg", "train.jsonl"), (), (2, 4, 0, 0)),
    ("odvg", golden_archive("mdetr", "final_mixed_train.json"), (), (1, 3, 0, 0)),
    ("rexomni", rexomni, (), (1, 2, 0, 0)),
    ("visdrone", golden_archive("visdrone", "."), (), (1, 2, 4, 0)),
]


def conversion(name, build, options, folder):
    """FOLDER/archive, built, and the call that converts it to FOLDER/out.jsonl."""
    (folder / "archive").mkdir()
    annotations, images = build(folder / "archive")
    places = ("--annotations", annotations, "--images", images, "--out", folder / "out.jsonl")
    return folder / "archive", ["data", "convert", name, *map(str, places), *options]


@pytest.mark.parametrize(("name", "build", "options", "counts"), CASES)
def test_a_format_is_converted_with_exact_counts(tmp_path, capsys, name, build, options, counts):
    _, call = conversion(name, build, options, tmp_path)
    assert main([*call, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert tuple(printed[key] for key in ("samples", "objects", "crowd", "negatives")) == counts
    assert printed["rejected"] == 0
    assert len(read_samples(tmp_path / "out.jsonl")) == counts[0]


def test_every_format_is_among_them():
    assert {name for name, *_ in CASES} == set(READERS)


PIPES = """
import json, os, resource, sys
from boxrl.cli import main
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
for name, files, call in json.load(sys.stdin):
    for file in files:
        os.rename(file, file + ".kept")
        for put in (os.mkfifo, lambda path: os.symlink("/dev/zero", path)):
            put(file)
            print(name, "status", main(call), flush=True)
            os.unlink(file)
        os.rename(file + ".kept", file)
"""
FIRST = {case[0]: case for case in CASES}


@pytest.fixture(scope="module")
def piped(tmp_path_factory):
    """Each format's files, and what is said where one after the other is a pipe or a device.

    In one process, with little memory, that a wait would never end.
    """
    given = []
    for name, case in FIRST.items():
        archive, call = conversion(*case[:3], tmp_path_factory.mktemp(name))
        named = call[call.index("--annotations") + 1]  # by the user; the others came packed
        found = (str(path) for path in sorted(archive.rglob("*")) if path.is_file())
        files = [path for path in found if path != named]
        given.append((name, files, [*call, "--on-error", "skip"]))
    done = subprocess.run(
        [sys.executable, "-c", PIPES], input=json.dumps(given), capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip
    return {name: files for name, files, _ in given}, done


@pytest.mark.parametrize("name", FIRST)
def test_pipes_and_devices_in_an_archive_are_not_read(name, piped):
    files, done = piped
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert sum(line.startswith(f"{name} status ") for line in lines) == 2 * len(files[name])
    assert "memory" not in done.stderr


def hf_folder(folder):
    objects = {"bbox": [[1, 2, 30, 40]], "categories": ["dog"]}
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "objects": objects}))


def visdrone_folder(folder):
    (folder / "a.txt").write_text("1,2,30,40,1,4,0,0\n")


def labelme_folder(folder):
    shape = {"label": "dog", "shape_type": "rectangle", "points": [[1, 2], [30, 40]]}
    write_json(folder / "a.json", {"shapes": [shape], "imagePath": "a.png"})


@pytest.mark.parametrize(
    ("name", "fill", "told"),
    [
        ("hf", hf_folder, "1 image in no row left out, such as 'b.png'"),
        ("visdrone", visdrone_folder, "1 image without a .txt file left out, such as 'b.png'"),
        ("labelme", labelme_folder, "1 image without a .json file left out, such as 'b.png'"),
    ],
)
def test_images_that_nobody_annotated_are_no_negatives_and_told(tmp_path, name, fill, told):
    fill(tmp_path)
    for image in ("a.png", "b.png"):
        write_image(tmp_path / image)
    reading = READERS[name](tmp_path, tmp_path, mode="all")
    assert [sample.image for sample in reading.rows] == ["a.png"]
    assert told in reading.told()
