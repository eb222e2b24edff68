"""Samples to COCO files: what samples hold alone, everything with the file they came from."""

import copy
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.data.formats.coco import read_coco
from boxrl.data.formats.coco_export import write_coco
from boxrl.errors import DataError
from boxrl.types import Object
from tests.data.formats.test_formats import ovdeval_file
from tests.support.archives import annotation, coco_document, write_json

GOLDEN = Path(__file__).parents[2] / "golden/coco/coco_val2014_100.json"


def read(path, mode="all", **options):
    return list(read_coco(path, path.parent / "images", mode=mode, **options).rows)


def exported(samples, like, out, changed=0):
    written = write_coco(out, samples, like)
    assert written.as_original == (written.annotations - changed if like else 0)
    return json.loads(out.read_text(encoding="utf-8"))


def rich_document():
    """What real files hold beside boxes: every kind of field that a sample has no place for."""
    document = coco_document()
    document["info"] = {"description": "COCO 2017", "year": 2017}
    document["licenses"] = [{"id": 3, "name": "CC BY", "url": "http://x"}]
    document["type"] = "instances"
    document["images"] = [
        {**row, "license": 3, "coco_url": f"http://x/{row['file_name']}", "neg_category_ids": [44]}
        for row in document["images"]
    ]
    del document["annotations"][4]["iscrowd"], document["annotations"][4]["area"]  # as LVIS
    document["annotations"] += [
        annotation(20, 2, 44, [150, -0.4, 50.7, 20], segmentation=[[1, 2, 3, 4, 5, 6]]),  # cut
        annotation(13, 1, 44, [3, 3, 9, 9], attributes={"occluded": True}, keypoints=[0] * 51),
    ]
    return document


@pytest.mark.parametrize("source", ["golden", "rich"])
def test_nothing_is_lost_from_coco_to_samples_to_coco_through_the_command_line(
    tmp_path, source, capsys
):
    path = GOLDEN
    if source == "rich":
        path = write_json(tmp_path / "instances.json", rich_document())
    samples, out = tmp_path / "samples.jsonl", tmp_path / "out.json"
    convert = ("--annotations", path, "--images", tmp_path, "--mode", "all", "--out", samples)
    export = ("data", "export", "coco", samples, "--like", path, "--out", out)
    for args in (("data", "convert", "coco", *convert), export):
        assert main([str(arg) for arg in args]) == 0
    document = json.loads(path.read_text())
    assert json.loads(out.read_text()) == document
    count = len(document["annotations"])
    assert f"{out}: {count} annotations, {count} as original\n" in capsys.readouterr().out


@pytest.mark.parametrize("source", ["golden", "rich"])
def test_samples_alone_hold_every_image_box_area_crowd_flag_id_and_name(tmp_path, source):
    document = json.loads(GOLDEN.read_text()) if source == "golden" else coco_document()
    path = write_json(tmp_path / "in.json", document)
    again = exported(read(path), None, tmp_path / "out.json")

    def known(key, fields):
        rows = [{name: row[name] for name in fields} for row in document[key]]
        return sorted(rows, key=lambda row: row["id"])

    def written(key):
        return sorted(again[key], key=lambda row: row["id"])

    assert written("images") == known("images", ("id", "file_name", "width", "height"))
    assert written("categories") == known("categories", ("id", "name"))
    fields = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
    assert written("annotations") == known("annotations", fields)


def test_what_was_changed_since_is_written_as_it_is_now_without_the_old_outline(tmp_path):
    path = write_json(tmp_path / "in.json", rich_document())
    first, *rest = read(path)
    moved = Object((11, 20, 110, 70), "dog")
    changed = replace(first, objects=(moved, *first.objects[1:]))
    again = exported([changed, *rest], path, tmp_path / "out.json", changed=1)
    rows = {row["id"]: row for row in again["annotations"]}
    assert rows[7] == {
        "id": 7, "image_id": 1, "category_id": 18, "bbox": [11, 20, 99, 50], "area": 2500,
        "iscrowd": 0,
    }  # fmt: skip
    assert [rows[key] for key in (3, 9)] == rich_document()["annotations"][1:3]


def test_cvat_s_turned_box_is_written_upright_for_those_who_do_not_know_its_turn(tmp_path):
    document = rich_document()
    document["annotations"][4]["attributes"] = {"occluded": False, "rotation": 90.0}
    path = write_json(tmp_path / "in.json", document)
    samples = read(path)
    again = exported(samples, path, tmp_path / "out.json", changed=1)
    assert again["annotations"][4]["bbox"] == [50.5, 59.5, 9, 10]
    assert again["annotations"][:4] == document["annotations"][:4]
    assert read(tmp_path / "out.json")[1].objects == samples[1].objects


def test_what_is_not_in_the_samples_is_not_brought_back_but_categories_are(tmp_path):
    path = write_json(tmp_path / "in.json", rich_document())
    again = exported(read(path)[1:2], path, tmp_path / "out.json")
    assert [row["id"] for row in again["images"]] == [2]
    assert [row["id"] for row in again["annotations"]] == [5, 20]
    assert again["categories"] == rich_document()["categories"]
    positive = exported(read(path, mode="positive"), path, tmp_path / "out.json")
    assert positive["annotations"] == rich_document()["annotations"]
    assert [row["id"] for row in positive["images"]] == [1, 2]  # the third had nothing to ask


