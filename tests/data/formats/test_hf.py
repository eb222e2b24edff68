"""Image folders and parquet files of Hugging Face: forms of boxes, names of numbers, pixels."""

import io
import json
import sys

import pytest
from PIL import Image

from boxrl.cli import main
from boxrl.data.convert import convert
from boxrl.data.formats.box_forms import tell_form
from boxrl.data.formats.hf import read_hf
from boxrl.data.formats.parquet import ImageWriter
from boxrl.data.formats.reading import Rejected
from boxrl.errors import DataError, MissingExtra, UsageError
from boxrl.types import Sample
from tests.support.archives import boxes_of, write_image

SIDES = [[10, 10, 60, 50], [100, 20, 50, 60]]
CORNERS = [(10, 10, 70, 60), (100, 20, 150, 80)]


@pytest.fixture
def images(tmp_path):
    for name in ("a.png", "train/b.png"):
        write_image(tmp_path / "images" / name, (200, 100))
    return tmp_path / "images"


def split(reading):
    rows = list(reading.rows)
    samples = [row for row in rows if isinstance(row, Sample)]
    return samples, [row.reason for row in rows if isinstance(row, Rejected)]


def metadata(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    "objects",
    [
        {"bbox": SIDES, "categories": ["dog", "cat"]},
        {"bbox": SIDES, "category": ["dog", "cat"], "area": [3000, 3000], "id": [1, 2]},
        {"bboxes": SIDES, "labels": ["dog", "cat"]},
        {"bbox": SIDES, "category": [3, 5], "category_name": ["dog", "cat"]},
        [{"bbox": SIDES[0], "label": "dog"}, {"bbox": SIDES[1], "label": "cat"}],
        {"bbox": [list(box) for box in CORNERS], "category": ["dog", "cat"], "area": [3000, 3000]},
    ],
)
def test_objects_under_any_key_and_in_either_form(tmp_path, images, objects):
    path = metadata(images / "metadata.jsonl", {"file_name": "a.png", "objects": objects})
    for annotations in (path, images):
        (sample,), reasons = split(read_hf(annotations, images))
        assert (sample.id, sample.image, sample.size_wh) == ("a", "a.png", (200, 100))
        assert (boxes_of(sample), reasons) == (
            [*zip(("dog", "cat"), CORNERS, strict=True)], [],
        )  # fmt: skip


def test_metadata_of_folders_and_images_without_objects(tmp_path, images):
    metadata(
        images / "metadata.jsonl", {"file_name": "a.png", "objects": {"bbox": [], "label": []}}
    )
    row = {"file_name": "b.png", "objects": {"bbox": SIDES[1:], "label": ["dog"]}}
    metadata(images / "train/metadata.jsonl", row)
    samples, _ = split(read_hf(images, images, mode="all"))
    assert [(sample.image, sample.is_negative) for sample in samples] == [
        ("a.png", True), ("train/b.png", False),
    ]  # fmt: skip


def test_numbers_are_named_by_the_readme_or_by_a_file(tmp_path, images):
    metadata(images / "metadata.jsonl",
             {"file_name": "a.png", "objects": {"bbox": SIDES, "category": [0, 1]}})  # fmt: skip
    head = (
        "dataset_info:\n  features:\n  - name: x\n    class_label:\n      names:\n"
        "        '0': dog\n        '1': cat"
    )
    (images / "README.md").write_text(f"---\n{head}\n---\n# Pets\n")
    (sample,), _ = split(read_hf(images, images))
    assert sample.labels == ("dog", "cat")
    (tmp_path / "names").mkdir()
    (tmp_path / "names/classes.txt").write_text("hound\nkitten\n")
    (sample,), _ = split(read_hf(images, images, names=tmp_path / "names"))
    assert sample.labels == ("hound", "kitten")


def readme(images, *features, more=""):
    """README.md with features, each a line of YAML in flow style."""
    listed = "".join(f"\n  - {{{feature}}}" for feature in features)
    (images / "README.md").write_text(f"---\ndataset_info:\n  features:{listed}{more}\n---\n# x\n")


def classes(name, *names):
    listed = ", ".join(f"'{number}': {label}" for number, label in enumerate(names))
    return f"name: {name}, dtype: {{class_label: {{names: {{{listed}}}}}}}"


