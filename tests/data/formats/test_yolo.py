"""YOLO data sets as ultralytics and annotation tools write them."""

import json
from pathlib import Path

import pytest
from PIL import Image

from boxrl.data.formats.reading import Rejected
from boxrl.data.formats.yolo import read_yolo
from boxrl.data.formats.yolo_places import IMAGE_SUFFIXES, LabelFiles
from boxrl.data.images import MAX_PIXELS
from boxrl.errors import DataError, UsageError
from boxrl.types import Sample
from tests.data.lint.test_lint import huge_png
from tests.support.archives import boxes_of, rows_of, write_image

GOLDEN = Path(__file__).parents[2] / "golden/yolo"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
BOX = "0 0.5 0.5 0.2 0.4\n"


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def yolo_folder(root, labels="labels/train", images="images/train", yaml="data.yaml"):
    """The usual layout: data.yaml above labels/train and images/train."""
    write_image(root / images / "a.jpg", (200, 100))
    write_image(root / images / "b.png", (100, 100))
    write(root / labels / "a.txt", f"{BOX}\n1 0.1 0.1 0.1 0.1\n")
    write(root / labels / "b.txt", "")
    write(root / yaml, "path: .\nnames:\n- cat\n- dog\n")
    return root / labels, root / images


def read(annotations, images, **options):
    """(samples by id, reasons of rejections, notes)."""
    reading = read_yolo(annotations, images, **options)
    rows = rows_of(reading)
    samples = {row.id: row for row in rows if isinstance(row, Sample)}
    return samples, [row.reason for row in rows if isinstance(row, Rejected)], reading.told()


def cut(box, size_wh):
    """The box inside the image; None where nothing remains."""
    width, height = size_wh
    x1, y1, x2, y2 = box
    inside = (max(0, x1), max(0, y1), min(width, x2), min(height, y2))
    return inside if inside[0] < inside[2] and inside[1] < inside[3] else None


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """What is read of the golden label files beside images of the sizes told."""
    images = tmp_path_factory.mktemp("golden") / "images"
    for name in EXPECTED:
        if not name.startswith("_"):
            write_image(images / f"{name}.png", (640, 480))
    exif = Image.Exif()
    exif[0x0112] = 6
    (images / "exif6.png").unlink()
    Image.new("RGB", (640, 480)).save(images / "exif6.jpg", exif=exif)
    return read(GOLDEN / "labels", images, mode="all")


@pytest.mark.parametrize("name", [name for name in EXPECTED if not name.startswith("_")])
def test_a_label_file_is_read_as_ultralytics_reads_it(golden, name):
    samples, reasons, _ = golden
    expected = EXPECTED[name]
    assert (name in samples) == expected["usable"]
    if not expected["usable"]:
        assert any(f"/{name}.txt:" in reason for reason in reasons)
        return
    assert samples[name].size_wh == tuple(expected["size_wh"])
    pairs = zip(expected["classes"], expected["boxes_xyxy"], strict=True)
    cuts = [(("dog", "cat")[number], cut(box, expected["size_wh"])) for number, box in pairs]
    found = boxes_of(samples[name])
    kept = [(label, box) for label, box in cuts if box]
    assert [label for label, _ in found] == [label for label, _ in kept]
    for (_, box), (_, wanted) in zip(found, kept, strict=True):
        assert box == pytest.approx(wanted, abs=1e-3)
    lost = {label for label, box in cuts if box is None}
    assert not lost.intersection(samples[name].labels)


def test_golden_notes_count_images_without_objects_and_repeated_lines(golden):
    _, _, notes = golden
    assert "2 images without objects: 1 without a label file, 1 with an empty one" in notes
    assert "1 repeated line left out" in notes


def test_suffixes_of_ultralytics_are_images_in_any_case():
    assert {f".{suffix}" for suffix in EXPECTED["_image_suffixes"]} <= IMAGE_SUFFIXES


@pytest.mark.parametrize(("image", "label"), EXPECTED["_img2label"].items())
def test_labels_lie_where_ultralytics_looks_for_them(image, label, tmp_path):
    write(tmp_path / label[1:], BOX)
    files = LabelFiles(write(tmp_path / "data.yaml", "names: [a]"), tmp_path)
    assert files.of(image[1:]) == tmp_path / label[1:]


