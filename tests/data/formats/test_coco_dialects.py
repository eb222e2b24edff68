"""COCO files as pandas, web tools, Roboflow and scripts write them."""

import gzip
import json

import pytest

from boxrl.data.formats.coco import read_coco
from boxrl.data.formats.coco_export import write_coco
from boxrl.data.formats.reading import Rejected
from boxrl.errors import DataError
from boxrl.types import Sample
from tests.support.archives import boxes_of, rows_of, write_image, write_json

CATEGORIES = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "bird"}]
IMAGE = {"id": 1, "file_name": "a.jpg", "width": 200, "height": 100}
ROW = {
    "id": 1,
    "image_id": 1,
    "category_id": 1,
    "bbox": [10, 10, 50, 40],
    "area": 2000,
    "iscrowd": 0,
}
BOX = (10, 10, 60, 50)


def document(*rows, images=(IMAGE,), categories=CATEGORIES):
    return {"images": list(images), "annotations": list(rows), "categories": list(categories)}


def read(tmp_path, content, **options):
    """(samples, rejections) of a document, or of the text of one."""
    path = tmp_path / "coco.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    rows = rows_of(read_coco(path, tmp_path, **options))
    return [row for row in rows if isinstance(row, Sample)], [
        row for row in rows if isinstance(row, Rejected)
    ]


def read_row(tmp_path, mode="positive", **changed):
    """The one box of an annotation with changes; "left out" takes a key out."""
    row = {key: value for key, value in (ROW | changed).items() if value != "left out"}
    ((sample,), rejected) = read(tmp_path, document(row), mode=mode)
    assert rejected == []
    return sample


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "a-1"},
        {"id": "left out"},
        {"image_id": 1.0, "category_id": 1.0},
        {"bbox": ["10", "10", "50.0", "40"], "area": "2000", "iscrowd": "0"},
        {"bbox": [10, 10, "50", "40"]},
        {"bbox": "[10, 10, 50, 40]"},
        {"bbox": [[10, 10, 50, 40]]},
        {"bbox": {"x": 10, "y": 10, "width": 50, "height": 40}},
        {"bbox": {"x": 10, "y": 10, "w": 50, "h": 40}},
        {"bbox": {"left": 10, "top": 10, "width": 50, "height": 40}},
        {"bbox": {"xmin": "10", "ymin": 10, "xmax": 60, "ymax": 50}},
        {"bbox": {"x1": 10, "y1": 10, "x2": 60, "y2": 50}},
        {"bbox": {"left": 10, "top": 10, "right": 60, "bottom": 50}},
        {"ignore": 0, "difficult": False},
        {"area": None},
        {"area": "left out"},
        {"iscrowd": None},
        {"iscrowd": "left out"},
        {"supercategory": None, "attributes": {"occluded": True}},
    ],
)
def test_a_row_in_other_clothes_is_the_same_box(tmp_path, changed):
    sample = read_row(tmp_path, **changed)
    assert boxes_of(sample) == [("dog", BOX)]
    assert sample.meta["areas"] == [2000]
    assert sample.meta["annotation_ids"] == [1]


@pytest.mark.parametrize(
    "flag", ["iscrowd", "ignore", "difficult", "is_crowd", "isCrowd", "IsGroupOf", "deleted"]
)
@pytest.mark.parametrize("value", [1, True, "1", 1.0])
def test_what_nobody_has_to_find_is_neither_target_nor_absent(tmp_path, flag, value):
    sample = read_row(tmp_path, mode="all", **{flag: value})
    assert "dog" not in sample.labels and sample.meta["unverified"] == ["dog"]
    assert [item.iscrowd for item in sample.objects] == [True]


@pytest.mark.parametrize("name", ["__background__", "bg", "N/A", "void", "Unlabeled", "_none_"])
def test_names_of_no_object_are_left_out_where_nothing_bears_them(tmp_path, name):
    categories = [{"id": 0, "name": name}, *CATEGORIES]
    path = write_json(tmp_path / "coco.json", document(ROW, categories=categories))
    reading = read_coco(path, tmp_path, mode="all")
    assert [row.labels for row in rows_of(reading)] == [("dog", "cat", "bird")]
    assert any(repr(name) in note for note in reading.told())


