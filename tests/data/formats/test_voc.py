"""Pascal VOC as its archive, labelImg, Roboflow and scripts write it."""

import pytest

from boxrl.data.formats.reading import Rejected
from boxrl.data.formats.voc import read_voc
from boxrl.errors import DataError, UsageError
from boxrl.types import Sample
from tests.support.archives import boxes_of, rows_of, write_image

SIZE = "<size><width>200</width><height>100</height><depth>3</depth></size>"
DOG = (11, 11, 60, 50)


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


def box(corners, tag="bndbox"):
    names = ("xmin", "ymin", "xmax", "ymax")
    inner = "".join(f"<{n}>{v}</{n}>" for n, v in zip(names, corners, strict=True))
    return f"<{tag}>{inner}</{tag}>"


def item(name, *parts):
    return f"<object><name>{name}</name>{''.join(parts)}</object>"


def file(*items, name="a.jpg", size=SIZE, head=""):
    return (
        f"{head}<annotation><filename>{name}</filename>{size}\n"
        + "\n".join(items)
        + "</annotation>"
    )


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def read(annotations, images, **options):
    """(samples by id, reasons of rejections, notes)."""
    reading = read_voc(annotations, images, **options)
    rows = rows_of(reading)
    samples = {row.id: row for row in rows if isinstance(row, Sample)}
    return samples, [row.reason for row in rows if isinstance(row, Rejected)], reading.told()


def read_one(tmp_path, text, encoding="utf-8", **options):
    """The one file beside its image of 200 x 100 pixels."""
    write(tmp_path / "Annotations/a.xml", text, encoding)
    write_image(tmp_path / "images/a.jpg", (200, 100))
    return read(tmp_path, tmp_path / "images", **options)


@pytest.fixture
def voc(tmp_path):
    folder = tmp_path / "VOC2012/Annotations"
    objects = [("dog", 0, (48, 240, 195, 371)), ("person", 1, (8, 12, 352, 498))]
    write(folder / "2007_000027.xml", voc_xml("2007_000027.jpg", objects))
    write(folder / "2007_000032.xml", voc_xml("2007_000032.jpg", []))
    return folder


@pytest.mark.parametrize("nested", [True, False])
def test_corners_count_from_one_and_difficult_objects_are_ignored(voc, nested):
    (sample,) = rows_of(read_voc(voc.parent if nested else voc, voc))
    assert (sample.image, sample.size_wh) == ("2007_000027.jpg", (353, 500))
    assert sample.labels == ("dog",)
    assert boxes_of(sample) == [("dog", (47, 239, 195, 371))]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", ":1: not XML (no element found)"),
        ("not xml", ":1: not XML"),
        (voc_xml("x.jpg", [("dog", 0, ("abc", 1, 2, 3))]), ":6: bbox ['abc', 1, 2, 3]"),
        (voc_xml("x.jpg", [("dog", 0, (5, 1, 2, 3))]), ":6: bbox (4, 0, 2, 3) has flipped corners"),
        (voc_xml("../../etc/passwd", []), "leaves the images folder"),
        (voc_xml("x.jpg", []).replace("353", "0"), "0 x 500 pixels"),
        (voc_xml("x.jpg", []).replace("353", "0").replace("500", "0"), "no image"),
        ("<annotation><size/></annotation>", "no <filename>"),
        ("<annotations><image/></annotations>", "expected <annotation>, got <annotations>"),
        ("<annotation><filename>x.jpg", "not XML"),
    ],
)  # fmt: skip
def test_a_bad_file_is_rejected_and_the_rest_is_read(voc, content, reason):
    write(voc / "x.xml", content)
    found = rows_of(read_voc(voc, voc))
    (rejected,) = [row for row in found if isinstance(row, Rejected)]
    assert rejected.reason.startswith(f"{voc / 'x.xml'}:")
    assert reason in rejected.reason
    assert len([row for row in found if isinstance(row, Sample)]) == 1


