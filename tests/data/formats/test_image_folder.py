"""Paths that were written on another machine: mended where a file is there, and counted."""

import unicodedata

import pytest

from boxrl.cli import main
from boxrl.data.formats.coco import read_coco
from boxrl.data.formats.image_folder import ImageFolder
from boxrl.errors import DataError
from tests.support.archives import annotation, rows_of, write_image, write_json


@pytest.fixture
def images(tmp_path):
    for name in ("a.jpg", "B.JPG", "my photo (1).jpg", unicodedata.normalize("NFD", "café.jpg"),
                 "patch16/o365.jpg", "sub/a.png"):  # fmt: skip
        write_image(tmp_path / "images" / name)
    return tmp_path / "images"


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("a.jpg", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("sub//a.png", "sub/a.png"),
        ("sub\\a.png", "sub/a.png"),
        ("images\\sub\\a.png", "sub/a.png"),
        ("..\\..\\media\\sub\\a.png", "sub/a.png"),
        ("my%20photo%20(1).jpg", "my photo (1).jpg"),
        (unicodedata.normalize("NFC", "café.jpg"), unicodedata.normalize("NFD", "café.jpg")),
        ("B.jpg", "B.JPG"),
        ("SUB/A.PNG", "sub/a.png"),
        ("images/v2/patch16/o365.jpg", "patch16/o365.jpg"),
        ("https://example.org/data/a.jpg", "a.jpg"),
        ("a.jpg?d=1", "a.jpg"),
        ("/data/coco/a.jpg", "a.jpg"),
        ("C:\\data\\a.jpg", "a.jpg"),
        ("/data/local-files/?d=pets%2Fsub%2Fa.png", "sub/a.png"),
        ("a.png", "a.jpg"),
        ("images/sub/A", "sub/a.png"),
    ],
)
def test_a_path_is_mended_where_it_then_leads_to_a_file(images, written, path):
    folder = ImageFolder(images)
    assert folder.locate(written, "x") == path
    assert folder.note().startswith("1 of 1 images found under")


def test_an_absolute_path_inside_the_folder_is_that_file(images):
    for folder in (images, images.parent):
        found = ImageFolder(folder)
        path = found.locate(str(images / "a.jpg"), "x")
        assert folder / path == images / "a.jpg"


@pytest.mark.parametrize(
    ("written", "path"), [("x/none.jpg", "x/none.jpg"), ("x\\none.jpg", "x/none.jpg")]
)
def test_what_is_not_there_is_counted_and_keeps_its_path(images, written, path):
    folder = ImageFolder(images)
    folder.locate("sub\\a.png", "x")
    assert folder.locate(written, "x") == path
    assert folder.note() == (
        f"1 of 2 images found under {images}; 1 not as it is written, such as 'sub\\\\a.png' as "
        f"'sub/a.png'; not there: {written!r}"
    )


@pytest.mark.parametrize("written", ["../none.jpg", "/etc/passwd", "C:\\none.jpg", "D:/none.jpg"])
def test_a_path_that_leads_out_of_the_folder_is_refused(images, written):
    with pytest.raises(DataError, match=r"x: image path .* leaves the images folder"):
        ImageFolder(images).locate(written, "x")


def test_a_link_out_of_the_folder_is_refused_however_it_is_spelt(images):
    (images / "Link.jpg").symlink_to("/etc/passwd")
    for written in ("Link.jpg", "x\\link.jpg"):
        with pytest.raises(DataError, match="is a link out of the images folder"):
            ImageFolder(images).locate(written, "x")


def test_two_images_never_become_one(images):
    folder = ImageFolder(images)
    folder.settle(["train/a.jpg", "val/a.jpg", "other/o365.jpg"])
    assert folder.locate("train/a.jpg", "x") == "train/a.jpg"
    assert folder.locate("val/a.jpg", "x") == "val/a.jpg"
    assert folder.note().startswith("0 of 3 images found")
    folder.check()
    one_by_one = ImageFolder(images)
    for written in ("train/a.jpg", "val/a.jpg"):
        one_by_one.locate(written, "x")
    with pytest.raises(DataError, match=r"'val/a\.jpg' and 'train/a\.jpg' would both be"):
        one_by_one.check()