@pytest.mark.parametrize(
    "size", [{"width": 0, "height": 0}, {"width": -1, "height": -1}, {"width": 200}, {}]
)
def test_a_size_that_is_none_is_that_of_the_image(tmp_path, size):
    write_image(tmp_path / "a.jpg", (200, 100))
    image = {"id": 1, "file_name": "a.jpg", **size}
    ((sample,), rejected) = read(tmp_path, document(ROW, images=[image]))
    assert sample.size_wh == (200, 100) and not rejected


RUNS = {"size": [100, 200], "counts": [1010, *[40, 60] * 49, 40, 14050]}
OUTLINES = {
    "polygon": [[10, 10, 60, 10, 60, 50, 10, 50]],
    "two polygons": [[10, 10, 30, 10, 30, 50], [40, 10, 60, 10, 60, 20]],
    "a flat polygon": [10, 10, 60, 10, 60, 50],
    "runs": RUNS,
}


@pytest.mark.parametrize("bbox", [None, [], "left out"])
@pytest.mark.parametrize("outline", OUTLINES)
def test_an_outline_stands_for_a_box_that_is_not_there(tmp_path, outline, bbox):
    sample = read_row(tmp_path, bbox=bbox, segmentation=OUTLINES[outline])
    assert boxes_of(sample) == [("dog", BOX)]


def test_packed_runs_stand_for_a_box_too(tmp_path):
    from hotcoco import mask

    packed = mask.fr_py_objects(RUNS, 100, 200)
    counts = packed["counts"].decode()
    sample = read_row(tmp_path, bbox=None, segmentation={"size": [100, 200], "counts": counts})
    assert boxes_of(sample) == [("dog", BOX)]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"bbox": None}, "bbox None"),
        ({"bbox": "10 10 50 40"}, "'10 10 50 40'"),
        ({"bbox": ["a", 1, 2, 3]}, "bbox ['a', 1, 2, 3]"),
        ({"bbox": None, "segmentation": [["a"]]}, "no outline that gives one"),
        ({"bbox": None, "segmentation": [[9, 9, float("nan"), 9, 50, 60]]}, "no outline that"),
        ({"bbox": None, "segmentation": [[9, 9, 50, 9, 50, 60, 90]]}, "no outline that gives one"),
        ({"bbox": None, "segmentation": {"size": [100, 200], "counts": [1, 2]}}, "has 3 pixels"),
        ({"bbox": None, "segmentation": {"size": [7, 7], "counts": [1]}}, "an image of 7 x 7"),
        ({"bbox": [150, 40, 60, 60]}, "x, y, width, height are [150, 40, 60, 60]"),
        ({"bbox": [120, 10, 190, 40]}, "it reads as x1, y1, x2, y2"),
        ({"area": -1}, "area -1"),
        ({"area": "big"}, "area 'big'"),
        ({"iscrowd": 2}, "iscrowd must be"),
        ({"category_id": None}, "category_id None"),
    ],
)
def test_what_can_mean_nothing_is_rejected_as_it_stands(tmp_path, changed, reason):
    _, rejected = read(tmp_path, document(ROW | changed), mode="all")
    assert reason in rejected[0].reason
    assert {**rejected[0].row, "segmentation": 0} == ROW | changed | {"segmentation": 0}


def test_not_a_number_is_what_pandas_writes_for_nothing(tmp_path):
    text = json.dumps(document(ROW, ROW | {"id": 2, "category_id": 2})).replace("2000", "NaN")
    text = text.replace('"iscrowd": 0', '"iscrowd": NaN')
    ((sample,), rejected) = read(tmp_path, text, mode="all")
    assert (sample.labels, rejected) == (("dog", "cat", "bird"), [])
    assert sample.meta["areas"] == [2000, 2000]
    ((sample,), (told,)) = read(tmp_path, text.replace("[10,", "[NaN,", 1), mode="all")
    assert sample.labels == ("cat", "bird")
    assert "four finite numbers" in told.reason or "expected four" in told.reason


