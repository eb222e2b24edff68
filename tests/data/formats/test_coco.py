"""COCO to samples and back, subsets, modes, bad annotations."""

import json

import pytest

from boxrl.data.formats.coco import read_coco
from boxrl.data.formats.reading import Rejected
from boxrl.errors import DataError, UsageError
from tests.support.archives import (
    CATEGORIES,
    IMAGES,
    annotation,
    boxes_of,
    coco_document,
    rows_of,
    write_image,
    write_json,
)


@pytest.fixture
def coco(tmp_path):
    return write_json(tmp_path / "instances.json", coco_document())


def read(path, **options):
    return rows_of(read_coco(path, path.parent / "images", **options))


def document_with(annotations, images=None):
    document = coco_document()
    return {**document, "annotations": annotations, "images": images or document["images"]}


def test_boxes_become_corners_and_positive_mode_asks_for_what_is_there(coco):
    first, second = read(coco)  # the third image holds nothing to ask for
    assert (first.id, first.image, first.size_wh) == ("1", "a.jpg", (640, 480))
    assert first.labels == ("dog", "person")
    assert boxes_of(first) == [
        ("dog", (10, 20, 110, 70)),
        ("person", (0.5, 0.25, 30.6, 40.45)),
        ("dog", (600, 400, 640, 480)),
        ("person", (100, 100, 400, 300)),
    ]
    assert [item.iscrowd for item in first.objects] == [False, False, False, True]
    assert first.meta["annotation_ids"] == [7, 3, 9, 11]
    assert first.meta["category_ids"] == [18, 1]
    assert first.meta["areas"][0] == 2500
    assert boxes_of(second) == [("bottle", (50, 60, 60, 69))]


def test_all_mode_asks_for_every_name_of_every_image(coco):
    samples = read(coco, mode="all")
    assert [sample.labels for sample in samples] == [("dog", "person", "bottle")] * 3
    assert samples[2].objects == ()


def test_absent_labels_are_drawn_by_the_seed_beside_the_present_ones(coco):
    first, second, third = read(coco, negatives=1, seed=3)
    assert first.labels == ("dog", "person", "bottle")  # in the file's order: place tells nothing
    assert len(second.labels) == 2 and "bottle" in second.labels
    assert len(third.labels) == 1 and third.objects == ()
    assert len(read(coco, negatives=9)[1].labels) == 3
    assert read(coco, negatives=1, seed=3) == [first, second, third]
    assert {read(coco, negatives=1, seed=seed)[2].labels for seed in range(20)} == {
        ("dog",), ("person",), ("bottle",),
    }  # fmt: skip
    single = [sample for sample in read(coco, negatives=1, mode="single_class")]
    assert [sample.labels for sample in single if sample.image == "a.jpg"] == [
        ("dog",), ("person",), ("bottle",),
    ]  # fmt: skip


@pytest.mark.parametrize("options", [{"negatives": -1}, {"mode": "all"}, {"task": "region"}])
def test_negatives_where_none_can_be_drawn_are_a_wrong_call(coco, options):
    with pytest.raises(UsageError, match="--negatives"):
        read(coco, **{"negatives": 2, **options})


def test_one_box_mode_asks_for_labels_with_exactly_one_box(coco):
    first, second = read(coco, mode="one_box")
    assert first.labels == ("person",)
    assert [other["label"] for other in first.meta["others"]] == ["dog", "dog"]
    assert second.labels == ("bottle",)


def test_single_class_mode_asks_once_per_label(coco):
    samples = read(coco, mode="single_class")
    assert [sample.id for sample in samples] == ["1/dog", "1/person", "2/bottle"]
    assert [sample.labels for sample in samples] == [("dog",), ("person",), ("bottle",)]
    assert len(samples[0].objects) == 2


