"""Twenty formats of trainers and annotation tools, each with what it holds, told beforehand."""

import json
import shutil
from pathlib import Path

import pytest

from boxrl.data.formats import READERS
from boxrl.data.formats.reading import Rejected
from boxrl.types import Sample
from tests.support.archives import boxes_of

GOLDEN = Path(__file__).parents[2] / "golden/formats"

# folder, file or folder in it, reader, options
READ = [
    ("csv_tf", "_annotations.csv", "csv", {}),
    ("csv_keras", "annotations.csv", "csv", {}),
    ("openimages", "train-annotations-bbox.csv", "csv", {}),
    ("cvat_xml", "annotations.xml", "cvat", {}),
    ("labelme", "street.json", "labelme", {}),
    ("label_studio", "export.json", "labelstudio", {}),
    ("label_studio", "min.json", "labelstudio", {}),
    ("odvg", "train.jsonl", "odvg", {}),
    ("mdetr", "final_mixed_train.json", "odvg", {}),
    ("hf_imagefolder", ".", "hf", {}),
    ("hf_parquet", "cppe5_like.parquet", "hf", {}),
    ("hf_parquet", "detection_datasets_like.parquet", "hf", {}),
    ("hf_parquet", "refcoco_lmms_like.parquet", "hf", {}),
    ("hf_parquet", "refcoco_jxu_like.parquet", "hf", {}),
    ("ms_swift_objects", "rows.jsonl", "chat", {}),
    ("ms_swift_v2", "rows.jsonl", "chat", {}),
    ("ms_swift_text", "rows_qwen2vl_0_1000.jsonl", "chat", {}),
    ("ms_swift_text", "rows_qwen25vl_pixels.jsonl", "chat", {"family": "plain"}),
    ("ms_swift_text", "rows_openai_parts.jsonl", "chat", {"family": "qwen3-vl"}),
    ("llama_factory", "messages.json", "chat", {"family": "qwen3-vl"}),
    ("llama_factory", "sharegpt.json", "chat", {"family": "qwen3-vl"}),
    ("llama_factory", "alpaca.json", "chat", {"family": "qwen3-vl"}),
    ("qwen_finetune", "rows.json", "chat", {"family": "qwen3-vl"}),
    ("paligemma_jsonl", "annotations.jsonl", "chat", {}),
    ("florence_jsonl", "annotations.jsonl", "chat", {}),
    ("internvl", "rows.jsonl", "chat", {}),
    ("visual_rft", "rows.json", "chat", {}),
    ("visdrone", ".", "visdrone", {}),
]