def test_a_path_that_is_right_goes_before_one_that_must_be_cut(images):
    folder = ImageFolder(images)
    folder.settle(["/data/upload/a.jpg", "./a.jpg"])
    assert folder.locate("./a.jpg", "x") == "a.jpg"
    assert folder.find("/data/upload/a.jpg") is None


def test_a_suffix_is_mended_where_one_image_alone_can_be_meant(images):
    write_image(images / "both.jpg")
    write_image(images / "both.bmp")
    (images / "notes.txt").touch()
    folder = ImageFolder(images)
    written = ["both.png", "a.png", "a.jpg", "o365.v2", "notes.jpg", "patch16/o365.tif"]
    folder.settle(written)
    assert [folder.find(name) for name in written] == [
        None, None, "a.jpg", None, None, "patch16/o365.jpg"
    ]  # fmt: skip


def test_names_that_differ_in_case_alone_are_not_guessed(images):
    write_image(images / "b.jpg")
    assert ImageFolder(images).find("b.JPG") is None
    assert ImageFolder(images).find("B.JPG") == "B.JPG"


@pytest.mark.parametrize(
    ("stem", "found"),
    [("val2017/x", 1), ("labels/x", 1), ("x", 1), ("train2017/x", 0), ("a/Validation/x", 1)],
)
def test_an_image_of_that_name_in_another_split_is_another_image(tmp_path, stem, found):
    write_image(tmp_path / "images/val/x.jpg")
    assert ImageFolder(tmp_path / "images").of_stem(stem) == ["val/x.jpg"] * found


def coco(folder, *names):
    rows = [{"id": n, "file_name": name, "width": 64, "height": 48} for n, name in enumerate(names)]
    boxes = [annotation(n + 1, n, 1, [1, 2, 10, 10]) for n in range(len(names))]
    content = {"images": rows, "annotations": boxes, "categories": [{"id": 1, "name": "dog"}]}
    return write_json(folder / "coco.json", content)


@pytest.mark.parametrize(
    ("folder", "written", "found"),
    [
        ("valid/images", "train/images/1.jpg", None),
        ("images/val2017", "train2017/1.jpg", None),
        ("images/val2017", "train2017\\1.png", None),
        ("images/val2017", "val/1.jpg", "1.jpg"),
        ("images/val2017", "D:\\test\\pets\\val\\1.jpg", "1.jpg"),
        ("images/val2017", "pets/1.jpg", "1.jpg"),
        ("images", "train/1.jpg", "1.jpg"),
    ],
)
def test_a_path_is_not_cut_to_one_of_another_split(tmp_path, folder, written, found):
    write_image(tmp_path / folder / "1.jpg")
    assert ImageFolder(tmp_path / folder).find(written) == found


def test_one_image_under_two_spellings_is_one_image(images, tmp_path):
    path = coco(tmp_path, "sub\\a.png", "./sub/a.png")
    reading = read_coco(path, images)
    assert [row.image for row in rows_of(reading)] == ["sub/a.png"] * 2
    assert any("listed more than once" in note for note in reading.told())


def test_convert_tells_how_many_images_are_there(images, tmp_path, capsys):
    path, out = coco(tmp_path, "a.jpg", "images\\sub\\a.png", "no.jpg"), tmp_path / "out.jsonl"
    call = ["data", "convert", "coco", "--annotations", str(path), "--out", str(out)]
    assert main([*call, "--images", str(images)]) == 0
    said = capsys.readouterr().err
    assert f"note: 2 of 3 images found under {images}; 1 not as it is written, such as" in said
    assert "not there: 'no.jpg'" in said
    assert main([*call, "--images", str(tmp_path / "imgaes")]) == 2
    assert "imgaes: no such folder" in capsys.readouterr().err