def crowded(tmp_path):
    """Image 1: 11 dogs and 1 person; image 2: 10 dogs; image 3: 1 tiny person."""
    rows = [annotation(n, 1, 18, [n, n, 5, 5]) for n in range(1, 12)]
    rows += [annotation(20, 1, 1, [100, 100, 300, 200])]
    rows += [annotation(n, 2, 18, [n, 5, 5, 5]) for n in range(21, 31)]
    rows += [annotation(40, 3, 1, [50, 50, 7, 7])]
    return write_json(tmp_path / "crowded.json", document_with(rows))


@pytest.mark.parametrize(
    ("subset", "kept"),
    [
        ((), {"1": 12, "2": 10, "3": 1}),
        (("pos_1",), {"1": 1, "2": 10, "3": 1}),  # eleven dogs are too many, ten are not
        (("pos_2",), {"3": 1}),
        (("pos_3",), {"2": 10, "3": 1}),
        (("small",), {"1": 11, "2": 10, "3": 1}),  # 49 of 10,000 px is under 0.5 %
        (("single_box",), {"3": 1}),
        (("pos_1", "single_box"), {"1": 1, "3": 1}),
        (("single_box", "pos_1"), {"3": 1}),  # the order counts
    ],
)
def test_subsets(tmp_path, subset, kept):
    samples = read(crowded(tmp_path), subset=subset)
    assert {sample.id: len(sample.objects) for sample in samples} == kept


def test_what_a_subset_drops_is_neither_asked_for_nor_forgotten(tmp_path):
    first = read(crowded(tmp_path), subset=("pos_1",), mode="all")[0]
    assert first.labels == ("person", "bottle")
    assert len(first.meta["others"]) == 11


def test_subsets_leave_crowd_regions_out(coco):
    (second,) = read(coco, subset=("pos_2",))
    assert second.id == "2"
    first = read(coco, subset=("pos_3",))[0]
    assert not any(item.iscrowd for item in first.objects)


def test_an_unknown_subset_is_refused(coco):
    with pytest.raises(UsageError, match="pos_1, pos_2"):
        read(coco, subset=("pos_4",))


def test_region_questions_have_one_right_option(coco):
    samples = read(coco, task="region", seed=3)
    assert [sample.id for sample in samples] == ["1/7", "1/3", "1/9", "2/5"]
    for sample in samples:
        assert sample.answer in sample.labels
        assert sample.objects[0].label == sample.answer
    assert set(samples[0].labels) == {"dog", "bottle"}  # the person in the image is no distractor
    assert read(coco, task="region", seed=3) == samples


def test_a_region_question_has_a_second_option_or_is_not_asked(tmp_path):
    document = document_with(
        [annotation(1, 1, 18, [1, 2, 3, 4]), annotation(2, 2, 18, [1, 2, 3, 4])]
    )
    document["categories"] = categories((18, "dog", ""), (44, "bottle", ""))
    document["annotations"] += [annotation(3, 2, 44, [1, 2, 3, 4])]
    reading = read_coco(write_json(tmp_path / "in.json", document), tmp_path, task="region")
    (sample,) = rows_of(reading)
    assert set(sample.labels) == {"dog", "bottle"}
    assert "1 image without a region question: no label is known to be absent" in reading.notes[-1]
    document["categories"].pop()
    document["annotations"].pop()
    with pytest.raises(UsageError, match="the only label is 'dog', and a question needs a second"):
        read_coco(write_json(tmp_path / "in.json", document), tmp_path, task="region")