@pytest.mark.parametrize("path", ["", "path: .\n", "path: {root}\n", "path: ../{name}\n"])
def test_data_yaml_alone_tells_where_the_images_of_its_splits_lie(tmp_path, path):
    root = tmp_path / "set"
    yolo_folder(root)
    write_image(root / "runs" / "plot.jpg", (10, 10))  # of no split
    yaml = path.format(root=root, name=root.name) + "names: [cat, dog]\ntrain: images/train\n"
    write(root / "data.yaml", yaml)
    samples, rejected, _ = read(root / "data.yaml", None, mode="all")
    known, *_ = read(root / "data.yaml", root, mode="all", split="train")
    assert samples == known and list(samples) == ["images/train/a", "images/train/b"]
    assert not rejected


@pytest.mark.parametrize("images", ["images", None])
def test_splits_that_are_read_as_one_are_told(tmp_path, images):
    yolo_folder(tmp_path)
    write_image(tmp_path / "images/val/c.jpg")
    write(tmp_path / "labels/val/c.txt", "")
    yaml = "names: [cat, dog]\ntrain: images/train\nval: [images/val, v.txt]\ntest: images/test\n"
    write(tmp_path / "v.txt", "images/val/gone.jpg\n")
    path, folder = write(tmp_path / "data.yaml", yaml), images and tmp_path / images
    told = "the splits train, val are read as one; --split takes one of them"
    if folder:
        notes = read(path, folder)[2]
        assert told in notes and notes[0].startswith("3 of 3 images found")
        assert told not in read(path, folder / "train")[2]
        assert told not in read(path, folder, split="val")[2]
    else:
        write_image(tmp_path / "images/test/d.jpg")  # left out: there are no labels
        assert told in read(path, folder, mode="all")[2]


@pytest.mark.parametrize(
    ("content", "reason"),
    [("", "lists no split"), ("path: nowhere\ntrain: images/train", "'nowhere' is no folder here")],
)
def test_a_data_set_that_is_not_found_needs_its_images_named(tmp_path, content, reason):
    yolo_folder(tmp_path)
    write(tmp_path / "data.yaml", f"names: [cat, dog]\n{content}\n")
    with pytest.raises(UsageError, match=f"{reason}.*--images names"):
        read_yolo(tmp_path / "data.yaml", None)


def test_shares_become_pixels(tmp_path):
    (sample,) = rows_of(read_yolo(*yolo_folder(tmp_path)))
    assert (sample.id, sample.image, sample.size_wh) == ("a", "a.jpg", (200, 100))
    assert sample.labels == ("cat", "dog")
    assert boxes_of(sample) == [
        ("cat", pytest.approx((80, 30, 120, 70))),
        ("dog", pytest.approx((10, 5, 30, 15))),
    ]


@pytest.mark.parametrize(
    ("labels", "images"),
    [("train/labels", "valid/images"), ("labels/train", "images/val")],
)
def test_labels_of_one_split_are_not_those_of_another_s_images(tmp_path, labels, images):
    for folder in (labels, images):
        other = folder.replace("labels", "images")
        write_image(tmp_path / other / "0001.jpg", (200, 100))
        write(tmp_path / other.replace("images", "labels") / "0001.txt", BOX)
    write(tmp_path / "data.yaml", "names: [dog, cat]")
    samples, reasons, _ = read(tmp_path / labels, tmp_path / images)
    assert samples == {}
    assert "lies in a folder called train, and 0001.jpg in one called val" in reasons[0]


@pytest.mark.parametrize(
    ("annotations", "images", "ids"),
    [
        ("rf/data.yaml", "rf/train/images", ["a"]),
        ("rf/train/labels", "rf/train/images", ["a"]),
        ("rf", "rf", ["train/images/a"]),
        ("ul/data.yaml", "ul/images/train", ["b", "sub/a"]),
        ("ul/data.yaml", "ul/images", ["train/b", "train/sub/a"]),
        ("ul/labels/train", "ul/images/train", ["b", "sub/a"]),
        ("side", "side", ["a"]),
        ("images/proj/data.yaml", "images/proj/images/train", ["a"]),  # the last "images" alone
    ],
)
def test_layouts(tmp_path, annotations, images, ids):
    for place in ("rf/train/images/a", "ul/images/train/sub/a", "ul/images/train/b", "side/a",
                  "images/proj/images/train/a"):  # fmt: skip
        write_image(tmp_path / f"{place}.jpg", (200, 100))
        write(tmp_path / "/labels/".join(f"{place}.txt".rsplit("/images/", 1)), BOX)
    for root in ("rf", "ul", "side", "images/proj"):
        write(tmp_path / root / "data.yaml", "names: [dog]")
    samples, reasons, _ = read(tmp_path / annotations, tmp_path / images)
    assert (list(samples), reasons) == (ids, [])
    assert all(len(sample.objects) == 1 for sample in samples.values())


