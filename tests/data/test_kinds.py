"""A file that the wrong reader was named for: what it is, and what reads it."""

import json
import tarfile

import pytest

from boxrl.cli import main
from boxrl.data.kinds import way_out
from tests.support.archives import GOLDEN, REX_OMNI, coco_document, lvis_document, write_json

FILES = {
    "x.json": (json.dumps(coco_document()), "convert coco"),
    "lvis.json": (json.dumps(lvis_document()), "convert lvis"),
    "results.json": ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.9}]',
                     "boxrl coco-eval --predictions"),
    "captions.json": ('{"images": [], "annotations": [{"caption": "a dog"}]}', "has no boxes"),
    "via.json": ('{"a.jpg1": {"regions": [{"shape_attributes": {"name": "rect"}}]}}',
                 "a VIA project: docs/howto/add_dataset.md"),
    "via.csv": ("filename,region_shape_attributes\n", "a VIA project: docs/howto/add_dataset.md"),
    "createml.json": ('[{"image": "a.jpg", "annotations": [{"coordinates": {"x": 1}}]}]',
                      "a CreateML file: docs/howto/add_dataset.md"),
    "rex.jsonl": (json.dumps(REX_OMNI), "convert rexomni"),
    "refs.json": ('[{"image": "a.jpg", "expression": "a dog", "bbox": [1, 2, 3, 4]}]',
                  "a list of referring expressions"),
    "labelbox.ndjson": ('{"data_row": {"external_id": "a.jpg"}}', "a Labelbox export: docs/howto"),
    "supervisely.json": ('{"objects": [{"classTitle": "dog"}]}', "Supervisely: export it as COCO"),
    "darwin.json": ('{"item": {}, "annotations": [{"bounding_box": {"x": 1}}]}', "V7 Darwin: exp"),
    "datumaro.json": ('{"items": [{"annotations": [{"label_id": 0}]}]}', "Datumaro: export it as"),
    "x.manifest": ('{"source-ref": "s3://x/a.jpg"}', "a SageMaker manifest: docs/howto"),
    "vott.json": ('{"asset": {}, "regions": [{"boundingBox": {}}]}', "a VoTT project: docs/howto"),
    "bdd.json": ('[{"labels": [{"box2d": {"x1": 1}}]}]', "BDD100K: docs/howto"),
    "fiftyone.json": ('{"detections": [{"bounding_box": [0.1]}]}', "a FiftyOne data set: export"),
    "x.ndjson": ('{"type": "dataset", "class_names": {}}', "NDJSON: download it as YOLO"),
    "voc.xml": ("<annotation><filename>a.jpg</filename></annotation>", "convert voc"),
    "kitti.txt": ("Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65 1.71 46.70 0",
                  "KITTI: docs/howto"),
    "dota.txt": ("imagesource:GoogleEarth\ngsd:0.1\n", "DOTA: docs/howto"),
    "yolo.txt": ("0 0.5 0.5 0.2 0.4\n", "convert yolo"),
    "data.yaml": ("path: .\ntrain: images/train\nnames: [cat, dog]\n", "convert yolo"),
    "crowd.odgt": ('{"ID": "1", "gtboxes": []}', "CrowdHuman: docs/howto"),
    "samples.jsonl": ('{"id": "1", "image": "a", "task": "detection", "labels": ["dog"]}',
                      "needs no conversion"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_kind_is_told_by_its_first_bytes(tmp_path, name):
    content, said = FILES[name]
    (tmp_path / name).write_text(content)
    assert said in way_out(tmp_path / name, "clevr")
    own = said.removeprefix("convert ") if said.startswith("convert ") else "samples"
    silent = said.startswith("convert ") or "no conversion" in said
    assert (way_out(tmp_path / name, own) == "") == silent


@pytest.mark.parametrize(
    ("file", "reader"),
    [
        ("csv_tf/_annotations.csv", "csv"),
        ("openimages/train-annotations-bbox.csv", "csv"),
        ("cvat_xml/annotations.xml", "cvat"),
        ("florence_jsonl/annotations.jsonl", "chat"),
        ("hf_imagefolder/train", "hf"),
        ("hf_parquet/cppe5_like.parquet", "hf"),
        ("internvl/rows.jsonl", "chat"),
        ("label_studio/export.json", "labelstudio"),
        ("label_studio/min.json", "labelstudio"),
        ("labelme/street.json", "labelme"),
        ("llama_factory/alpaca.json", "chat"),
        ("mdetr/final_mixed_train.json", "odvg"),
        ("ms_swift_objects/rows.jsonl", "chat"),
        ("ms_swift_v2/rows.jsonl", "chat"),
        ("odvg/train.jsonl", "odvg"),
        ("paligemma_jsonl/annotations.jsonl", "chat"),
        ("qwen_finetune/rows.json", "chat"),
        ("visdrone/annotations", "visdrone"),
        ("visual_rft/rows.json", "chat"),
    ],
)
def test_every_golden_format_is_told(file, reader):
    assert f"boxrl data convert {reader} --annotations" in way_out(GOLDEN / file, "clevr")
    assert way_out(GOLDEN / file, reader) == ""


def test_archives_of_records_are_told(tmp_path):
    write_json(tmp_path / "1.json", coco_document())
    with tarfile.open(tmp_path / "shard-0001.tar", "w") as archive:
        archive.add(tmp_path / "1.json", "1.json")
    told = way_out(tmp_path / "shard-0001.tar", "hf")
    assert "it looks like a tar archive, as WebDataset's: unpack it" in told
    (tmp_path / "x.tfrecord").write_bytes(b"\x10\0\0\0\0\0\0\0\xff\n\x18image/object/bbox/xmin\x12")
    assert "a TFRecord file: docs/howto" in way_out(tmp_path / "x.tfrecord", "csv")


@pytest.mark.parametrize("content", ["", "hello", '{"a": 1}', "[1, 2]", "\x00\x01"])
def test_what_is_not_known_is_not_guessed(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    assert way_out(tmp_path / "x.json", "coco") == ""
    assert way_out(tmp_path / "gone.json", "coco") == ""


def test_convert_stats_and_lint_name_the_way_out(tmp_path, capsys):
    path = GOLDEN / "labelme/street.json"
    call = [
        "--annotations",
        str(path),
        "--images",
        str(tmp_path),
        "--out",
        str(tmp_path / "o.jsonl"),
    ]
    assert main(["data", "convert", "coco", *call]) == 1
    assert f"it looks like a LabelMe file: boxrl data convert labelme --annotations {path} ..." in (
        capsys.readouterr().err
    )
    assert main(["data", "stats", str(GOLDEN / "odvg/train.jsonl")]) == 1
    assert "boxrl data convert odvg" in capsys.readouterr().err