@pytest.mark.parametrize(
    ("bbox", "reason"),
    [
        ([10, 20, 0, 50], "zero width"),
        ([10, 20, -5, 50], "flipped corners"),
        ([10, 20, 700, 50], "leaves the image of 640 x 480"),
        ([-3, 20, 10, 50], "leaves the image"),
        ([float("nan"), 20, 10, 50], "four finite numbers"),
        ([10, 20, float("inf"), 50], "four finite numbers"),
        ([10, 20, 50], "x, y, width, height"),
        ("10 20 5 5", "bbox"),
        (None, "bbox"),
        ([True, 0, 5, 5], "four numbers x, y, width, height"),
    ],
)
def test_a_bad_box_is_rejected_with_its_line_and_the_rest_is_read(tmp_path, bbox, reason):
    rows = [annotation(1, 1, 18, [1, 2, 3, 4]), annotation(2, 1, 1, [1, 1, 1, 1]) | {"bbox": bbox}]
    path = write_json(tmp_path / "bad.json", document_with(rows), indent=1)
    line = 1 + path.read_text().split('"id": 2,\n   "image_id"')[0].count("\n") - 1
    rejected, sample = read(path)
    assert isinstance(rejected, Rejected)
    assert rejected.reason.startswith(f"{path}:{line}: annotations[1]: ")
    assert reason in rejected.reason
    assert boxes_of(sample) == [("dog", (1, 2, 4, 6))]
    assert sample.meta["unverified"] == ["person"]


def test_a_box_that_leaves_the_image_by_rounding_is_cut(tmp_path):
    rows = [annotation(1, 1, 18, [600, -0.5, 40.9, 100])]
    (sample,) = read(write_json(tmp_path / "x.json", document_with(rows)))
    assert boxes_of(sample) == [("dog", (600, 0, 640, 99.5))]


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({"area": -1}, ("bottle",)),
        ({"bbox": None}, ("bottle",)),  # a dog more than could be listed
        ({"image_id": 99}, ("bottle",)),  # in any image, where the file does not have this one
        ({"image_id": "1"}, ("bottle",)),  # in the image 1, or it may be
        ({"image_id": [1]}, ("bottle",)),  # anywhere
        ({"category_id": 99}, None),  # anything
        ({"category_id": {}}, None),
    ],
)
def test_a_label_of_which_an_annotation_is_rejected_is_not_asked_for(tmp_path, change, asked):
    rows = [annotation(1, 1, 18, [1, 2, 3, 4]), annotation(2, 1, 18, [1, 2, 3, 4]) | change]
    path = write_json(tmp_path / "x.json", document_with(rows, IMAGES[:1]))
    categories = [row for row in CATEGORIES if row["name"] != "person"]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"categories": categories}))
    found = read(path, mode="all")
    samples = [row for row in found if not isinstance(row, Rejected)]
    assert len(found) - len(samples) == (1 if asked else 2)
    assert [sample.labels for sample in samples] == ([asked] if asked else [])
    if asked and "dog" not in asked:
        assert samples[0].meta["unverified"] == ["dog"]
        assert [other["label"] for other in samples[0].meta["others"]] == ["dog"]


def test_ids_of_annotations_that_are_missing_or_repeat_are_numbered(tmp_path):
    rows = [annotation(key, 1, 18, [n, n, 5, 5]) for n, key in enumerate([7, 7, "a", None], 1)]
    (sample,) = read(write_json(tmp_path / "x.json", document_with(rows)))
    assert sample.meta["annotation_ids"] == [1, 2, 3, 4]


def test_whole_floats_are_ids_as_pandas_writes_them(tmp_path):
    rows = [annotation(1.0, 1.0, 18.0, [1, 2, 3, 4])]
    images = [IMAGES[0] | {"id": 1.0}]
    (sample,) = read(write_json(tmp_path / "x.json", document_with(rows, images)))
    assert (sample.id, sample.labels, sample.meta["annotation_ids"]) == ("1", ("dog",), [1])


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b.jpg", "C:\\x.jpg"])
def test_a_path_that_leaves_the_images_folder_is_rejected(tmp_path, name):
    images = [{"id": 1, "file_name": name, "width": 10, "height": 10}]
    rejected = read(write_json(tmp_path / "x.json", document_with([], images)))[0]
    assert "leaves the images folder" in rejected.reason


