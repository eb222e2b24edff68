"""What readers of tools share: labels with blanks, objects of no image, flags, shares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from boxrl.data.formats import READERS
from boxrl.data.formats.reading import Rejected
from boxrl.errors import DataError
from boxrl.types import Sample
from tests.support.archives import boxes_of, rows_of, write_image

HEAD = "filename,class,xmin,ymin,xmax,ymax"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_image(tmp_path / "images/a.jpg", (200, 100))
    return tmp_path / "images"


def read(name: str, path: Path, images: Path, text: Any, **options: Any) -> list[Sample]:
    """Samples of a file, every label asked for that can be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    reader = READERS[name]
    asked = {"mode": "all"} if "mode" in (reader.__kwdefaults__ or {}) else {}
    place = path.parent if name == "voc" else path
    return [row for row in rows_of(reader(place, images, **asked, **options)) if is_sample(row)]


def is_sample(row: Sample | Rejected) -> bool:
    return isinstance(row, Sample)


def test_blanks_around_a_label_make_no_other_label(tmp_path: Path, images: Path) -> None:
    rows = "a.jpg,dog ,10,10,60,50\na.jpg, dog,70,10,90,50\na.jpg,cat ,10,10,900,50\n"
    (sample,) = read("csv", tmp_path / "x.csv", images, f"{HEAD}\n{rows}a.jpg,cat,1,1,9,9\n")
    assert sample.labels == ("dog",) and len(sample.objects) == 2
    assert sample.meta["unverified"] == ["cat"]


def test_blanks_around_the_names_of_a_data_set_do_not_part_them_from_their_boxes(
    tmp_path: Path, images: Path
) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("1 0.5 0.5 0.2 0.4\n")
    (sample,) = read("yolo", tmp_path / "data.yaml", images, "names: [dog, ' cat ']\n")
    assert sample.labels == ("dog", "cat")
    assert boxes_of(sample) == [("cat", (80, 30, 120, 70))]


def test_an_object_of_no_image_hides_its_own_label_alone(tmp_path: Path, images: Path) -> None:
    rows = "a.jpg,dog,10,10,60,50\n,cat,1,1,9,9\na.jpg,bird,1,1,9,9\n"
    path = tmp_path / "x.csv"
    (sample,) = read("csv", path, images, f"{HEAD}\n{rows}")
    assert sample.labels == ("bird", "dog")
    assert sample.meta["unverified"] == ["cat"]
    told = READERS["csv"](path, images).told()
    assert "'cat': asked for nowhere, because some belong to no image" in told


BOX = {"label": "dog", "shape_type": "rectangle", "points": [[10, 10], [60, 50]]}
CVAT = '<box label="dog" xtl="10" ytl="10" xbr="60" ybr="50">{}</box>'


def labelme(**more: Any) -> dict[str, Any]:
    return {"imagePath": "a.jpg", "shapes": [BOX | more]}


def cvat(name: str, value: str) -> str:
    inner = CVAT.format(f'<attribute name="{name}">{value}</attribute>')
    return f'<annotations><image id="0" name="a.jpg">{inner}</image></annotations>'


def hf(**more: Any) -> dict[str, Any]:
    return {"file_name": "a.jpg", "objects": {"bbox": [[10, 10, 50, 40]], "label": ["dog"], **more}}


def coco(**more: Any) -> dict[str, Any]:
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 40], "iscrowd": 0}
    image = {"id": 1, "file_name": "a.jpg", "width": 200, "height": 100}
    names = [{"id": 1, "name": "dog"}]
    return {"images": [image], "annotations": [row | more], "categories": names}


def voc(*parts: str) -> str:
    corners = "<xmin>11</xmin><ymin>11</ymin><xmax>60</xmax><ymax>50</ymax>"
    item = f"<object><name>dog</name><bndbox>{corners}</bndbox>{''.join(parts)}</object>"
    return f"<annotation><filename>a.jpg</filename>{item}</annotation>"


def attribute(name: str) -> str:
    pair = f"<name>{name}</name><value>True</value>"
    return f"<attributes><attribute>{pair}</attribute></attributes>"


def odvg(**more: Any) -> dict[str, Any]:
    item = {"bbox": [10, 10, 60, 50], "category": "dog", **more}
    return {"filename": "a.jpg", "detection": {"instances": [item]}}


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("labelme", "x/a.json", labelme(flags={"difficult": True})),
        ("labelme", "x/a.json", labelme(difficult=True)),
        ("cvat", "a.xml", cvat("difficult", "true")),
        ("cvat", "a.xml", cvat("is_crowd", "1")),
        ("csv", "a.csv", f"{HEAD},difficult\na.jpg,dog,10,10,60,50,1\n"),
        ("csv", "a.csv", f"{HEAD},IsGroupOf\na.jpg,dog,10,10,60,50,1\n"),
        ("hf", "metadata.jsonl", hf(difficult=[True])),
        ("csv", "a.csv", f"{HEAD},iscrowd,difficult\na.jpg,dog,10,10,60,50,0,1\n"),
        ("hf", "metadata.jsonl", hf(is_crowd=[1])),
        ("hf", "metadata.jsonl", hf(attributes=[{"ignore": True}])),
        ("coco", "coco.json", coco(attributes={"occluded": False, "difficult": True})),
        ("coco", "coco.json", coco(attributes={"is_group_of": True})),
        ("coco", "coco.json", coco(is_group_of=1)),
        ("voc", "x/a.xml", voc("<Difficult>1</Difficult>")),
        ("voc", "x/a.xml", voc(attribute("ignore"))),
        ("odvg", "a.jsonl", odvg(iscrowd=1)),
    ],
)
def test_an_object_that_nobody_has_to_find_is_no_target(
    tmp_path: Path, images: Path, name: str, file: str, content: Any
) -> None:
    found = read(name, tmp_path / file, images, content)
    assert not any(sample.labels or sample.targets for sample in found)


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("labelme", "x/a.json", labelme(points=[[0.1, 0.2], [0.5, 0.6]])),
        ("csv", "a.csv", f"{HEAD}\na.jpg,dog,.1,.2,.5,.6\n"),
        ("csv", "a.csv", f"{HEAD}\na.jpg,dog,.1,.2,1.0001,.6\n"),
        ("hf", "metadata.jsonl", hf(bbox=[[0.1, 0.2, 0.4, 0.4]])),
    ],
)
def test_shares_of_the_image_are_not_taken_for_pixels(
    tmp_path: Path, images: Path, name: str, file: str, content: Any
) -> None:
    with pytest.raises(DataError, match="no coordinate is more than 2"):
        read(name, tmp_path / file, images, content)