@pytest.mark.parametrize(
    "size",
    [{}, {"width": None, "height": None}, {"width": 200.0, "height": 100.0},
     {"width": "200", "height": "100"}],
)  # fmt: skip
def test_a_size_in_other_clothes_or_in_the_image_alone(tmp_path, size):
    write_image(tmp_path / "a.jpg", (200, 100))
    image = {"id": 1, "file_name": "a.jpg", **size}
    ((sample,), _) = read(tmp_path, document(ROW, images=[image]))
    assert sample.size_wh == (200, 100)


def test_category_ids_may_be_text_and_names_numbers(tmp_path):
    categories = [{"id": "1", "name": 7}, {"id": "x", "name": "cat"}]
    rows = [ROW | {"category_id": "1"}, ROW | {"id": 2, "category_id": "x"}]
    ((sample,), rejected) = read(tmp_path, document(*rows, categories=categories))
    assert (sample.labels, rejected) == (("7", "cat"), [])
    write_coco(tmp_path / "back.json", [sample])
    back = json.loads((tmp_path / "back.json").read_text())
    assert [row["id"] for row in back["categories"]] == [1, 2]


def test_packed_files_and_folders_of_one_file(tmp_path):
    text = json.dumps(document(ROW), indent=1).encode()
    (tmp_path / "coco.json.gz").write_bytes(gzip.compress(text))
    (tmp_path / "rf").mkdir()
    (tmp_path / "rf/_annotations.coco.json").write_bytes(text)
    (tmp_path / "rf/other.json").write_bytes(b"{}")
    (tmp_path / "one").mkdir()
    (tmp_path / "one/instances.json").write_bytes(text)
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/instances.json.gz").write_bytes(gzip.compress(text))
    for name in ("coco.json.gz", "rf", "one", "packed"):
        (sample,) = rows_of(read_coco(tmp_path / name, tmp_path))
        assert boxes_of(sample) == [("dog", BOX)]
    (tmp_path / "one/more.json").write_bytes(b"{}")
    with pytest.raises(DataError, match=r"a folder; expected one \.json file in it, found inst"):
        read_coco(tmp_path / "one", tmp_path)


def test_a_packed_file_does_not_unfold_to_more_than_annotations_do(tmp_path):
    path = tmp_path / "coco.json.gz"
    path.write_bytes(gzip.compress(b"[" + b" " * 80 * 2**20 + b"]"))
    with pytest.raises(DataError, match="unpacks to too much"):
        read_coco(path, tmp_path)


def test_lines_of_a_packed_file_are_those_of_its_content(tmp_path):
    content = json.dumps(document(ROW | {"area": -1}), indent=1).encode()
    (tmp_path / "x.json.gz").write_bytes(gzip.compress(content))
    (tmp_path / "x.json").write_bytes(content)
    packed, plain = (
        rows_of(read_coco(tmp_path / name, tmp_path, mode="all"))[0].reason.partition(": ")[0]
        for name in ("x.json.gz", "x.json")
    )
    assert packed == plain.replace("x.json", "x.json.gz")


def test_segments_of_a_panoptic_file_are_objects_where_they_are_things(tmp_path):
    segments = [
        {"id": 3937500, "category_id": 1, "iscrowd": 0, "bbox": [10, 10, 50, 40], "area": 1500},
        {"id": 7, "category_id": 3, "iscrowd": 0, "bbox": [0, 0, 200, 50], "area": 9000},
        {"id": 8, "category_id": 2, "iscrowd": 0, "bbox": [150, 10, 60, 40], "area": 9},
    ]
    categories = [
        {"id": 1, "name": "dog", "isthing": 1},
        {"id": 2, "name": "cat", "isthing": 1},
        {"id": 3, "name": "grass", "isthing": 0},
    ]
    row = {"image_id": 1, "file_name": "a.png", "segments_info": segments}
    path = write_json(tmp_path / "x.json", document(row, categories=categories), indent=1)
    reading = read_coco(path, tmp_path, mode="all")
    rejected, sample = rows_of(reading)
    assert boxes_of(sample) == [("dog", BOX)]
    assert (sample.labels, sample.meta["areas"]) == (("dog",), [1500])
    assert "x.json:11: annotations[1]" in rejected.reason
    assert "1 category of no things left out, such as 'grass'" in reading.told()