BOX = "{name: bbox, sequence: float32, length: 4}"
PETS, SCENES = ("dog", "cat"), ("indoor", "outdoor", "tunnel")


@pytest.mark.parametrize(
    ("features", "objects", "labels"),
    [
        ([classes("scene", *SCENES),
          f"name: objects, sequence: [{BOX}, {{{classes('category', *PETS)}}}]"], True, PETS),
        ([classes("category", *SCENES),
          f"name: objects, list: [{BOX}, {{{classes('category', *PETS)}}}]"], True, PETS),
        ([f"name: objects, struct: [{{{classes('category', *SCENES)}}}]",
          classes("category", *PETS)], False, PETS),
        # the labels' own column has no names
        ([classes("scene", *SCENES), f"name: objects, list: [{BOX}, {{name: category, "
          "dtype: int64}]"], True, ("0", "1")),
        ([classes("scene", *SCENES)], True, ("0", "1")),
        ([classes("label", *PETS)], True, PETS),
    ],
)  # fmt: skip
def test_numbers_are_named_by_the_column_of_the_labels(tmp_path, images, features, objects, labels):
    found = {"bbox": SIDES, "category": [0, 1]}
    row = {"file_name": "a.png", "scene": 0, **({"objects": found} if objects else found)}
    path = metadata(images / "metadata.jsonl", row)
    readme(images, *features)
    (sample,), _ = split(read_hf(path, images, mode="all"))
    assert [label for label, _ in boxes_of(sample)] == list(labels)
    assert sample.labels == tuple(labels)


@pytest.mark.parametrize(
    "features",
    [
        [classes("scene", *SCENES), classes("weather", "sun", "rain")],
        [f"name: objects, list: [{{{classes('category', *PETS)}}}]",
         f"name: objects, list: [{{{classes('category', *SCENES)}}}]"],
    ],
)  # fmt: skip
def test_numbers_that_several_lists_could_name_are_asked_for(tmp_path, images, features):
    row = {"file_name": "a.png", "objects": {"bbox": SIDES, "category": [0, 1]}}
    path = metadata(images / "metadata.jsonl", row)
    readme(images, *features)
    with pytest.raises(UsageError, match=r"could be those of '.*' or of '.*'; name them with --na"):
        read_hf(path, images)
    (images / "classes.txt").write_text("hound\nkitten\n")
    (sample,), _ = split(read_hf(path, images, names=images / "classes.txt"))
    assert sample.labels == ("hound", "kitten")


def test_labels_in_words_need_no_list_and_are_not_taken_from_another_s(tmp_path, images):
    row = {"file_name": "a.png", "objects": {"bbox": SIDES, "category": ["dog", "cat"]}}
    path = metadata(images / "metadata.jsonl", row)
    readme(images, classes("scene", *SCENES), classes("weather", "sun", "rain"))
    (sample,), _ = split(read_hf(path, images, mode="all"))
    assert sample.labels == ("cat", "dog")
    readme(images, classes("scene", *SCENES))
    (sample,), _ = split(read_hf(path, images, mode="all"))
    assert sample.labels == ("cat", "dog")


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        ({"bbox": [[10, 10, 600, 50], SIDES[1]], "label": ["dog", "cat"]}, "leaves the image"),
        ({"bbox": SIDES, "label": ["dog"]}, "2 boxes, but 1 label"),
        ({"bbox": SIDES, "label": [0, 1], "name": ["dog"]}, "2 boxes, but 1 name"),
        ({"label": ["dog"]}, "no boxes"),
        ("x", "expected boxes and labels"),
        ({"bbox": SIDES[0], "label": "dog"}, "one box, [10, 10, 60, 50]; expected lists"),
        ({"bbox": [SIDES[1]], "label": [None]}, "'label' must be of type str"),
    ],
)
def test_a_bad_row_is_told_by_its_line(tmp_path, images, objects, reason):
    path = metadata(images / "metadata.jsonl", {"file_name": "a.png", "objects": objects})
    samples, reasons = split(read_hf(path, images, mode="all"))
    assert f"{path}:1: " in reasons[0]
    assert reason in reasons[0]
    assert "dog" not in [label for sample in samples for label in sample.labels]


