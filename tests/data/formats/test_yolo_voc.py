"""YOLO and Pascal VOC folders."""

import pytest

from boxrl.data.formats.reading import Rejected
from boxrl.data.formats.yolo_voc import read_voc, read_yolo
from boxrl.errors import DataError
from tests.data.lint.test_lint import huge_png
from tests.support.archives import boxes_of, rows_of, write_image


def yolo_folder(root, labels="labels/train", images="images/train", yaml="data.yaml"):
    """The usual layout: data.yaml above labels/train and images/train."""
    write_image(root / images / "a.jpg", (200, 100))
    write_image(root / images / "b.png", (100, 100))
    (root / labels).mkdir(parents=True)
    (root / labels / "a.txt").write_text("0 0.5 0.5 0.2 0.4\n\n1 0.1 0.1 0.1 0.1\n")
    (root / labels / "b.txt").write_text("")
    (root / yaml).write_text("path: .\nnames:\n- cat\n- dog: small\n".replace(": small", ""))
    return root / labels, root / images


def test_yolo_shares_become_pixels(tmp_path):
    (sample,) = rows_of(read_yolo(*yolo_folder(tmp_path)))
    assert (sample.image, sample.size_wh, sample.labels) == ("a.jpg", (200, 100), ("cat", "dog"))
    assert boxes_of(sample) == [
        ("cat", pytest.approx((80, 30, 120, 70))),
        ("dog", pytest.approx((10, 5, 30, 15))),
    ]


def test_yolo_is_found_by_its_yaml_and_all_mode_keeps_empty_images(tmp_path):
    _, images = yolo_folder(tmp_path)
    samples = rows_of(read_yolo(tmp_path / "data.yaml", images, mode="all"))
    assert [(sample.image, len(sample.objects)) for sample in samples] == [
        ("a.jpg", 2),
        ("b.png", 0),
    ]


@pytest.mark.parametrize(
    "names", ["names: [cat, dog]", "names:\n  0: cat\n  1: dog", 'names: ["cat", "dog"]\nnc: 2']
)
def test_yolo_names_in_any_yaml(tmp_path, names):
    labels, images = yolo_folder(tmp_path)
    (tmp_path / "data.yaml").write_text(names)
    assert rows_of(read_yolo(labels, images))[0].labels == ("cat", "dog")


@pytest.mark.parametrize(
    ("line", "where", "reason"),
    [
        ("0 0.5 0.5 nan 0.4", "b.txt:2", "four finite numbers"),
        ("0 0.5 0.5 inf 0.4", "b.txt:2", "four finite numbers"),
        ("0 0.5 0.5 2 2", "b.txt:2", "leaves the image"),
        ("0 0.5 0.5 0 0.1", "b.txt:2", "zero width"),
        ("5 0.5 0.5 0.1 0.1", "b.txt:2", "out of range"),
        ("0 0.5 0.5 0.1", "b.txt:2", "expected 5 fields"),
        ("cat 0.5 0.5 0.1 0.1", "b.txt:2", "invalid class"),
    ],
)
def test_a_bad_yolo_line_is_rejected_and_the_rest_is_read(tmp_path, line, where, reason):
    labels, images = yolo_folder(tmp_path)
    (labels / "b.txt").write_text(f"0 0.5 0.5 0.5 0.5\n{line}\n")
    found = rows_of(read_yolo(labels, images))
    (rejected,) = [row for row in found if isinstance(row, Rejected)]
    assert f"{labels}/{where}: " in rejected.reason
    assert reason in rejected.reason
    assert "a.jpg" in [row.image for row in found if not isinstance(row, Rejected)]


@pytest.mark.parametrize(
    ("image", "label", "reason"),
    [
        (huge_png(), b"", "more than 178,956,970 pixels"),
        (b"<html>", b"", "not a readable image"),
        (None, b"0 0.5 0.5 caf\xe9 0.1\n", "UTF-8"),
    ],
)
def test_a_bad_yolo_image_or_text_is_rejected_and_the_rest_is_read(tmp_path, image, label, reason):
    labels, images = yolo_folder(tmp_path)
    (labels / "b.txt").write_bytes(label)
    if image is not None:
        (images / "b.png").write_bytes(image)
    (images / "of no label.png").write_bytes(b"x")
    rejected, sample = rows_of(read_yolo(labels, images))
    assert rejected.reason.startswith(f"{labels / 'b.txt'}:1: ")
    assert reason in rejected.reason
    assert len(sample.objects) == 2


def test_a_yolo_label_file_without_image_is_rejected(tmp_path):
    labels, images = yolo_folder(tmp_path)
    (images / "b.png").unlink()
    rejected = rows_of(read_yolo(labels, images))[0]
    assert rejected.reason.startswith(f"{labels / 'b.txt'}:1: no image b.jpg")


def test_yolo_without_names_is_refused(tmp_path):
    labels, images = yolo_folder(tmp_path)
    (tmp_path / "data.yaml").write_text("nc: 2")
    with pytest.raises(DataError, match="names must be"):
        rows_of(read_yolo(labels, images))
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(DataError, match=r"no data\.yaml"):
        rows_of(read_yolo(labels, images))


def voc_xml(name, objects):
    found = "".join(
        f"\n  <object>\n    <name>{label}</name><difficult>{difficult}</difficult>\n"
        f"    <bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox>\n  </object>"
        for label, difficult, box in objects
    )
    return (
        f"<annotation>\n  <folder>VOC2012</folder><filename>{name}</filename>\n"
        f"  <size><width>353</width><height>500</height><depth>3</depth></size>{found}\n"
        "</annotation>\n"
    )


@pytest.fixture
def voc(tmp_path):
    folder = tmp_path / "VOC2012/Annotations"
    folder.mkdir(parents=True)
    objects = [("dog", 0, (48, 240, 195, 371)), ("person", 1, (8, 12, 352, 498))]
    (folder / "2007_000027.xml").write_text(voc_xml("2007_000027.jpg", objects))
    (folder / "2007_000032.xml").write_text(voc_xml("2007_000032.jpg", []))
    return folder


@pytest.mark.parametrize("nested", [True, False])
def test_voc_corners_count_from_one_and_difficult_objects_are_ignored(voc, nested):
    (sample,) = rows_of(read_voc(voc.parent if nested else voc, voc))
    assert (sample.image, sample.size_wh) == ("2007_000027.jpg", (353, 500))
    assert sample.labels == ("dog",)
    assert boxes_of(sample) == [("dog", (47, 239, 195, 371))]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", ":1: VOC XML missing <filename>"),
        ("not xml", ":1: "),
        (voc_xml("x.jpg", [("dog", 0, ("abc", 1, 2, 3))]), ":6: invalid bbox coordinate"),
        (voc_xml("x.jpg", [("dog", 0, (5, 1, 2, 3))]), "inverted"),
        (voc_xml("../../etc/passwd", []), "leaves the images folder"),
        (voc_xml("x.jpg", []).replace("353", "0"), "0 x 500 pixels"),
        ("<annotation><filename>x.jpg", "0 x 0 pixels"),
    ],
)
def test_a_bad_voc_file_is_rejected_and_the_rest_is_read(voc, content, reason):
    (voc / "x.xml").write_text(content)
    found = rows_of(read_voc(voc, voc))
    (rejected,) = [row for row in found if isinstance(row, Rejected)]
    assert rejected.reason.startswith(f"{voc / 'x.xml'}:")
    assert reason in rejected.reason
    assert len(found) == 2