def test_a_folder_without_files_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no \.xml files"):
        read_voc(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("salt &amp; pepper", "salt & pepper"),
        ("A&#38;B", "A&B"),
        ("&lt;3 years", "<3 years"),
        ("driver&apos;s licence", "driver's licence"),
        ("Sch&#252;ssel", "Schüssel"),
        ("&amp;", "&"),
        ("<![CDATA[R&D]]>", "R&D"),
        (" dog\n", "dog"),
        ("fire<!-- a note --> hydrant", "fire hydrant"),
    ],
)
def test_names_are_read_as_xml_has_them(tmp_path, written, name):
    samples, _, _ = read_one(tmp_path, file(item(written, box(DOG))))
    assert boxes_of(samples["a"]) == [(name, (10, 10, 60, 50))]


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [("gb2312", "gb2312"), ("GBK", "gbk"), ("utf-8", "utf-8-sig"), ("UTF-16", "utf-16"),
     ("Shift_JIS", "shift_jis")],
)  # fmt: skip
def test_the_declared_encoding_is_honoured(tmp_path, declared, encoding):
    head = f'<?xml version="1.0" encoding="{declared}"?>\n'
    samples, _, _ = read_one(tmp_path, file(item("安全", box(DOG)), head=head), encoding)
    assert samples["a"].labels == ("安全",)


def test_entities_are_not_unfolded(tmp_path):
    head = '<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY x "boom">]>\n'
    samples, (reason,), _ = read_one(tmp_path, file(item("&x;", box(DOG)), head=head))
    assert "a.xml:1: declares an entity" in reason
    assert samples == {}


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        (("11.5", "11", " 60.7 ", "\n90"), (10.5, 10, 60.7, 90)),
        ((0, 0, 60, 50), (0, 0, 60, 50)),  # counted from 0 after all
        ((1, 1, 200, 100), (0, 0, 200, 100)),
        ((50, 50, 50, 50), (49, 49, 50, 50)),
    ],
)
def test_corners_in_any_form(tmp_path, corners, expected):
    samples, _, _ = read_one(tmp_path, file(item("dog", box(corners))))
    assert boxes_of(samples["a"]) == [("dog", expected)]


@pytest.mark.parametrize("corners", [(60, 11, 11, 50), (150, 50, 203, 90), (-5, 50, 100, 90)])
def test_a_bad_box_hides_its_label_and_no_other(tmp_path, corners):
    items = item("dog", box(corners)), item("dog", box(DOG)), item("cat", box((100, 20, 150, 60)))
    samples, (reason,), _ = read_one(tmp_path, file(*items), mode="all")
    assert samples["a"].labels == ("cat",)
    assert ".xml:2: " in reason


@pytest.mark.parametrize(
    ("difficult", "crowd"),
    [("0", False), ("1", True), ("Unspecified", False), ("", False), ("True", True)],
)
def test_difficult(tmp_path, difficult, crowd):
    text = file(item("cat", f"<difficult>{difficult}</difficult>", box(DOG)), item("dog", box(DOG)))
    samples, _, _ = read_one(tmp_path, text, mode="all")
    assert [found.iscrowd for found in samples["a"].objects] == [crowd, False]
    assert samples["a"].labels == (("dog",) if crowd else ("cat", "dog"))


@pytest.mark.parametrize("first", [True, False])
def test_the_parts_of_an_object_are_none_of_their_own(tmp_path, first):
    part = f"<part><name>head</name>{box((30, 12, 45, 25))}</part>"
    inner = (part, box(DOG)) if first else (box(DOG), part)
    samples, _, _ = read_one(tmp_path, file(item("person", *inner)))
    assert boxes_of(samples["a"]) == [("person", (10, 10, 60, 50))]


def test_two_boxes_in_an_object_are_both_read(tmp_path):
    samples, _, _ = read_one(tmp_path, file(item("dog", box(DOG), box((101, 11, 160, 50)))))
    assert boxes_of(samples["a"]) == [("dog", (10, 10, 60, 50)), ("dog", (100, 10, 160, 50))]


def test_outlines_and_turned_boxes_where_no_box_is(tmp_path):
    polygon = (
        "<polygon><x1>11</x1><y1>11</y1><x2>60</x2><y2>50</y2><x3>20</x3><y3>50</y3></polygon>"
    )
    turned = (
        "<robndbox><cx>100</cx><cy>50</cy><w>40</w><h>20</h><angle>1.5707963267948966</angle>"
        "</robndbox>"
    )
    items = (item("dog", polygon), item("cat", box(DOG), polygon), item("car", turned), item("van"),
             item("bus", turned.replace("1.57", "1e999")))  # fmt: skip
    samples, (reason, endless), _ = read_one(tmp_path, file(*items), mode="all")
    assert boxes_of(samples["a"]) == [
        ("dog", (10, 10, 60, 50)),
        ("cat", (10, 10, 60, 50)),
        ("car", pytest.approx((90, 30, 110, 70))),
    ]
    assert "bbox None" in reason and "bbox None" in endless
    assert samples["a"].labels == ("car", "cat", "dog")


