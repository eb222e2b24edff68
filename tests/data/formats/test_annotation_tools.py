"""LabelMe, Label Studio and CVAT: what their shapes are, and what a shape without a box hides."""

import json

import pytest

from boxrl.data.formats.cvat import read_cvat
from boxrl.data.formats.labelme import read_labelme
from boxrl.data.formats.labelstudio import read_labelstudio
from boxrl.data.formats.reading import Rejected
from boxrl.errors import DataError
from boxrl.types import Sample
from tests.support.archives import boxes_of, write_image, write_json

SIZE_WH = (200, 100)


@pytest.fixture
def images(tmp_path):
    for name in ("a.png", "b.png", "sub/a.png"):
        write_image(tmp_path / "images" / name, SIZE_WH)
    return tmp_path / "images"


def split(reading):
    """(samples, reasons, what was told)."""
    rows = list(reading.rows)
    samples = [row for row in rows if isinstance(row, Sample)]
    return samples, [row.reason for row in rows if isinstance(row, Rejected)], reading.told()


def labelme(tmp_path, images, *shapes, **changed):
    content = {"shapes": list(shapes), "imagePath": "a.png", "imageWidth": 200, "imageHeight": 100}
    path = write_json(tmp_path / "labels/a.json", content | changed)
    return split(read_labelme(path.parent, images, mode="all"))


def shape(label, kind, points, **more):
    return {"label": label, "shape_type": kind, "points": points, "group_id": None, **more}


@pytest.mark.parametrize(
    ("kind", "points", "box"),
    [
        ("rectangle", [[60, 50], [10, 10]], (10, 10, 60, 50)),
        ("polygon", [[10, 10], [60, 20], [30, 50]], (10, 10, 60, 50)),
        (None, [[10, 10], [60, 20], [30, 50]], (10, 10, 60, 50)),
        ("circle", [[50, 50], [50, 80]], (20, 20, 80, 80)),
        ("mask", [[10, 10], [59, 49]], (10, 10, 60, 50)),
        ("oriented_rectangle", [[30, 10], [50, 30], [30, 50], [10, 30]], (10, 10, 50, 50)),
    ],
)
def test_labelme_s_shapes(tmp_path, images, kind, points, box):
    (sample,), reasons, _ = labelme(tmp_path, images, shape("dog", kind, points))
    assert (boxes_of(sample), reasons) == ([("dog", box)], [])


def test_of_an_image_with_an_object_of_no_label_no_other_file_asks_anything(tmp_path, images):
    box = [[10, 10], [60, 50]]
    for name, label in (("a", "dog"), ("b", None)):
        content = {"shapes": [shape(label, "rectangle", box)], "imagePath": "a.png"}
        write_json(tmp_path / f"labels/{name}.json", content)
    samples, reasons, _ = split(read_labelme(tmp_path / "labels", images, mode="all"))
    assert samples == []
    assert any("whose label cannot be read" in reason for reason in reasons)


@pytest.mark.parametrize("kind", ["point", "line", "linestrip", "points"])
def test_a_labelme_shape_without_a_box_hides_its_label(tmp_path, images, kind):
    dog = shape("dog", "rectangle", [[10, 10], [60, 50]])
    (sample,), _, _ = labelme(tmp_path, images, dog, shape("nose", kind, [[5, 5], [9, 9]]))
    assert sample.labels == ("dog",)
    assert sample.meta["unverified"] == ["nose"]


def test_labelme_shapes_of_one_group_are_one_object(tmp_path, images):
    parts = [
        shape("dog", "rectangle", [[10, 10], [20, 20]], group_id=1),
        shape("dog", "rectangle", [[40, 30], [60, 50]], group_id=1),
        shape("dog", "rectangle", [[100, 30], [160, 50]], group_id=2),
        shape("cat", "rectangle", [[100, 30], [160, 50]], group_id=1),
    ]
    (sample,), _, _ = labelme(tmp_path, images, *parts)
    assert boxes_of(sample) == [
        ("dog", (10, 10, 60, 50)),
        ("dog", (100, 30, 160, 50)),
        ("cat", (100, 30, 160, 50)),
    ]