@pytest.mark.parametrize(
    ("boxes", "documented", "form"),
    [
        ([([10, 10, 50, 40], 2000, None)], None, "xywh"),
        ([([10, 10, 60, 50], 2000, None)], None, "xyxy"),
        ([([100, 10, 150, 40], None, (200, 100))], None, "xyxy"),
        ([([100, 10, 50, 40], None, (200, 100))], None, "xywh"),
        ([([10, 10, 50, 40], None, (200, 100))], "xywh", "xywh"),
        ([([10, 10, 50, 40], None, (200, 100))], None, None),
        ([("x", None, None)], None, "xywh"),
    ],
)
def test_the_form_of_boxes_is_told_by_what_contradicts_the_other(boxes, documented, form):
    if form is None:
        with pytest.raises(UsageError, match="--boxes xywh or --boxes xyxy"):
            tell_form(boxes, "x", None, documented)
        assert tell_form(boxes, "x", "xyxy") == "xyxy"
    else:
        assert tell_form(boxes, "x", None, documented) == form


def png(colour, size_wh=(200, 100)):
    buffer = io.BytesIO()
    Image.new("RGB", size_wh, colour).save(buffer, "PNG")
    return buffer.getvalue()


def parquet(path, rows):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(arrow.Table.from_pylist(rows), path)
    return path