@pytest.fixture
def images(tmp_path):
    for name in ("street.png", "empty.png", "sub/street.png", "train/street.png",
                 "train/sub/empty.png"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(GOLDEN / "street.png", tmp_path / name)
    return tmp_path


def read(name, file, reader, options, images):
    """(samples, rejections, what was told) with every label asked for that can be."""
    function = READERS[reader]
    asked = {"mode": "all"} if "mode" in (function.__kwdefaults__ or {}) else {}
    if file.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    reading = function(GOLDEN / name / file, images, **asked, **options)
    rows = list(reading.rows)
    samples = [row for row in rows if isinstance(row, Sample)]
    return samples, [row for row in rows if isinstance(row, Rejected)], reading.told()


def expected_of(name, file):
    """What the file holds, image by image; images without a box apart."""
    told = json.loads((GOLDEN / name / "expected.json").read_text())
    rows = [row for row in told["samples"] if row.get("file", file) == file]
    return [row for row in rows if row["boxes"]], told["tolerance_px"]


@pytest.mark.parametrize(("name", "file", "reader", "options"), READ)
def test_boxes_and_labels_are_those_of_the_format(name, file, reader, options, images):
    samples, _, _ = read(name, file, reader, options, images)
    wanted, tolerance = expected_of(name, file)
    shown = [sample for sample in samples if sample.targets]
    if reader == "hf" and "refcoco" in file:  # a sample per sentence
        texts = [wanted[0]["labels"][0], *wanted[0]["also_expressions"]]
        assert [sample.question for sample in shown] == texts
        shown = shown[:1]
    assert len(shown) == len(wanted)
    for sample, row in zip(shown, wanted, strict=True):
        assert Path(sample.image).name in (row["image"], Path(row["image"]).name, "street.png")
        assert sample.size_wh == (row["width"], row["height"])
        crowd = row.get("iscrowd", [False] * len(row["boxes"]))
        targets = zip(row["labels"], row["boxes"], crowd, strict=True)
        kept = [(str(label), box) for label, box, region in targets if not region]
        found = [(item.label, item.bbox) for item in sample.targets]
        assert [label for label, _ in found] == [label for label, _ in kept]
        for (_, bbox), (_, box) in zip(found, kept, strict=True):
            assert bbox == pytest.approx(box, abs=max(tolerance, 1e-6))
        regions = {tuple(box) for box, region in zip(row["boxes"], crowd, strict=True) if region}
        ignored = [item.bbox for item in sample.ignored if item.bbox != (0, 0, *sample.size_wh)]
        assert {tuple(round(value, 3) for value in box) for box in ignored} == regions
        if "asked" in row:
            assert list(sample.labels) == row["asked"]


def test_every_folder_is_read():
    folders = {path.name for path in GOLDEN.iterdir() if path.is_dir()}
    assert folders == {name for name, *_ in READ}
    for name in folders:
        told = json.loads((GOLDEN / name / "expected.json").read_text())["samples"]
        files = {row["file"] for row in told if "file" in row}
        assert files <= {file for folder, file, *_ in READ if folder == name}


@pytest.mark.parametrize(
    ("name", "file", "reader", "options", "labels"),
    [
        ("csv_keras", "annotations.csv", "csv", {}, ["dog", "cat"]),
        ("cvat_xml", "annotations.xml", "cvat", {}, ["dog", "cat", "a & b"]),
        ("odvg", "train.jsonl", "odvg", {}, ["horse", "bird"]),  # dog and cat: the first row
        ("paligemma_jsonl", "annotations.jsonl", "chat", {}, ["zebra"]),
        ("visual_rft", "rows.json", "chat", {}, ["zebra"]),
        ("qwen_finetune", "rows.json", "chat", {"family": "qwen3-vl"}, ["zebra"]),
    ],
)
def test_an_image_without_objects_is_a_negative(name, file, reader, options, labels, images):
    samples, _, _ = read(name, file, reader, options, images)
    (negative,) = [sample for sample in samples if sample.is_negative]
    assert list(negative.labels) == labels


def test_only_verified_labels_of_open_images_are_absent(images):
    (sample,), _, _ = read("openimages", ".", "csv", {}, images)
    assert sample.labels == ("Dog", "Cat", "Horse")
    assert sample.meta["verified_absent"] == ["Horse"]


def test_cancelled_annotations_are_left_out_and_told(images):
    samples, rejected, told = read("label_studio", "export.json", "labelstudio", {}, images)
    assert [sample.id for sample in samples] == ["7"]  # 9 shows nothing of what 7 shows
    assert rejected == []
    assert "1 task without a finished annotation left out" in told


def test_a_point_is_no_box(images):
    _, (rejected,), _ = read("ms_swift_objects", "rows.jsonl", "chat", {}, images)
    assert "[192, 192] is a point" in rejected.reason


def test_pixels_of_the_resized_image_are_those_of_the_family(images):
    file, options = "rows_qwen25vl_pixels.jsonl", {"family": "qwen2.5-vl"}
    (sample,), _, _ = read("ms_swift_text", file, "chat", options, images)
    told = json.loads((GOLDEN / "ms_swift_text/expected.json").read_text())
    (row,) = [row for row in told["samples"] if row["file"] == file]
    for (_, bbox), box in zip(boxes_of(sample), row["boxes_if_resized_644x476"], strict=True):
        assert bbox == pytest.approx(box)


def test_numbers_without_names_are_told_of(images):
    _, _, told = read("hf_imagefolder", ".", "hf", {}, images)
    assert "labels are numbers, and no README.md or features name them; --names FILE does" in told