def test_a_link_out_of_the_images_folder_is_rejected(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").symlink_to("/etc/passwd")
    (tmp_path / "images/sub").symlink_to("/etc")
    images = [
        {"id": 1, "file_name": "a.jpg", "width": 10, "height": 10},
        {"id": 2, "file_name": "sub/passwd", "width": 10, "height": 10},
    ]
    found = read(write_json(tmp_path / "x.json", document_with([], images)))
    assert ["link out of" in row.reason for row in found] == [True, True]


def test_undeclared_sizes_are_read_from_headers(tmp_path):
    write_image(tmp_path / "images/a.jpg", (33, 44))
    document = document_with(
        [annotation(1, 1, 18, [1, 2, 3, 4])], [{"id": 1, "file_name": "a.jpg"}]
    )
    (sample,) = read(write_json(tmp_path / "x.json", document))
    assert sample.size_wh == (33, 44)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", ":1: not JSON"),
        (b'{"images": [],\n"annotations": [}', ":2: not JSON"),
        (b'{"images": [],\n"categories": [{"id": 1, "name": "\xff"}]}', ":2: not UTF-8"),
        (b'{"categories": [{"id": 1, "name": "\xb0\xb2"}]}', "such as GBK or CP1252: iconv -f ENC"),
        (b"\x1f\x8b\x08\x00", "a gzip file that unpacks to too much, is cut"),
        (b"PK\x03\x04", "a zip archive; unpack it first: unzip x.json"),
        (b'{"categories": [\n{"id": 1, "name": " "}]}', ":2: categories[0]: 'name'"),
        (b'{"categories": [\n{"id": 1, "name": "\\ud800"}]}', "unpaired surrogate"),
        (b"[1, 2]", "expected a list 'categories'"),
        (b'{"images": [], "annotations": [], "categories": [3]}', "expected an object"),
        (b"[" * 100_000, "nested too deeply"),
        (
            b'{"images": [], "annotations": [],\n "categories": [{"id": 1, "name": "a"},\n'
            b'{"id": 2, "name": "a"}]}',
            ":3: duplicate category name 'a'",
        ),
    ],
)
def test_a_file_that_is_no_coco_file_is_refused_with_its_line(tmp_path, content, reason):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert reason in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_no_mistake(tmp_path, encoding):
    path = tmp_path / "x.json"
    path.write_bytes(json.dumps(coco_document()).encode(encoding))
    assert len(read(path)) == 2


def test_ids_that_start_at_zero_are_raised(tmp_path):
    rows = [annotation(0, 1, 18, [1, 2, 3, 4]), annotation(1, 1, 18, [5, 6, 7, 8])]
    (sample,) = read(write_json(tmp_path / "x.json", document_with(rows)))
    assert sample.meta["annotation_ids"] == [1, 2]


# --- what an image is, and what is known of it ------------------------------------------------


def test_images_that_share_an_id_are_all_rejected(tmp_path):
    images = [IMAGES[0], IMAGES[1] | {"id": 1}, IMAGES[2]]
    rows = [annotation(1, 1, 18, [1, 2, 3, 4]), annotation(2, 3, 18, [1, 2, 3, 4])]
    first, second, third = read(write_json(tmp_path / "x.json", document_with(rows, images)))
    assert ["duplicate id 1" in row.reason for row in (first, second)] == [True, True]
    assert third.image == "c.jpg"


def test_a_path_has_one_spelling(tmp_path):
    images = [IMAGES[0] | {"file_name": "./sub//./a.jpg"}]
    rows = [annotation(1, 1, 18, [1, 2, 3, 4])]
    (sample,) = read(write_json(tmp_path / "x.json", document_with(rows, images)))
    assert sample.image == "sub/a.jpg"