def test_a_labelme_flag_makes_a_region_in_which_nothing_counts(tmp_path, images):
    dog = shape("dog", "rectangle", [[10, 10], [60, 50]], flags={"difficult": True})
    ignored = shape("__ignore__", "rectangle", [[100, 10], [160, 50]])
    cat = shape("cat", "rectangle", [[100, 10], [160, 50]])
    (sample,), _, _ = labelme(tmp_path, images, dog, cat, ignored)
    assert sample.labels == ("cat",)
    assert {item.label for item in sample.ignored} == {"dog", "cat"}


@pytest.mark.parametrize(
    ("written", "image"),
    [
        ("../images/sub/a.png", "sub/a.png"),
        ("..\\images\\sub\\a.png", "sub/a.png"),
        ("renamed.png", "a.png"),
        ("A.PNG", "a.png"),
    ],
)
def test_labelme_s_image_lies_where_the_file_says_or_has_its_name(tmp_path, images, written, image):
    dog = shape("dog", "rectangle", [[10, 10], [60, 50]])
    if written == "renamed.png":
        (images / "sub/a.png").unlink()
    (sample,), _, _ = labelme(tmp_path, images, dog, imagePath=written, imageWidth=None,
                              imageHeight=None)  # fmt: skip
    assert (sample.image, sample.size_wh) == (image, SIZE_WH)


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ([shape("dog", "rectangle", [[10, 10], [300, 50]])], "leaves the image"),
        ([shape("dog", "circle", [[10, 10]])], "bbox None"),
        ([shape("dog", "polygon", "x")], "bbox None"),
        ([shape("dog", "polygon", [[9, 9], [float("nan"), 20], [50, 60]])], "bbox None"),
        ([shape("dog", "polygon", [[10**400, 9], [50, 60]])], "bbox None"),
        ([shape(None, "rectangle", [[1, 1], [9, 9]])], "'label' must be of type str"),
    ],
)
def test_a_bad_labelme_shape_hides_its_label(tmp_path, images, shapes, reason):
    samples, reasons, _ = labelme(tmp_path, images, *shapes)
    assert reason in reasons[0]
    assert samples == []


def studio(tmp_path, images, *tasks):
    path = write_json(tmp_path / "export.json", list(tasks), indent=1)
    return split(read_labelstudio(path, images, mode="all"))


def task(key, image, *results, **more):
    annotation = {"id": key, "was_cancelled": False, "result": list(results)}
    return {"id": key, "data": {"image": image}, "annotations": [annotation], **more}


def result(labels, more=(), key="r", kind="rectanglelabels", **changed):
    value = {"x": 5, "y": 10, "width": 25, "height": 40, "rotation": 0, kind: labels} | dict(more)
    size = {"original_width": 200, "original_height": 100}
    return {"id": key, "type": kind, "value": value, **size, **changed}


SHAPE = result([], kind="rectangle")


@pytest.mark.parametrize(
    ("results", "labels"),
    [
        ((result(["cat"], from_name="class"), result(["red"], from_name="colour")), ["cat", "red"]),
        ((SHAPE, result(["cat"], kind="labels"), result(["red"], kind="labels")), ["cat", "red"]),
        ((result(["cat"], kind="labels"), result(["red", "cat"], kind="labels"), SHAPE),
         ["cat", "red"]),
        ((result(["cat", "red"]), result([], from_name="colour")), ["cat", "red"]),
    ],
)  # fmt: skip
def test_labels_of_every_tag_of_a_label_studio_region_count(tmp_path, images, results, labels):
    other = result(["blue"], {"x": 50}, key="s")
    (sample,), reasons, _ = studio(tmp_path, images, task(7, "a.png", *results, other))
    assert (boxes_of(sample)[:-1], reasons) == ([(name, (10, 10, 60, 50)) for name in labels], [])
    assert sample.labels == ("blue", "cat", "red")


@pytest.mark.parametrize(
    ("more", "kind", "box"),
    [
        ({}, "rectanglelabels", (10, 10, 60, 50)),
        ({"rotation": 90}, "rectanglelabels", (-30, 10, 10, 60)),
        ({"x": 50, "rotation": 90}, "rectanglelabels", (60, 10, 100, 60)),
        ({"x": 50, "y": 50, "radiusX": 10, "radiusY": 30}, "ellipselabels", (80, 20, 120, 80)),
        ({"points": [[5, 10], [30, 20], [20, 50]]}, "polygonlabels", (10, 10, 60, 50)),
    ],
)
def test_label_studio_s_shapes_are_percents_turned_in_pixels(tmp_path, images, more, kind, box):
    samples, reasons, _ = studio(
        tmp_path, images, task(1, "a.png", result(["dog"], more, kind=kind))
    )
    if box[0] < 0:
        assert "leaves the image" in reasons[0]
    else:
        assert boxes_of(samples[0]) == [("dog", pytest.approx(box))]