SPLIT = {
    "a folder": "train: images/train\nval: images/val\n",
    "a folder below path": "path: set\ntrain: images/train\n",
    "a path that is elsewhere": "path: ../datasets/gone\ntrain: images/train\n",
    "a folder as Roboflow writes it": "train: ../images/train\n",
    "a list of files": "train: train.txt\n",
    "several": "train: [images/train, images/more]\n",
}


@pytest.mark.parametrize("entry", SPLIT)
def test_a_split_of_data_yaml_is_read_alone(tmp_path, entry):
    root = tmp_path / "set"
    for name in ("train/a", "train/b", "val/c", "more/d"):
        write_image(root / f"images/{name}.jpg", (200, 100))
        write(root / f"labels/{name}.txt", BOX)
    write(root / "train.txt", "./images/train/a.jpg\n\nimages/train/b.jpg\n")
    path = write(root / "data.yaml", SPLIT[entry] + "names: [dog]\n")
    if "path: set" in SPLIT[entry]:
        path = write(tmp_path / "data.yaml", SPLIT[entry] + "names: [dog]\n")
    samples, reasons, _ = read(path, root, split="train")
    ids = ["images/more/d"] if entry == "several" else []
    assert (list(samples), reasons) == ([*ids, "images/train/a", "images/train/b"], [])


def test_splits_that_are_not_there_are_told(tmp_path):
    labels, images = yolo_folder(tmp_path)
    write(tmp_path / "data.yaml", "train: images/train\nvalidation: elsewhere\nnames: [dog]\n")
    with pytest.raises(UsageError, match="no split 'tset'; splits: train, validation"):
        read_yolo(labels, images, split="tset")
    for split in ("val", "valid", "validation"):
        with pytest.raises(DataError, match="'elsewhere' is neither folder nor list"):
            read_yolo(labels, images, split=split)


def test_images_without_objects_are_negatives_and_counted(tmp_path):
    labels, images = yolo_folder(tmp_path)
    write_image(images / "c.jpg", (50, 50))
    samples, _, notes = read(labels, images, mode="all")
    assert {key: len(sample.objects) for key, sample in samples.items()} == {"a": 2, "b": 0, "c": 0}
    assert "2 images without objects: 1 without a label file, 1 with an empty one" in notes
    samples, _, _ = read(labels, images, negatives=1)
    assert [samples[key].is_negative for key in "abc"] == [False, True, True]


def test_images_for_whose_labels_there_is_no_folder_are_no_negatives(tmp_path):
    labels, _ = yolo_folder(tmp_path)
    write_image(tmp_path / "images/test/c.jpg", (50, 50))
    for annotations in (labels, tmp_path / "data.yaml"):
        samples, _, notes = read(annotations, tmp_path / "images", mode="all")
        assert list(samples) == ["train/a", "train/b"]
        left_out = "1 image left out, such as 'test/c.jpg': there is no folder"
        assert any(note.startswith(left_out) for note in notes)
    (tmp_path / "labels/test").mkdir()
    samples, _, _ = read(tmp_path / "data.yaml", tmp_path / "images", mode="all")
    assert samples["test/c"].is_negative


def test_without_a_single_label_file_nothing_is_taken_for_empty(tmp_path):
    for name in "ab":
        write_image(tmp_path / f"images/{name}.jpg")
    path = write(tmp_path / "data.yaml", "names: [dog]")
    with pytest.raises(DataError, match=r"no \.txt label file of any image"):
        read_yolo(path, tmp_path / "images")