def test_annotation_ids_from_zero_stay_raised_and_the_rest_comes_back(tmp_path):
    path = ovdeval_file(tmp_path)
    document = json.loads(path.read_text())
    (row,) = document["annotations"]
    expected = {**document, "annotations": [{**row, "id": 1}]}
    assert exported(read(path), path, tmp_path / "out.json") == expected


def test_federated_samples_stay_federated(tmp_path):
    document = rich_document()
    document["images"][0] |= {"neg_category_ids": [44], "not_exhaustive_category_ids": [18]}
    document["annotations"] = document["annotations"][:4]
    samples = read(write_json(tmp_path / "in.json", document))
    assert samples[0].labels == ("dog", "person", "bottle")
    again = exported(samples, None, tmp_path / "out.json")
    assert again["images"][0]["neg_category_ids"] == [44]
    assert again["images"][0]["not_exhaustive_category_ids"] == [18]
    assert set(read(tmp_path / "out.json")[0].labels) == set(samples[0].labels)


@pytest.mark.parametrize("like", [False, True])
def test_what_samples_leave_out_of_an_image_is_no_absence_in_the_file(tmp_path, like):
    """Eleven dogs of image 1 are too many for the subset, persons of image 2 are a crowd."""
    rows = [annotation(100 + n, 1, 18, [n, 5, 9, 9]) for n in range(11)]
    rows.append(annotation(200, 2, 1, [50, 50, 20, 20], iscrowd=1))
    rows += [annotation(3, 1, 1, [90, 90, 9, 9]), annotation(4, 2, 18, [90, 9, 9, 9])]
    path = write_json(tmp_path / "in.json", {**coco_document(), "annotations": rows})
    samples = read(path, mode="positive", subset=["pos_1"])
    write_coco(tmp_path / "out.json", samples, path if like else None)
    first, second = read(tmp_path / "out.json")
    bottle = ("bottle",) if like else ()  # a name that no sample asks for
    assert [first.labels, second.labels] == [("person", *bottle), ("dog", *bottle)]
    assert second.meta["unverified"] == ["person"]


def test_ids_that_repeat_lose_nothing(tmp_path):
    document = rich_document()
    for row in document["annotations"]:
        row["id"] = 7 if row["image_id"] == 1 else "a"
    path = write_json(tmp_path / "in.json", document)
    assert exported(read(path), path, tmp_path / "out.json") == document


def test_images_are_one_only_where_path_id_and_size_agree(tmp_path):
    first = read(write_json(tmp_path / "in.json", coco_document()))[0]
    others = [replace(first, id="x", width=700), replace(first, id="y", meta={"image_id": 9})]
    again = exported([first, *others, replace(first, id="z")], None, tmp_path / "out.json")
    assert [row["file_name"] for row in again["images"]] == ["a.jpg"] * 3
    assert [row["width"] for row in again["images"]] == [640, 700, 640]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda d: d["categories"][0].update(id=77), "category 'dog' has the id 77"),
        (lambda d: d["categories"][0].update(name="cat"), "category 'dog' has the id None"),
        (lambda d: d.update(images=[{**row, "id": 9} for row in d["images"]]), "no image"),
        (lambda d: d.update(annotations=5), "expected a list 'annotations'"),
    ],
)
def test_a_file_that_the_samples_do_not_come_from_is_refused(tmp_path, spoil, reason):
    samples = read(write_json(tmp_path / "in.json", coco_document()))
    other = copy.deepcopy(coco_document())
    spoil(other)
    path = write_json(tmp_path / "other.json", other)
    with pytest.raises(DataError, match=reason) as caught:
        write_coco(tmp_path / "out.json", samples, path)
    assert str(caught.value).startswith(str(path))
    assert not (tmp_path / "out.json").exists()


def test_like_is_for_coco_alone(tmp_path, capsys):
    samples, like = tmp_path / "x.jsonl", tmp_path / "o.json"
    samples.touch()
    like.touch()
    args = ("vlmr1", str(samples), "--like", str(like), "--out", str(tmp_path / "y.json"))
    assert main(["data", "export", *args]) == 2
    assert f"--like {like}: only the format coco" in capsys.readouterr().err


def test_random_decimals_survive_the_round_trip(tmp_path):
    rng = random.Random(0)
    rows = [
        annotation(n, 1, 18, [round(rng.uniform(0, 300), 2) for _ in range(4)])
        for n in range(1, 400)
    ]
    rows = [row for row in rows if min(row["bbox"][2:]) > 0 and sum(row["bbox"][1::2]) <= 480]
    source = write_json(tmp_path / "in.json", {**coco_document(), "annotations": rows})
    write_coco(tmp_path / "out.json", read(source))
    again = json.loads((tmp_path / "out.json").read_text())
    assert [row["bbox"] for row in again["annotations"]] == [row["bbox"] for row in rows]