@pytest.mark.parametrize(
    "written",
    ["a.png", "/data/upload/1/1a2b3c4d-a.png", "/data/local-files/?d=pets%2Fa.png", "s3://b/x/a.png",
     "https://h.org/x/a.png?sig=1", "images\\a.png"],
)  # fmt: skip
def test_label_studio_s_paths(tmp_path, images, written):
    (images / "sub/a.png").unlink()
    (sample,), _, told = studio(tmp_path, images, task(1, written, result(["dog"])))
    assert sample.image == "a.png"
    assert told[0].startswith("1 of 1 images found")


def two_images(*to_names, data=(("left", "a.png"), ("right", "b.png")), **more):
    """A task of two images, with a result of each name."""
    found = [result(["dog"], key=f"r{n}", to_name=name) for n, name in enumerate(to_names)]
    return task(1, "x", *found, **more) | {"data": dict(data)}


@pytest.mark.parametrize(
    "written",
    [
        two_images("img1", "img2"),
        two_images("left", "right"),
        two_images("img2"),
        two_images(),
        two_images("image", data=(("image", ["a.png", "b.png"]),)),
        two_images("img", data=(("i", "/data/upload/1/1a2b3c4d-a.png"),
                                ("j", "/data/upload/1/5e6f7a8b-a.png"))),
        task(1, "a.png", result(["dog"], item_index=1)),
        {"id": 1, "left": "a.png", "right": "b.png",
         "boxes": [{"x": 5, "y": 10, "width": 25, "height": 40, "rectanglelabels": ["dog"]}]},
    ],
)  # fmt: skip
def test_a_label_studio_task_of_several_images_is_refused(tmp_path, images, written):
    samples, (reason,), _ = studio(tmp_path, images, written)
    assert samples == []
    assert "export.json:2: a task of several images, [" in reason
    assert "export them as tasks of their own" in reason
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("written", "image"),
    [
        (two_images("right", "right"), "b.png"),
        (two_images("img", data=(("image", "s3://bucket/x/a.png"), ("file", "a.png"))), "a.png"),
        (two_images("img", data=(("image", "/data/upload/1/1a2b3c4d-a.png"), ("f", "a.png"))),
         "a.png"),
        (two_images("img", data=(("image", "a.png"), ("of", "text"))), "a.png"),
    ],
)  # fmt: skip
def test_a_label_studio_task_of_one_annotated_image_is_read(tmp_path, images, written, image):
    (images / "sub/a.png").unlink()
    (sample,), reasons, _ = studio(tmp_path, images, written)
    assert (sample.image, reasons) == (image, [])


def test_two_uploads_of_one_name_are_two_images(tmp_path, images):
    names = ("1a2b3c4d-a.png", "5e6f7a8b-a.png")
    for name in names:
        write_image(images / name, SIZE_WH)
    tasks = [task(n, f"/data/upload/1/{name}", result(["dog"])) for n, name in enumerate(names)]
    samples, _, _ = studio(tmp_path, images, *tasks)
    assert [sample.image for sample in samples] == list(names)


def test_label_studio_regions_and_labels_apart_several_labels_and_none(tmp_path, images):
    plain = result([], key="one")
    del plain["value"]["rectanglelabels"]
    named = {"id": "one", "type": "labels", "value": {**plain["value"], "labels": ["dog"]}}
    both = result(["cat", "pet"], {"x": 60}, key="two")
    (sample,), _, _ = studio(tmp_path, images, task(1, "a.png", plain, named, both))
    assert [label for label, _ in boxes_of(sample)] == ["dog", "cat", "pet"]
    samples, reasons, _ = studio(tmp_path, images, task(1, "a.png", plain))
    assert samples == []
    assert "'label' must be of type str" in reasons[0]


def test_label_studio_shapes_without_a_box_hide_their_label(tmp_path, images):
    brush = {
        "id": "b",
        "type": "brushlabels",
        "value": {"format": "rle", "rle": [1], "brushlabels": ["hair"]},
    }
    point = {
        "id": "p",
        "type": "keypointlabels",
        "value": {"x": 1, "y": 1, "width": 1, "keypointlabels": ["nose"]},
    }
    (sample,), _, _ = studio(tmp_path, images, task(1, "a.png", result(["dog"]), brush, point))
    assert (sample.labels, sample.meta["unverified"]) == (("dog",), ["hair", "nose"])


