"""LVIS, ODVG, MDETR and Rex-Omni: what is known of an image beyond its boxes."""

import json

import pytest

from boxrl.data.formats.coco import read_coco
from boxrl.data.formats.coco_export import write_coco
from boxrl.data.formats.lvis import read_lvis
from boxrl.data.formats.odvg import read_odvg
from boxrl.data.formats.reading import Rejected
from boxrl.data.formats.rexomni import read_rexomni
from boxrl.errors import DataError
from boxrl.types import Sample
from tests.support.archives import (
    REX_OMNI,
    boxes_of,
    coco_document,
    lvis_document,
    write_image,
    write_json,
)


@pytest.fixture
def images(tmp_path):
    for name in ("a.png", "b.png", "coco/a.png", "val2017/a.png"):
        write_image(tmp_path / "images" / name, (64, 48))
    return tmp_path / "images"


def split(reading):
    rows = list(reading.rows)
    samples = [row for row in rows if isinstance(row, Sample)]
    return samples, [row.reason for row in rows if isinstance(row, Rejected)]


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("options", "labels"),
    [({}, ("dog",)), ({"mode": "all"}, ("dog", "cat")), ({"negatives": 5}, ("dog", "cat"))],
)
def test_lvis_asks_for_what_is_there_or_was_found_absent(tmp_path, images, options, labels):
    path = write_json(tmp_path / "lvis.json", lvis_document())
    (sample,), _ = split(read_lvis(path, images, **options))
    assert (sample.image, sample.labels) == ("val2017/a.png", labels)
    assert (sample.meta["verified_absent"], sample.meta["unexhausted"]) == (["cat"], ["dog"])


def test_a_coco_file_is_no_lvis_file(tmp_path, images):
    path = write_json(tmp_path / "x.json", coco_document())
    with pytest.raises(DataError, match=r"no image has neg_category_ids.*data convert coco"):
        read_lvis(path, images)


def detection(name, *labels, **more):
    found = [
        {"bbox": [1, 2, 30, 20], "label": n, "category": label} for n, label in enumerate(labels)
    ]
    return {"filename": name, "width": 64, "height": 48, "detection": {"instances": found}, **more}


def grounding(name, *regions):
    said = {"caption": "x", "regions": [{"phrase": p, "bbox": box} for p, box in regions]}
    return {"filename": name, "width": 64, "height": 48, "grounding": said}


def test_odvg_detection_rows_know_what_is_absent_and_captions_do_not(tmp_path, images):
    write_json(tmp_path / "label_map.json", {"0": "dog", "1": "cat", "2": "bird"})
    box, other = [1, 2, 30, 20], [5, 5, 40, 40]
    rows = (detection("a.png", "dog"), grounding("b.png", ("a dog", box), ("cars", [box, other])))
    (first, second), _ = split(read_odvg(lines(tmp_path / "x.jsonl", *rows), images, mode="all"))
    assert (first.id, first.labels) == ("a", ("dog", "cat", "bird"))
    assert (second.labels, len(second.objects)) == (("a dog", "cars"), 3)


def test_odvg_rows_without_a_label_map_know_of_nothing_absent(tmp_path, images):
    rows = (detection("a.png", "dog"), grounding("b.png", ("a red car", [1, 2, 30, 20])),
            detection("coco/a.png", "cat"), detection("val2017/a.png"))  # fmt: skip
    path = lines(tmp_path / "x.jsonl", *rows)
    samples, reasons = split(read_odvg(path, images, mode="all"))
    assert [(sample.labels, reasons) for sample in samples] == [
        (("dog",), []), (("a red car",), []), (("cat",), []),
    ]  # fmt: skip


def test_a_label_of_a_box_that_cannot_be_read_is_absent_nowhere_on_the_way_through_coco(
    tmp_path, images
):
    write_json(tmp_path / "label_map.json", {"0": "dog", "1": "cat", "2": "bird"})
    rows = detection("a.png", "dog", "cat"), detection("b.png", "dog")
    rows[0]["detection"]["instances"][0]["bbox"] = [1, 2, 900, 20]
    samples, _ = split(read_odvg(lines(tmp_path / "x.jsonl", *rows), images, mode="all"))
    assert [sample.meta["verified_absent"] for sample in samples] == [["bird"], ["bird", "cat"]]
    write_coco(tmp_path / "out.json", samples)
    first, second = split(read_coco(tmp_path / "out.json", images, mode="all"))[0]
    assert ("dog" in first.labels, "dog" in second.labels) == (False, True)


def test_odvg_labels_by_number_where_no_category_is_named(tmp_path, images):
    write_json(tmp_path / "label_map.json", {"0": "dog", "1": "cat"})
    row = detection("a.png", None, None)
    (sample,), _ = split(read_odvg(lines(tmp_path / "x.jsonl", row), images))
    assert [label for label, _ in boxes_of(sample)] == ["dog", "cat"]