def test_labels_outside_of_the_named_folder_are_not_overlooked(tmp_path):
    yolo_folder(tmp_path)
    write_image(tmp_path / "images/val/c.jpg")
    write(tmp_path / "labels/val/c.txt", BOX)
    samples, reasons, _ = read(tmp_path / "labels/train", tmp_path / "images", mode="all")
    assert "val/c" not in samples
    assert "the labels of val/c.jpg lie outside" in reasons[-1]


@pytest.mark.parametrize(
    ("line", "where", "reason"),
    [
        ("0 0.5 0.5 nan 0.4", "b.txt:2", "not finite"),
        ("0 0.5 0.5 inf 0.4", "b.txt:2", "not finite"),
        ("0 0.5 0.5 2 2", "b.txt:2", "expected shares of the image"),
        ("5 0.5 0.5 0.1 0.1", "b.txt:2", "class 5; data.yaml names 0 to 1"),
        ("0 0.5 0.5 0.1", "b.txt:2", "4 fields; expected 5"),
        ("0 0.5 0.5 0.1 0.1 0.9", "b.txt:2", "the sixth is a confidence"),
        ("cat 0.5 0.5 0.1 0.1", "b.txt:2", "are not numbers"),
        ("0 0,5 0,5 0,1 0,1", "b.txt:2", "are not numbers"),
        ("1 0.1 0.1 0.3 0.1 0.3 0.5 0.1 0.5", "b.txt:1", "a box among outlines"),
    ],
)
def test_a_line_that_ultralytics_refuses_rejects_its_image(tmp_path, line, where, reason):
    labels, images = yolo_folder(tmp_path)
    write(labels / "b.txt", f"0 0.5 0.5 0.5 0.5\n{line}\n")
    samples, (told,), _ = read(labels, images, mode="all")
    assert f"{labels}/{where}: " in told
    assert reason in told
    assert list(samples) == ["a"]


def test_a_box_of_which_nothing_is_left_hides_its_label(tmp_path):
    labels, images = yolo_folder(tmp_path)
    write(labels / "b.txt", "0 0.5 0.5 0 0.1\n1 0.5 0.5 0.1 0.1\n")
    samples, (told,), _ = read(labels, images, mode="all")
    assert "b.txt:1: " in told
    assert "zero width" in told
    assert samples["b"].labels == ("dog",)