def test_label_studio_cancelled_unfinished_and_empty_tasks(tmp_path, images):
    cancelled = task(1, "a.png", result(["cat"]))
    cancelled["annotations"][0]["was_cancelled"] = True
    unfinished = {"id": 2, "data": {"image": "a.png"}, "annotations": [], "predictions": [1]}
    empty, dog = task(3, "b.png"), task(4, "sub/a.png", result(["dog"]))
    samples, _, told = studio(tmp_path, images, cancelled, unfinished, empty, dog)
    assert [(sample.id, sample.is_negative) for sample in samples] == [("3", True), ("4", False)]
    assert "2 tasks without a finished annotation left out" in told


@pytest.mark.parametrize("written", [list, json.dumps])
def test_label_studio_s_short_form_has_its_shapes_as_a_list_or_as_its_text(
    tmp_path, images, written
):
    said = result(["dog"])
    shapes = [said.pop("value") | said]
    (sample,), _, _ = studio(tmp_path, images, {"id": 1, "image": "a.png", "box": written(shapes)})
    assert boxes_of(sample) == [("dog", (10, 10, 60, 50))]
    cut = written([{"a": 1}, *shapes]) if written is list else json.dumps(shapes)[:-5]
    samples, reasons, _ = studio(tmp_path, images, {"id": 1, "image": "a.png", "box": cut})
    assert (samples, len(reasons) > 0) == ([], True)


def test_a_label_a_tool_s_user_turned_the_image_for_is_not_read_upright(tmp_path, images):
    turned = task(1, "a.png", result(["dog"], image_rotation=90))
    samples, reasons, _ = studio(tmp_path, images, turned)
    assert samples == []
    assert "turned in the editor" in reasons[0]


def test_a_painted_object_hides_its_label_beside_boxes_of_it(tmp_path, images):
    brush = {
        "id": "r9",
        "type": "brushlabels",
        "value": {"format": "rle", "rle": [1], "brushlabels": ["dog"]},
    }
    rows = result(["dog"]), result(["cat"]), brush
    (sample,), _, _ = studio(tmp_path, images, task(1, "a.png", *rows))
    assert (sample.labels, sample.meta["unverified"]) == (("cat",), ["dog"])


def cvat(tmp_path, images, *items, meta=""):
    text = (
        f'<?xml version="1.0"?>\n<annotations><meta>{meta}</meta>\n{"".join(items)}</annotations>'
    )
    (tmp_path / "cvat.xml").write_text(text)
    return split(read_cvat(tmp_path / "cvat.xml", images, mode="all"))


def image(name, *shapes, size='width="200" height="100"'):
    return f'<image id="7" name="{name}" {size}>\n{"".join(shapes)}</image>\n'


LABELS = "<job><labels>{}</labels></job>".format(
    "".join(f"<label><name>{name}</name></label>" for name in ("dog", "cat", "a &amp; b"))
    + "<label><name>nose</name><parent>dog</parent></label>"
)


@pytest.mark.parametrize(
    ("written", "box"),
    [
        ('<box label="dog" xtl="10" ytl="10" xbr="60" ybr="50"/>', (10, 10, 60, 50)),
        ('<box label="dog" xtl="60" ytl="40" xbr="100" ybr="60" rotation="90"/>', (70, 30, 90, 70)),
        ('<polygon label="dog" points="10,10;60,20;30,50"/>', (10, 10, 60, 50)),
        ('<ellipse label="dog" cx="50" cy="50" rx="30" ry="20"/>', (20, 30, 80, 70)),
        ('<ellipse label="dog" cx="50" cy="50" rx="30" ry="20" rotation="90"/>', (30, 20, 70, 80)),
        ('<cuboid label="dog" xtl1="10" ytl1="20" xbl1="10" ybl1="50" xtr1="50" ytr1="20" '
         'xbr1="50" ybr1="50" xtl2="60" ytl2="10" xbl2="60" ybl2="40" xtr2="20" ytr2="10" '
         'xbr2="20" ybr2="40"/>', (10, 10, 60, 50)),
        # of a window of 4 x 3: the second row, and two pixels of the third
        ('<mask label="dog" rle="4, 6, 2" left="10" top="20" width="4" height="3"/>',
         (10, 21, 14, 23)),
        ('<mask label="dog" rle="5, 2, 2, 2, 1" left="10" top="20" width="4" height="3"/>',
         (11, 21, 13, 23)),
    ],
)  # fmt: skip
def test_cvat_s_shapes(tmp_path, images, written, box):
    (sample,), reasons, _ = cvat(tmp_path, images, image("a.png", written))
    assert (boxes_of(sample), reasons) == ([("dog", pytest.approx(box))], [])