def test_boxes_that_are_corners_are_told_by_their_areas(tmp_path):
    corners = [[10, 10, 60, 50], [20, 30, 90, 60], [100, 20, 180, 90], [5, 5, 95, 45]]
    rows = [
        ROW | {"id": n, "bbox": box, "area": (box[2] - box[0]) * (box[3] - box[1])}
        for n, box in enumerate(corners)
    ]
    with pytest.raises(DataError, match="boxes read as x1, y1, x2, y2, as 4 of the first areas"):
        read(tmp_path, document(*rows))


CORNERS = [[10, 10, 60, 50], [20, 30, 90, 60], [100, 20, 180, 90], [5, 5, 95, 45]]


def outlined(box, outline, area):
    """An annotation whose polygon is a diamond in x1, y1, x2, y2; `area` may be of no box."""
    x1, y1, x2, y2 = outline
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    row = {key: value for key, value in ROW.items() if key != "area"}
    told = {} if area is None else {"area": area}
    return row | told | {"bbox": box, "segmentation": [[x, y1, x2, y + 0.4, x, y2, x1, y]]}


@pytest.mark.parametrize("area", [None, 777])
def test_boxes_that_are_corners_are_told_by_their_outlines(tmp_path, area):
    rows = [outlined(box, box, area) | {"id": n} for n, box in enumerate(CORNERS)]
    with pytest.raises(DataError, match="as x1, y1, x2, y2, as 4 of the first areas say, or their"):
        read(tmp_path, document(*rows))
    sides = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in CORNERS]
    pairs = zip(sides, CORNERS, strict=True)
    rows = [outlined(box, outline, area) | {"id": n} for n, (box, outline) in enumerate(pairs)]
    (sample,), rejected = read(tmp_path, document(*rows))
    assert [box for _, box in boxes_of(sample)] == [tuple(box) for box in CORNERS]
    assert rejected == []


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("mode", [0, 2, 4, "0", "BoxMode.XYXY_ABS"])
def test_boxes_in_another_of_detectron2_s_modes_are_refused(tmp_path, mode, plain):
    odd = ROW | {"id": 2, "bbox_mode": mode} | ({} if plain else {"rotation": "none"})
    text = json.dumps(document(ROW, odd), indent=1)
    with pytest.raises(DataError, match=r"coco\.json:\d+: bbox_mode .*; expected 1, detectron2's"):
        read(tmp_path, text)


@pytest.mark.parametrize("mode", [1, "1", "BoxMode.XYWH_ABS", None])
def test_boxes_in_detectron2_s_mode_of_coco_are_read(tmp_path, mode):
    (sample,), _ = read(tmp_path, document(ROW | {"bbox_mode": mode}))
    assert boxes_of(sample) == [("dog", BOX)]


@pytest.mark.parametrize(
    "bbox",
    [
        [0.1, 0.1, 0.5, 0.4],
        ["0.1", "0.1", "0.5", "0.4"],
        [0.6, 0.1, 0.4000001, 0.4],
        [0.9, 0, 0.4, 1],
    ],
)
def test_boxes_that_are_shares_of_the_image_are_told(tmp_path, bbox):
    with pytest.raises(DataError, match="no coordinate is more than 2"):
        read(tmp_path, document(ROW | {"bbox": bbox}, ROW | {"bbox": bbox}))


def test_boxes_of_nothing_are_no_shares(tmp_path):
    samples, (told,) = read(tmp_path, document(ROW | {"bbox": [0, 0, 0, 0]}), mode="all")
    assert samples[0].labels == ("cat", "bird")
    assert "zero width" in told.reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"images": [], "annotations": []}, "expected a list 'categories'"),
        (document() | {"annotations": None}, "expected a list 'annotations'"),
        (document(ROW | {"tokens_positive": [[0, 3]]}), "labels are words of captions"),
    ],
)
def test_files_of_another_kind(tmp_path, content, reason):
    with pytest.raises(DataError, match=reason):
        read(tmp_path, content)


def test_an_outline_s_area_that_is_that_of_corners_by_chance_tells_nothing(tmp_path):
    chance = ROW | {"id": 1, "bbox": [10, 10, 30, 40], "area": 600}
    other = ROW | {"id": 2, "bbox": [90, 30, 20, 30], "area": 300}
    assert len(read(tmp_path, document(chance, other))[0]) == 1