@pytest.mark.parametrize("form", ["centres", "corners", "left top"])
def test_lines_that_are_no_centres_and_sizes_are_told_by_boxes_beyond_the_image(tmp_path, form):
    labels, images = yolo_folder(tmp_path)
    boxes = [(n / 20, n / 30, n / 20 + 0.4, n / 30 + 0.5) for n in range(12)]
    sized = [(x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes]
    rows = {"corners": boxes, "left top": sized,
            "centres": [(x + w / 2, y + h / 2, w, h) for x, y, w, h in sized]}[form]  # fmt: skip
    write(labels / "b.txt", "\n".join("0 " + " ".join(map(str, row)) for row in rows))
    if form != "centres":
        with pytest.raises(DataError, match="boxes leave their image; a line is"):
            read(labels, images)
    else:
        _, _, notes = read(labels, images)
        assert not any("leave" in note for note in notes)
    write(labels / "b.txt", "0 0.9 0.5 0.4 0.2")
    assert "1 box beyond the image, cut to it" in read(labels, images)[2]


def test_polygons_and_turned_boxes_give_their_hull(tmp_path):
    labels, images = yolo_folder(tmp_path)
    write(labels / "a.txt", "1 0.1 0.1 0.3 0.1 0.2 0.5\n")
    write(labels / "b.txt", "0 0.1 0.1 0.3 0.12 0.29 0.5 0.09 0.48\n")
    samples, _, _ = read(labels, images)
    assert boxes_of(samples["a"]) == [("dog", pytest.approx((20, 10, 60, 50)))]
    assert boxes_of(samples["b"]) == [("cat", pytest.approx((9, 10, 30, 50)))]


def test_keypoints_stand_behind_the_box_where_data_yaml_says_so(tmp_path):
    labels, images = yolo_folder(tmp_path)
    write(labels / "a.txt", "0 0.5 0.5 0.2 0.4 0.45 0.4 1 0.55 0.6 1\n")
    _, (told,), _ = read(labels, images)
    assert "reads as a box with keypoints; name kpt_shape" in told
    write(tmp_path / "data.yaml", "names: [cat, dog]\nkpt_shape: [2, 3]\n")
    samples, _, _ = read(labels, images)
    assert boxes_of(samples["a"]) == [("cat", pytest.approx((80, 30, 120, 70)))]


@pytest.mark.parametrize(
    "text",
    ["0\t0.5\t0.5\t0.2\t0.4\n", "0 0.5 0.5 0.2 0.4\r\n", "0.0 0.5 0.5 0.2 0.4\n", "\ufeff" + BOX,
     "0.000000000000000000e+00 5.0e-01 5.0e-01 2.0e-01 4.0e-01\n", "0 5e-1 5e-1 2e-1 4e-1  \n\n",
     3 * BOX.replace("\n", "\r")],
)  # fmt: skip
def test_numbers_in_any_form(tmp_path, text):
    labels, images = yolo_folder(tmp_path)
    write(labels / "a.txt", text)
    samples, _, _ = read(labels, images)
    assert boxes_of(samples["a"]) == [("cat", pytest.approx((80, 30, 120, 70)))]


def test_images_of_any_suffix_and_case_and_hidden_files(tmp_path):
    write(tmp_path / "data.yaml", "names: [dog]")
    kinds = {"a.Jpg": "JPEG", "b.TIF": "TIFF", "c.jfif": "JPEG", "d.avif": "AVIF", "e.jpg": "JPEG",
             "g.v2.jpg": "JPEG", "h.JPG": "JPEG", "i.tiff": "TIFF", "j.gif": "GIF"}  # fmt: skip
    (tmp_path / "images").mkdir()
    for name, kind in kinds.items():
        Image.new("RGB", (200, 100)).save(tmp_path / "images" / name, kind)
        stem = "e.jpg" if name == "e.jpg" else name.rpartition(".")[0]
        write(tmp_path / "labels" / f"{stem}.txt", BOX)
    write(tmp_path / "images/Thumbs.db", "x")
    write(tmp_path / "labels/._a.txt", "x")
    samples, reasons, _ = read(tmp_path / "labels", tmp_path / "images")
    assert [sample.image for sample in samples.values()] == list(kinds)
    assert reasons == []


def test_a_label_file_of_two_images_is_neither_s(tmp_path):
    labels, images = yolo_folder(tmp_path)
    write_image(images / "a.png", (300, 300))
    samples, reasons, _ = read(labels, images, mode="all")
    assert list(samples) == ["b"]
    assert ["another image" in reason for reason in reasons] == [True, True]


@pytest.mark.parametrize(
    ("image", "label", "reason"),
    [
        (huge_png(), b"", f"more than {MAX_PIXELS:,} pixels"),
        (b"<html>", b"", "not a readable image"),
        (None, b"0 0.5 0.5 caf\xe9 0.1\n", "UTF-8"),
    ],
)
def test_a_bad_image_or_text_is_rejected_and_the_rest_is_read(tmp_path, image, label, reason):
    labels, images = yolo_folder(tmp_path)
    (labels / "b.txt").write_bytes(label)
    if image is not None:
        (images / "b.png").write_bytes(image)
    samples, (told,), _ = read(labels, images, mode="all")
    assert told.startswith(f"{labels / 'b.txt'}:1: ")
    assert reason in told
    assert len(samples["a"].objects) == 2


def test_a_label_file_without_image_is_rejected(tmp_path):
    labels, images = yolo_folder(tmp_path)
    write(labels / "b.txt", BOX)
    (images / "b.png").unlink()
    _, (told,), _ = read(labels, images)
    assert told.startswith(f"{labels / 'b.txt'}:1: no image b.jpg")


def test_label_files_of_another_split_s_images_are_left_out_and_told(tmp_path):
    _, images = yolo_folder(tmp_path)
    write_image(tmp_path / "images/val/c.jpg")
    write(tmp_path / "labels/val/c.txt", BOX)
    write(tmp_path / "labels/val/gone.txt", BOX)
    samples, (told,), notes = read(tmp_path, images)
    assert list(samples) == ["a"]
    assert told.startswith(f"{tmp_path / 'labels/val/gone.txt'}:1: no image gone.jpg")
    assert f"1 label file of images outside of {images} left out" in notes