@pytest.mark.parametrize("angle", ["90", "-45", "6.3"])
def test_turned_boxes_in_degrees_stop_the_data_set(tmp_path, angle):
    turned = f"<robndbox><cx>100</cx><cy>50</cy><w>40</w><h>20</h><angle>{angle}</angle></robndbox>"
    with pytest.raises(DataError, match=f"angle {angle} is none in radians.* expected 0 to 3.14;"):
        read_one(tmp_path, file(item("dog", box(DOG)), item("car", turned)))


@pytest.mark.parametrize("angle", ["0", "3.14", "6.28", "-1.5"])
def test_a_turned_box_in_radians_is_read(tmp_path, angle):
    turned = f"<robndbox><cx>100</cx><cy>50</cy><w>40</w><h>20</h><angle>{angle}</angle></robndbox>"
    samples, reasons, _ = read_one(tmp_path, file(item("car", turned)))
    assert (len(boxes_of(samples["a"])), reasons) == (1, [])


@pytest.mark.parametrize(
    "size",
    ["", SIZE.replace("200", "0").replace("100", "0"), SIZE.replace("200", "200.0"), "<size/>"],
)
def test_a_size_that_is_not_told_is_in_the_image(tmp_path, size):
    samples, _, _ = read_one(tmp_path, file(item("dog", box(DOG)), size=size))
    assert samples["a"].size_wh == (200, 100)


@pytest.mark.parametrize(
    ("name", "image", "noted"),
    [
        ("a", "a.jpg", False),
        ("a.jpg", "a.PNG", False),
        ("Screenshot 2020-01-01.jpg", "a.jpg", True),
        ("C:\\data\\a.jpg", "a.jpg", False),
        ("b.jpg", "a.jpg", True),  # a copy that nobody renamed inside; b.jpg is there too
        ("", "a.jpg", False),
    ],
)
def test_the_image_is_that_of_the_file_s_own_stem(tmp_path, name, image, noted):
    write(tmp_path / "a.xml", file(item("dog", box(DOG)), name=name))
    write(tmp_path / "b.xml", file(item("cat", box(DOG)), name="b.jpg"))
    for path in (image, "b.jpg"):
        write_image(tmp_path / "images" / path, (200, 100))
    samples, _, notes = read(tmp_path, tmp_path / "images")
    assert [sample.image for sample in samples.values()] == [image, "b.jpg"]
    assert any("with another image's name inside" in note for note in notes) == noted


def test_without_an_image_of_its_own_the_file_s_word_is_taken(tmp_path):
    write(tmp_path / "x/1.xml", file(item("dog", box(DOG)), name="sub\\a.jpg"))
    write_image(tmp_path / "images/sub/a.jpg", (200, 100))
    samples, _, notes = read(tmp_path / "x", tmp_path / "images")
    assert samples["1"].image == "sub/a.jpg"
    assert notes[0].startswith("1 of 1 images found")


def test_of_two_files_of_one_image_the_one_that_shows_all_of_a_label_asks_for_it(tmp_path):
    more = box((100, 10, 150, 60))
    first = item("dog", box(DOG)), item("bird", box(DOG)), item("car", box(DOG))
    second = item("dog", box(DOG)), item("cat", box(DOG)), item("car", more)
    for name, inner in (("1", first), ("2", second)):
        write(tmp_path / f"{name}.xml", file(*inner))
    write_image(tmp_path / "images/a.jpg", (200, 100))
    samples, _, notes = read(tmp_path, tmp_path / "images", mode="all")
    assert [sample.labels for sample in samples.values()] == [("bird", "dog"), ("cat", "dog")]
    assert any("1 image annotated more than once" in note for note in notes)


