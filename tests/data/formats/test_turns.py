"""Boxes that their rows say are turned: CVAT's are read as its XML is, others are refused."""

import json

import pytest

from boxrl.data.formats.coco import read_coco
from boxrl.data.formats.csv_tables import read_csv
from boxrl.data.formats.cvat import read_cvat
from boxrl.data.formats.hf import read_hf
from boxrl.data.formats.labelme import read_labelme
from boxrl.data.formats.reading import Rejected
from boxrl.data.formats.voc import read_voc
from boxrl.types import Sample
from tests.support.archives import boxes_of, write_image, write_json

UPRIGHT, TURNED = (120, 230, 520, 250), (310, 40, 330, 440)
SIDES = [120, 230, 400, 20]


@pytest.fixture
def images(tmp_path):
    write_image(tmp_path / "images/a.png", (640, 480))
    return tmp_path / "images"


def split(reading):
    """(boxes, reasons)."""
    rows = list(reading.rows)
    boxes = [box for row in rows if isinstance(row, Sample) for _, box in boxes_of(row)]
    return boxes, [row.reason for row in rows if isinstance(row, Rejected)]


def coco(tmp_path, images, **more):
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": SIDES, "area": 8000.0, "iscrowd": 0}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 640, "height": 480}],
        "annotations": [{**row, "segmentation": [], **more}],
        "categories": [{"id": 1, "name": "pen"}],
    }
    return split(read_coco(write_json(tmp_path / "coco.json", content), images))


def voc(tmp_path, images, *parts):
    corners = "<xmin>121</xmin><ymin>231</ymin><xmax>520</xmax><ymax>250</ymax>"
    item = f"<object><name>pen</name><bndbox>{corners}</bndbox>{''.join(parts)}</object>"
    size = "<size><width>640</width><height>480</height></size>"
    (tmp_path / "voc").mkdir(exist_ok=True)
    (tmp_path / "voc/a.xml").write_text(f"<annotation>{size}{item}</annotation>")
    return split(read_voc(tmp_path / "voc", images))


def rotation(value):
    pair = f"<name>rotation</name><value>{value}</value>"
    return f"<attributes><attribute>{pair}</attribute></attributes>"


@pytest.mark.parametrize("degrees", [0.0, 90.0, 30.0, 180.0, -90])
def test_cvat_s_turned_boxes_are_one_in_its_xml_in_coco_and_in_voc(tmp_path, images, degrees):
    corners = 'xtl="120" ytl="230" xbr="520" ybr="250"'
    box = f'<box label="pen" {corners} rotation="{degrees}"/>'
    item = f'<image id="0" name="a.png" width="640" height="480">{box}</image>'
    (tmp_path / "cvat.xml").write_text(f"<annotations>{item}</annotations>")
    expected, _ = split(read_cvat(tmp_path / "cvat.xml", images))
    attributes = {"occluded": False, "rotation": degrees}
    assert coco(tmp_path, images, attributes=attributes) == ([pytest.approx(expected[0])], [])
    assert voc(tmp_path, images, rotation(degrees)) == ([pytest.approx(expected[0])], [])
    if degrees == 90:
        assert expected == [pytest.approx(TURNED)]


def test_a_turned_box_keeps_the_area_that_its_file_tells(tmp_path, images):
    coco(tmp_path, images, attributes={"rotation": 30})
    (sample,) = read_coco(tmp_path / "coco.json", images).rows
    assert sample.meta["areas"] == [8000.0]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"attributes": ["red"]},
        {"attributes": {"rotation": 0.0}, "rotation": 0},
        {"attributes": {"rotation": "portrait"}, "angle": None, "theta": "front"},
        # drawn as the image shows it, so that the box is around it already
        {"attributes": {"rotation": 30},
         "segmentation": [[120, 240, 320, 230, 520, 240, 320, 250]]},
    ],
)  # fmt: skip
def test_what_says_no_turn_changes_nothing(tmp_path, images, more):
    assert coco(tmp_path, images, **more) == ([UPRIGHT], [])


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"rotation": 30}, "coco.json:1: annotations[0]: rotation 30 beside its box"),
        ({"angle": "-0.5"}, "angle -0.5 beside its box, and the format does not say"),
        ({"theta": 1.5}, "write the upright box around it, and no theta"),
        ({"attributes": {"rotation": 30},
          "segmentation": [[120, 230, 520, 230, 520, 250, 120, 250]]}, "attributes.rotation 30"),
        ({"attributes": {"rotation": 30}, "segmentation": [[1, 1, 5, 1, 5, 9]]}, "an outline that"),
        ({"attributes": {"rotation": 90}, "bbox": [0, 0, 600, 20]}, "leaves the image"),
    ],
)  # fmt: skip
def test_a_coco_box_whose_turn_cannot_be_told_is_refused(tmp_path, images, more, reason):
    boxes, (told,) = coco(tmp_path, images, **more)
    assert (boxes, reason in told, "\n" in told) == ([], True, False), told


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (["<angle>0.5</angle>"], "voc/a.xml:1: angle 0.5 beside its box"),
        ([rotation(30), "<bndbox><xmin>1</xmin></bndbox>"], "rotation 30 of 2 boxes"),
        ([rotation(90), "<rotation>90</rotation>"], "rotation 90 beside its box"),
    ],
)
def test_a_voc_box_whose_turn_cannot_be_told_is_refused(tmp_path, images, parts, reason):
    boxes, reasons = voc(tmp_path, images, *parts)
    assert (boxes, reason in reasons[0]) == ([], True), reasons


@pytest.mark.parametrize("angle", [0, 30])
def test_an_angle_beside_a_box_of_any_other_format_is_refused(tmp_path, images, angle):
    table = f"image,x,y,w,h,theta,label\na.png,120,230,400,20,{angle},pen\n"
    (tmp_path / "x.csv").write_text(table)
    objects = {"bbox": [SIDES], "category": ["pen"], "rotation": [angle]}
    (images / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "objects": objects}))
    shape = {"label": "pen", "shape_type": "rectangle", "points": [[120, 230], [520, 250]],
             "angle": angle}  # fmt: skip
    content = {"shapes": [shape], "imagePath": "a.png", "imageWidth": 640, "imageHeight": 480}
    labels = write_json(tmp_path / "labels/a.json", content)
    (images / "mirror").mkdir()
    mirror = {"file_name": "a.png", "bbox": SIDES, "answer": ["the pen"], "angle": angle}
    (images / "mirror/metadata.jsonl").write_text(json.dumps(mirror))
    readings = {
        "mirror/metadata.jsonl:1: angle 30": read_hf(images / "mirror", images, boxes="xywh"),
        "x.csv:2: theta 30": read_csv(tmp_path / "x.csv", images),
        "metadata.jsonl:1: rotation 30": read_hf(images / "metadata.jsonl", images),
        "a.json:1: angle 30": read_labelme(labels, images),
    }
    for reason, reading in readings.items():
        boxes, reasons = split(reading)
        if angle:
            assert (boxes, reason in reasons[0]) == ([], True), reasons
        else:
            assert (boxes, reasons) == ([UPRIGHT], [])