def test_of_an_image_listed_twice_each_label_is_asked_for_where_all_of_it_is_shown(tmp_path):
    images = [IMAGES[0], IMAGES[0] | {"id": 2, "file_name": "./a.jpg"}]
    same = [annotation(n, n, 44, [1, 2, 3, 4]) for n in (1, 2)]
    rows = [*same, annotation(3, 1, 18, [9, 9, 5, 5])]
    reading = read_coco(
        write_json(tmp_path / "x.json", document_with(rows, images)), tmp_path, mode="all"
    )
    samples = rows_of(reading)
    assert [s.labels for s in samples] == [("dog", "person", "bottle"), ("person", "bottle")]
    assert [s.meta.get("unverified") for s in samples] == [None, ["dog"]]
    assert "1 image listed more than once, the first 'a.jpg'" in reading.notes[0]


def test_one_path_with_two_sizes_is_rejected(tmp_path):
    images = [IMAGES[0], IMAGES[1] | {"file_name": "a.jpg"}]
    found = read(write_json(tmp_path / "x.json", document_with([], images)), mode="all")
    assert ["listed again with another size" in row.reason for row in found] == [True, True]


def test_two_rows_of_one_size_are_one_image_however_it_is_written(tmp_path):
    write_image(tmp_path / "images/a.jpg", (640, 480))
    sizes = [{"width": 640.0, "height": "480"}, {"width": None, "height": None}]
    images = [IMAGES[0], *(IMAGES[0] | {"id": n} | size for n, size in enumerate(sizes, start=2))]
    found = read(write_json(tmp_path / "x.json", document_with([], images)), mode="all")
    assert [sample.size_wh for sample in found] == [(640, 480)] * 3


@pytest.mark.parametrize(
    ("mode", "asked"),
    [
        ("all", [("Dog", "cat"), ("dog", "cat"), ("Dog", "dog", "cat")]),
        ("single_class", [("Dog",), ("dog",)]),
        ("one_box", [("Dog",), ("dog",)]),
    ],
)
def test_names_that_differ_in_case_are_one_label(tmp_path, mode, asked):
    names = [{"id": n, "name": name} for n, name in enumerate(("Dog", "dog", "cat"), start=1)]
    shown = [(1, 1), (2, 2), (3, 1), (3, 2)]
    boxes = [annotation(n, *pair, [1, 2, 3, 4]) for n, pair in enumerate(shown, start=1)]
    content = {**document_with(boxes), "categories": names}
    found = read(write_json(tmp_path / "x.json", content), mode=mode)
    assert [sample.labels for sample in found] == asked


def lvis_document():
    """An image as LVIS v1 has it: no file_name, dogs in part, no person, bottles unknown."""
    image = {
        "id": 139, "width": 640, "height": 480, "neg_category_ids": [1],
        "not_exhaustive_category_ids": [18],
        "coco_url": "http://images.cocodataset.org/val2017/000000000139.jpg",
    }  # fmt: skip
    other = {"id": 140, "width": 9, "height": 9, "coco_url": "http://x.org/train2017/1.jpg"}
    return document_with([annotation(1, 139, 18, [1, 2, 3, 4])], [image, other])


@pytest.mark.parametrize("options", [{"mode": "all"}, {"negatives": 3}])
def test_federated_images_ask_for_what_is_present_and_what_was_found_absent(tmp_path, options):
    (sample,) = read(write_json(tmp_path / "lvis.json", lvis_document()), **options)
    assert sample.image == "val2017/000000000139.jpg"
    assert sample.labels == ("dog", "person")
    assert sample.meta["verified_absent"] == ["person"]
    assert sample.meta["unexhausted"] == ["dog"]


def test_of_labels_annotated_in_part_none_is_known_to_have_one_box(tmp_path):
    document = lvis_document()
    document["annotations"].append(annotation(2, 139, 44, [1, 2, 3, 4]))
    (sample,) = read(write_json(tmp_path / "lvis.json", document), mode="one_box")
    assert sample.labels == ("bottle",)


def test_federated_images_draw_no_option_that_nobody_looked_for(tmp_path):
    (sample,) = read(write_json(tmp_path / "lvis.json", lvis_document()), task="region")
    assert set(sample.labels) == {"dog", "person"}