def test_image_sets_part_one_folder_of_files(tmp_path):
    root = tmp_path / "VOC2007"
    for name in "abc":
        write(root / f"Annotations/{name}.xml", file(item("dog", box(DOG)), name=f"{name}.jpg"))
        write_image(root / f"JPEGImages/{name}.jpg", (200, 100))
    write_image(root / "JPEGImages/d.jpg")
    write(root / "ImageSets/Main/train.txt", "a\nb\n")
    write(root / "ImageSets/Main/dog_val.txt", "c  1\n")
    images = root / "JPEGImages"
    write(root / "ImageSets/Main/test.txt", "c\n")
    samples, _, notes = read(root, images)
    assert list(samples) == ["a", "b", "c"]
    assert "the splits test, train are read as one; --split takes one of them" in notes
    samples, _, notes = read(root, images, split="train")
    assert (list(samples), any("as one" in note for note in notes)) == (["a", "b"], False)
    assert list(read(root, images, split="dog_val")[0]) == ["c"]
    assert any("1 image without an .xml file left out" in note for note in read(root, images)[2])
    with pytest.raises(UsageError, match=r"no list val\.txt; splits: dog_val, test, train"):
        read_voc(root, images, split="val")


def test_lines_of_an_image_set_can_hold_blanks_and_those_without_a_file_are_told(tmp_path):
    for name in ("my photo 1", "my", "x/c", "d e"):
        xml = file(item("dog", box(DOG)), name="")
        write(tmp_path / f"Annotations/{name}.xml", xml)
        write_image(tmp_path / f"JPEGImages/{name}.jpg", (200, 100))
    write(tmp_path / "ImageSets/Main/train.txt", 'my photo 1\r\n"d e"\r\nx/c\r\nmy lost one\r\n')
    write(tmp_path / "ImageSets/Main/dog_train.txt", "my photo 1  1\nmy\t-1\n")
    samples, _, notes = read(tmp_path, tmp_path / "JPEGImages", split="train")
    assert list(samples) == ["d e", "my photo 1", "x/c"]
    assert notes[1:] == ["1 image of the list without an .xml file left out, such as 'my lost one'"]
    samples, _, notes = read(tmp_path, tmp_path / "JPEGImages", split="dog_train")
    assert (list(samples), notes[1:]) == (["my photo 1", "my"], [])


def test_files_in_folders_keep_their_folder_in_the_id(tmp_path):
    for name in ("train/a", "val/a"):
        write(tmp_path / f"xml/{name}.xml", file(item("dog", box(DOG))))
        write_image(tmp_path / f"images/{name}.jpg", (200, 100))
    samples, _, _ = read(tmp_path / "xml", tmp_path / "images", negatives=1)
    assert {key: sample.image for key, sample in samples.items()} == {
        "train/a": "train/a.jpg",
        "val/a": "val/a.jpg",
    }


@pytest.mark.parametrize("flag", ["difficult", "ignore", "iscrowd", "deleted"])
def test_an_object_that_nobody_has_to_find_is_no_target(tmp_path, flag):
    write_image(tmp_path / "a.jpg", (200, 100))
    flagged = item("dog", f"<{flag}>1</{flag}>", box(DOG))
    write(tmp_path / "x" / "a.xml", file(flagged, item("cat", box((5, 5, 90, 90)))))
    samples, rejected, _ = read(tmp_path / "x", tmp_path, mode="all")
    assert samples["a"].labels == ("cat",) and samples["a"].meta["unverified"] == ["dog"]
    assert rejected == []


@pytest.mark.parametrize("tag", ["OBJECT", "item", "Object"])
def test_a_box_that_stands_elsewhere_rejects_its_file(tmp_path, tag):
    write_image(tmp_path / "a.jpg", (200, 100))
    write(tmp_path / "x" / "a.xml", file(item("dog", box(DOG)).replace("object>", f"{tag}>")))
    samples, (reason,), _ = read(tmp_path / "x", tmp_path, mode="all")
    assert samples == {} and f"<{tag}>" in reason and "a.xml:2:" in reason


def test_an_image_whose_file_is_refused_is_not_said_to_have_none(tmp_path):
    for name in ("a", "b"):
        write_image(tmp_path / f"images/{name}.jpg", (200, 100))
    write(tmp_path / "x/a.xml", file(item("dog", box(DOG))))
    write(tmp_path / "x/b.xml", "<annotation>")
    _, (reason,), notes = read(tmp_path / "x", tmp_path / "images")
    assert "b.xml:1:" in reason
    assert notes == [f"1 of 1 images found under {tmp_path / 'images'}"]