def test_cvat_s_tasks_with_other_labels_ask_for_their_own(tmp_path, images):
    box = '<box label="dog" xtl="10" ytl="10" xbr="60" ybr="50"/>'
    for name, label, shape in (("a", "cat", box), ("b", "car", "")):
        meta = f"<meta>{LABELS.replace('a &amp; b', label).replace('cat', label)}</meta>"
        text = f"<annotations>{meta}{image(f'{name}.png', shape)}</annotations>"
        (tmp_path / f"xml/{name}.xml").parent.mkdir(exist_ok=True)
        (tmp_path / f"xml/{name}.xml").write_text(text)
    samples, _, _ = split(read_cvat(tmp_path / "xml", images, mode="all"))
    assert [sample.labels for sample in samples] == [("dog", "cat"), ("dog", "car")]
    samples, _, _ = split(read_cvat(tmp_path / "xml/b.xml", images, mode="all"))
    assert "verified_absent" not in samples[0].meta


def test_cvat_asks_for_the_labels_of_the_project_and_hides_what_has_no_box(tmp_path, images):
    box = '<box label="dog" xtl="10" ytl="10" xbr="60" ybr="50"/>'
    line = '<polyline label="cat" points="1,1;2,2"/>'
    away = box.replace("xtl", 'outside="1" xtl')
    items = (
        image("a.png", box, size='width="200" height="100" subset="Train"'),
        image("sub/a.png", box, line),
        image("b.png", away, size='subset="Test"'),
    )
    samples, _, notes = cvat(tmp_path, images, *items, meta=LABELS)
    assert {sample.id: sample.labels for sample in samples} == {
        "a": ("dog", "cat", "a & b"),
        "sub/a": ("dog", "a & b"),
        "b": ("dog", "cat", "a & b"),
    }
    assert any("the splits Test, Train are read as one" in note for note in notes)
    assert [sample.is_negative for sample in samples] == [False, False, True]


def test_a_label_that_cvat_s_project_does_not_list_is_refused(tmp_path, images):
    bird = '<box label="bird" xtl="1" ytl="1" xbr="9" ybr="9"/>'
    why = r"cvat\.xml:3: label 'bird' is not among the 3 that the source lists, such as 'a & b'"
    with pytest.raises(DataError, match=why):
        cvat(tmp_path, images, image("a.png", bird), meta=LABELS)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ('<box label="dog" xtl="10" ytl="10" xbr="x" ybr="50"/>', "cvat.xml:4: bbox None"),
        ('<box label="dog" xtl="10" ytl="10" xbr="10" ybr="50"/>', "zero width"),
        ('<mask label="dog" rle="99" left="1" top="1" width="2" height="2"/>', "bbox None"),
        ('<box xtl="10" ytl="10" xbr="60" ybr="50"/>', "'label' must be of type str"),
    ],
)
def test_a_bad_cvat_shape_is_told_by_its_line(tmp_path, images, written, reason):
    samples, reasons, _ = cvat(tmp_path, images, image("a.png", written))
    assert reason in reasons[0]
    assert samples == []


def test_a_cvat_video_is_refused_with_the_way_out(tmp_path, images):
    with pytest.raises(DataError, match="tracks of a video; export it from CVAT as"):
        cvat(tmp_path, images, '<track id="0" label="dog"/>')


def test_files_of_another_kind_are_told(tmp_path, images):
    path = write_json(tmp_path / "x.json", {"images": []})
    with pytest.raises(DataError, match="expected a JSON list, got dict"):
        read_labelstudio(path, images)
    _, (reason,), _ = split(read_labelme(path, images))
    assert "expected an object with shapes" in reason
    (tmp_path / "voc.xml").write_text("<annotation/>")
    with pytest.raises(DataError, match="expected <annotations>, got <annotation>"):
        read_cvat(tmp_path / "voc.xml", images)
    assert json.loads(path.read_text()) == {"images": []}