@pytest.mark.parametrize("key", ["neg_category_ids", "not_exhaustive_category_ids"])
def test_what_was_looked_for_must_be_readable(tmp_path, key):
    document = lvis_document()
    document["images"][0][key] = 5
    rejected = read(write_json(tmp_path / "lvis.json", document))[0]
    assert f"{key} must be a list of category ids" in rejected.reason


# --- categories that are none -----------------------------------------------------------------


def categories(*rows):
    return [{"id": n, "name": name, "supercategory": parent} for n, name, parent in rows]


@pytest.mark.parametrize(
    ("listed", "asked", "note"),
    [
        (((0, "pets-ab", "none"), (1, "dog", "pets-ab")), ("dog",), "'pets-ab' left out"),
        (((0, "dog", "none"), (1, "dog", "dog")), ("dog",), "'dog' left out: the parent"),
        (((1, "dog", "dog"), (2, "_background_", "")), ("dog",), "'_background_' left out"),
        (((1, "dog", ""), (2, "__ignore__", "")), ("dog",), "'__ignore__' left out"),
        (((1, "dog", "animal"), (2, "animal", "animal")), ("dog",), "'animal' left out"),
        (((1, "dog", "dog"), (2, "cat", "animal")), ("dog", "cat"), None),
    ],
)
def test_categories_that_name_no_object_are_left_out_and_told(tmp_path, listed, asked, note):
    rows = [annotation(1, 1, 1, [1, 2, 3, 4])]
    document = document_with(rows, IMAGES[:1]) | {"categories": categories(*listed)}
    reading = read_coco(write_json(tmp_path / "x.json", document), tmp_path, mode="all")
    (sample,) = rows_of(reading)
    assert sample.labels == asked
    assert [note in told for told in reading.notes] == ([True] if note else [])


def test_a_parent_that_is_annotated_is_asked_for(tmp_path):
    listed = categories((1, "animal", ""), (2, "dog", "animal"))
    rows = [annotation(1, 1, 1, [1, 2, 3, 4])]
    document = document_with(rows, IMAGES[:1]) | {"categories": listed}
    (sample,) = read(write_json(tmp_path / "x.json", document), mode="all")
    assert sample.labels == ("animal", "dog")


def test_an_ignored_region_is_a_crowd_of_what_is_asked_and_proves_nothing_absent(tmp_path):
    listed = categories((1, "dog", ""), (2, "cat", ""), (3, "ignored regions", ""))
    rows = [annotation(1, 1, 1, [1, 2, 3, 4]), annotation(2, 1, 3, [9, 9, 50, 50])]
    document = document_with(rows, IMAGES[:1]) | {"categories": listed}
    reading = read_coco(write_json(tmp_path / "x.json", document), tmp_path, mode="all")
    (sample,) = rows_of(reading)
    assert sample.labels == ("dog",)
    assert [(item.label, item.iscrowd) for item in sample.objects] == [
        ("dog", False), ("dog", True),
    ]  # fmt: skip
    assert reading.notes == ["category 'ignored regions' is not asked for: its regions are ignored"]


def test_a_label_that_is_only_a_crowd_is_not_asked_for(tmp_path):
    rows = [annotation(1, 1, 18, [1, 2, 30, 40], iscrowd=1), annotation(2, 2, 18, [1, 2, 30, 40])]
    path = write_json(tmp_path / "x.json", document_with(rows))
    first, second, _ = read(path, mode="all")
    assert (first.labels, first.is_negative) == (("person", "bottle"), True)
    assert [item.iscrowd for item in first.objects] == [True]  # what evaluation ignores
    assert first.meta["unverified"] == ["dog"]
    assert second.labels == ("dog", "person", "bottle")
    drawn = read(path, negatives=3)[0]
    assert (drawn.labels, drawn.objects) == (("person", "bottle"), ())
