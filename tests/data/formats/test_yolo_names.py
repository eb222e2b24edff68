"""How classes of YOLO data sets are named, and by which file."""

import pytest

from boxrl.data.formats.yolo import read_yolo
from boxrl.errors import DataError
from tests.data.formats.test_yolo import BOX, read, write, yolo_folder
from tests.support.archives import write_image


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("names: [cat, dog]", ["cat", "dog"]),
        ("names:\n  0: cat\n  1: dog", ["cat", "dog"]),
        ("names:\n  '0': cat\n  '1': dog", ["cat", "dog"]),
        ('names: ["cat", "dog"]\nnc: 2', ["cat", "dog"]),
        ("names: [0, 1]", ["0", "1"]),
        ("names: [yes, no]", ["yes", "no"]),  # YAML's truth values are not what was written
        ("names: ['1.0', 2.50]", ["1.0", "2.50"]),
        ("names:\n  0: cat\n  1: dog\n  5: bird", ["cat", "dog", "bird"]),
    ],
)
def test_names_are_taken_as_they_are_written(tmp_path, content, names):
    labels, images = yolo_folder(tmp_path)
    write(tmp_path / "data.yaml", content)
    samples, _, _ = read(labels, images, mode="all")
    assert list(samples["a"].labels) == names


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("names: dog, cat", "names must be a list"),
        ("nc: 2", "names must be a list"),
        ("names: [dog, dog]", "classes 0 and 1 are both 'dog'; merge"),
        ("names: [dog]\nnc: 2", "nc is '2', but there are 1 names"),
        ("names: [", "not YAML"),
        ("names: [dog, '']", "names must be a list"),
    ],
)
def test_names_that_are_none_are_refused(tmp_path, content, reason):
    labels, images = yolo_folder(tmp_path)
    write(tmp_path / "data.yaml", content)
    with pytest.raises(DataError, match=reason):
        read_yolo(labels, images)


NAMED = {
    "labelImg": ("images", "images", {"images/classes.txt": "dog\ncat\n"}),
    "Label Studio": ("labels", "images", {"classes.txt": "dog\ncat\n"}),
    "Label Studio's notes": (
        "labels",
        "images",
        {"notes.json": '{"categories": [{"id": 0, "name": "dog"}, {"id": 1, "name": "cat"}]}'},
    ),
    "CVAT": ("obj", "obj", {"obj.names": "dog\ncat\n", "obj.data": "names = data/obj.names\n"}),
    "both": (
        "images",
        "images",
        {"images/classes.txt": "x\ny\n", "images/data.yaml": "names: [dog, cat]"},
    ),
    "beside a recipe": (
        "labels",
        "images",
        {"classes.txt": "dog\ncat\n", "recipe.yaml": "# out: FOLDER names another.\nout: a\n"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("tool", NAMED)
def test_names_lie_where_tools_put_them(tmp_path, tool):
    labels, images, files = NAMED[tool]
    write_image(tmp_path / images / "a.jpg", (200, 100))
    write(tmp_path / labels / "a.txt", BOX)
    for name, text in files.items():
        write(tmp_path / name, text)
    samples, reasons, _ = read(tmp_path / labels, tmp_path / images, mode="all")
    assert samples["a"].labels == ("dog", "cat")
    assert reasons == []  # classes.txt is no label file


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (("a.yaml", "names: [dog, cat]"), ("b.yaml", "names: [dog, cow]")),
        (("a.yaml", "names: [dog, cat]"), ("classes.txt", "dog\ncow\n")),
        (("labels/classes.txt", "dog\ncat\n"), ("data.yaml", "names: [dog, cow]")),
    ],
)
def test_files_that_name_a_class_differently_are_refused(tmp_path, one, two):
    labels, images = tmp_path / "labels", tmp_path / "images"
    write(labels / "a.txt", BOX)
    write_image(images / "a.jpg", (200, 100))
    for name, text in (one, two):
        write(tmp_path / name, text)
    with pytest.raises(DataError, match=r"class 1 is 'cat' here and 'cow' in .*; name the right"):
        read_yolo(labels, images)
    write(tmp_path / two[0], two[1].replace("cow", "cat"))
    samples, _, notes = read(labels, images)
    assert samples["a"].labels == ("dog",)
    told = [note for note in notes if note.startswith("classes are named by")]
    assert told == (
        [] if one[0] == "labels/classes.txt" else [f"classes are named by {tmp_path / one[0]}"]
    )


def test_without_names_it_says_where_they_may_lie(tmp_path):
    labels, images = yolo_folder(tmp_path)
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(DataError, match=r"expected data\.yaml or classes\.txt, obj\.names"):
        read_yolo(labels, images)