def test_an_odvg_label_map_of_other_rows_is_refused(tmp_path, images):
    write_json(tmp_path / "label_map.json", {"0": "Dog", "1": "cat"})
    path = lines(tmp_path / "x.jsonl", detection("a.png", "dog"), detection("b.png", "person"))
    samples, (reason,) = split(read_odvg(path, images))
    assert [sample.id for sample in samples] == ["a"]
    assert "x.jsonl:2: label 0 is 'person' here and 'Dog' in the label map" in reason
    write_json(tmp_path / "o365_label_map.json", {"0": "person"})
    with pytest.raises(DataError, match=r"label_map\.json, o365_label_map\.json; expected one"):
        read_odvg(path, images)


def test_of_two_captions_of_one_image_a_phrase_is_asked_where_all_of_it_is_shown(tmp_path, images):
    box, other = [1, 2, 30, 20], [5, 5, 40, 40]
    rows = (grounding("a.png", ("man", box), ("a hat", box)), grounding("a.png", ("man", other)))
    samples, _ = split(read_odvg(lines(tmp_path / "x.jsonl", *rows), images))
    assert [(sample.id, sample.labels) for sample in samples] == [("a", ("a hat",))]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (grounding("a.png", ("a dog", [1, 2, 300, 20])), "leaves the image"),
        (grounding("a.png", (None, [1, 2, 30, 20])), "'label' must be of type str"),
        ({"filename": "a.png", "width": 64, "height": 48}, "expected detection or grounding"),
        (detection("a.png") | {"detection": {"instances": [3]}}, "expected an instance, got 3"),
        ({"file": "a.png"}, "'filename' must be of type str"),
    ],
)
def test_a_bad_odvg_row_is_told_by_its_line(tmp_path, images, row, reason):
    samples, reasons = split(read_odvg(lines(tmp_path / "x.jsonl", {"x": 1}, row), images))
    assert samples == []
    assert any("x.jsonl:2: " in told and reason in told for told in reasons)


def mdetr(**changed):
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 29, 18],
           "tokens_positive": [[2, 7], [8, 11]]}  # fmt: skip
    image = {"id": 1, "file_name": "a.png", "width": 64, "height": 48, "caption": "a brown dog"}
    categories = [{"id": 1, "name": "object"}]
    return {"images": [image], "annotations": [row | changed], "categories": categories}


def test_mdetr_s_labels_are_words_of_the_caption(tmp_path, images):
    (sample,), _ = split(read_odvg(write_json(tmp_path / "m.json", mdetr()), images, mode="all"))
    assert boxes_of(sample) == [("brown dog", (1, 2, 30, 20))]
    assert (sample.id, sample.labels) == ("1", ("brown dog",))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"tokens_positive": "x"}, "'label' must be of type str"),
        ({"tokens_positive": [[99, 120]]}, "which holds nothing"),
        ({"bbox": None}, "bbox None"),
        ({"image_id": 5}, "no image has the id 5"),
    ],
)
def test_a_bad_mdetr_box_is_told(tmp_path, images, changed, reason):
    _, reasons = split(read_odvg(write_json(tmp_path / "m.json", mdetr(**changed)), images))
    assert any(reason in told for told in reasons)


def test_rex_omni_asks_what_its_line_asks(tmp_path, images):
    gui = REX_OMNI | {"categories": ["save button"], "gt": [1, 2, 30, 20], "task_name": "gui"}
    absent = REX_OMNI | {"categories": ["dragon"], "gt": {}}
    path = lines(tmp_path / "COCO.jsonl", REX_OMNI, gui, absent)
    samples, reasons = split(read_rexomni(path, images))
    assert reasons == []
    assert [(sample.id, sample.labels, len(sample.objects)) for sample in samples] == [
        ("COCO/a", ("dog", "cat"), 2),
        ("COCO/a#2", ("save button",), 1),
        ("COCO/a#3", ("dragon",), 0),
    ]
    assert samples[0].meta["task_name"] == "common_object_detection"


def test_names_are_compared_as_rex_omni_compares_them(tmp_path, images):
    row = REX_OMNI | {"categories": ["Traffic light"], "gt": {"traffic_light": [[1, 2, 9, 9]]}}
    path = tmp_path / "COCO.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (sample,), _ = split(read_rexomni(path, images))
    assert boxes_of(sample) == [("Traffic light", (1, 2, 9, 9))]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"categories": []}, "expected different names"),
        ({"categories": ["dog", "dog"]}, "expected different names"),
        ({"gt": {"dog": [[1, 2, 300, 20]]}}, "leaves the image"),
        ({"gt": {"dog": [{"counts": "x"}]}}, "four finite numbers"),
        ({"gt": None}, "expected boxes by name"),
        ({"image_path": "gone.png"}, "no image"),
    ],
)
def test_a_bad_rex_omni_line_is_told(tmp_path, images, changed, reason):
    path = lines(tmp_path / "x.jsonl", REX_OMNI | changed)
    samples, (told,) = split(read_rexomni(path, images))
    assert samples == []
    assert reason in told