def test_features_of_parquet_files_name_the_labels_of_every_file(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import read_table, write_table

    def write(name, *labels):
        objects = {"bbox": [[float(v) for v in SIDES[1]]], "category": [0]}
        content = {"image": {"bytes": png("red"), "path": f"{name}.png"}, "scene": 0}
        path = parquet(tmp_path / f"data/{name}.parquet", [{**content, "objects": objects}])
        category = {"feature": {"names": list(labels), "_type": "ClassLabel"}, "_type": "List"}
        scene = {"names": list(SCENES), "_type": "ClassLabel"}
        objects = {"bbox": {"_type": "List"}, "category": category}
        features = {"info": {"features": {"image": {}, "scene": scene, "objects": objects}}}
        told = {"huggingface": json.dumps(features)}
        write_table(read_table(path).replace_schema_metadata(told), path)

    assert arrow
    write("one", "dog", "cat")
    write("two", "dog", "cat")
    samples, _ = split(read_hf(tmp_path / "data", tmp_path / "images"))
    assert [sample.labels for sample in samples] == [("dog",), ("dog",)]
    write("two", "cat", "dog")
    with pytest.raises(UsageError, match="could be those of 'dog, cat' or of 'cat, dog'"):
        read_hf(tmp_path / "data", tmp_path / "images")


def row(content, path="a.png", **more):
    objects = {"bbox": [[float(v) for v in SIDES[1]]], "category": ["dog"]}
    return {"image": {"bytes": content, "path": path}, "objects": objects, **more}


def test_images_of_parquet_files_are_written_once_and_over_nothing(tmp_path):
    write_image(tmp_path / "images/a.png", (30, 30))
    rows = [row(png("red")), row(png("blue")), row(png("red")), row(png("green"), None)]
    path = parquet(tmp_path / "data/train.parquet", rows)
    samples, reasons = split(read_hf(tmp_path / "data", tmp_path / "images"))
    assert reasons == []
    names = [sample.image for sample in samples]
    assert names[0] == names[2] != names[1]
    assert len(set(names)) == 3
    with Image.open(tmp_path / "images/a.png") as kept:
        assert kept.size == (30, 30)
    again, _ = split(read_hf(path, tmp_path / "images"))
    assert [sample.image for sample in again] == names
    assert {file.name for file in (tmp_path / "images").iterdir()} == {"a.png", *names}


def test_images_that_were_just_written_are_found_and_splits_read_as_one_are_told(tmp_path):
    for name, content in (("train", "red"), ("test", "blue")):
        rows = [row(png(content), f"{name}.png"), row(png("green"), f"{name}2.png")]
        parquet(tmp_path / f"data/{name}-00000-of-00001.parquet", rows)
    told = read_hf(tmp_path / "data", tmp_path / "images").told()
    assert f"4 of 4 images found under {tmp_path / 'images'}" in told
    assert any(
        note.startswith("the splits test, train are read as one; name a file") for note in told
    )


def test_a_row_that_tells_another_size_than_its_image_has_is_rejected(tmp_path):
    rows = [
        row(png("red"), width=400, height=200),
        row(png("blue"), "b.png", width=200, height=100),
    ]
    path = parquet(tmp_path / "train.parquet", rows)
    samples, (reason,) = split(read_hf(path, tmp_path / "images"))
    assert [sample.image for sample in samples] == ["b.png"]
    assert "row 1: the row says that its image has 400 x 200 px, and it has 200 x 100" in reason


def test_a_name_with_folders_stays_in_the_folder_and_what_is_no_image_is_rejected(tmp_path):
    rows = [row(png("red"), "../../../etc/x.png"), row(b"<html>", "b.png")]
    path = parquet(tmp_path / "train.parquet", rows)
    samples, reasons = split(read_hf(path, tmp_path / "images"))
    assert [sample.image for sample in samples] == ["x.png"]
    assert "train.parquet: row 2: " in reasons[0]
    assert [file.name for file in (tmp_path / "images").iterdir()] == ["x.png"]


def test_a_link_that_lies_where_an_image_goes_is_not_followed(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="is a link"):
        ImageWriter(tmp_path / "images").write(png("red"), "a.png", "x")


def test_a_damaged_file_and_a_missing_library_are_told(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pyarrow")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match="not a readable parquet file"):
        read_hf(tmp_path / "x.parquet", tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r'pip install "boxrl\[parquet\]"'):
        read_hf(tmp_path / "x.parquet", tmp_path)
    call = ["data", "convert", "hf", "--annotations", str(tmp_path / "x.parquet"), "--images",
            str(tmp_path / "new"), "--out", str(tmp_path / "out.jsonl")]  # fmt: skip
    assert main(call) == 2
    assert "boxrl[parquet]" in capsys.readouterr().err


def test_shares_of_a_mirror_are_not_taken_for_pixels(tmp_path, images):
    said = {"file_name": "a.png", "bbox": [0.1, 0.2, 0.5, 0.6], "answer": ["the dog"]}
    reading = read_hf(metadata(tmp_path / "metadata.jsonl", said), images, boxes="xyxy")
    with pytest.raises(DataError, match="no coordinate is more than 2"):
        convert(reading, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("box", [None, [1, 2], [1, 2, 3, "x"]])
def test_a_mirror_s_row_without_a_box_is_rejected(tmp_path, images, box):
    said = {"sentences": [{"sent": "the dog"}], "segmentation": [10, 10, 60, 10, 60, 50]}
    rows = [{"file_name": "a.png", "bbox": each, **said} for each in (box, [10, 10, 60, 50])]
    rows[0]["raw_anns"] = json.dumps({"bbox": [1, 2, "x", None]})
    path = metadata(tmp_path / "metadata.jsonl", *rows)
    (sample,), (reason,) = split(read_hf(path, images))
    assert boxes_of(sample) == [("the dog", (10, 10, 60, 50))]
    assert "metadata.jsonl:1: bbox" in reason


def test_sentences_of_a_mirror_are_grounding_samples(tmp_path):
    content = {"image": {"bytes": png("red"), "path": "a.png"}, "question_id": "7"}
    said = {"answer": ["the dog", "a brown dog"], "bbox": [10.0, 10.0, 60.0, 50.0]}
    outline = [10.0, 10.0, 60.0, 10.0, 60.0, 50.0]
    path = parquet(tmp_path / "x.parquet", [{**content, **said, "segmentation": outline}])
    samples, _ = split(read_hf(path, tmp_path / "images"))
    assert [(sample.id, sample.question) for sample in samples] == [
        ("7/1", "the dog"), ("7/2", "a brown dog"),
    ]  # fmt: skip
    assert boxes_of(samples[0]) == [("the dog", (10, 10, 60, 50))]
    path = parquet(tmp_path / "y.parquet", [{**content, **said}])
    with pytest.raises(UsageError, match="--boxes"):
        read_hf(path, tmp_path / "images")
    (first, _), _ = split(read_hf(path, tmp_path / "images", boxes="xywh"))
    assert boxes_of(first) == [("the dog", (10, 10, 70, 60))]
