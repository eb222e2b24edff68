"""Values that are JSON but no size, count or box: one line says so, whatever the verb."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boxrl.cli import main
from boxrl.data.predictions import parse_prediction
from boxrl.data.samples import parse_sample, read_samples, write_samples
from boxrl.errors import DataError
from boxrl.evaluate.judging import Question, judge
from boxrl.evaluate.rows import Row, decode_row, encode_row
from boxrl.families import FAMILIES
from boxrl.types import Object, Sample

HUGE = 10**400
"""More than any float holds; JSON sets no limit."""
SAMPLE = {
    "id": "a", "image": "a.png", "width": 64, "height": 64, "task": "detection",
    "labels": ["cat"], "objects": [{"bbox": [1, 2, 30, 40], "label": "cat"}],
}  # fmt: skip
ANSWER = '<answer>[{"bbox_2d": [1, 2, 30, 40], "label": "cat"}]</answer>'
PREDICTION = {"id": "a", "completion": ANSWER, "n_tokens": 9, "finish_reason": "stop"}
FINISHED = {"id": "a", "completion": ANSWER, "objects": SAMPLE["objects"]}
COCO: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 64}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "area": 1200}
    ],
    "categories": [{"id": 1, "name": "cat"}],
}
BOX = {"bbox": [1, 2, HUGE, 40], "label": "cat"}
SURE = {"label": "cat", "confidence": 1.0, "kind": "right"}
FLIPPED = {"bbox": [5, 2, 3, 4], "label": "cat", "area": 9}


def told(capsys: pytest.CaptureFixture[str], *call: str) -> str:
    """What a call that must fail says at last."""
    assert main(list(call)) == 1
    said = capsys.readouterr()
    return (said.err + said.out).strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": HUGE}, "width must be an integer >= 1"),
        ({"objects": [BOX]}, "expected four finite numbers"),
        ({"objects": [BOX | {"bbox": [1, 2, 3, 4], "iscrowd": "no"}]}, "iscrowd must be true or"),
        ({"meta": {"others": [BOX]}}, "meta.others: bbox"),
        ({"meta": {"others": [{"bbox": "x"}]}}, "meta.others: an object needs a bbox and a label"),
        ({"meta": {"others": 7}}, "meta.others: objects must be a list"),
        ({"meta": {"areas": [HUGE]}}, "meta.areas: area 1000"),
        ({"meta": {"areas": ["9"]}}, "meta.areas: area '9'; expected square pixels, 0 or more"),
        ({"meta": {"areas": 9}}, "meta.areas must be a list of square pixels"),
        ({"meta": {"scores": [2]}}, "meta.scores must be a number from 0 to 1 per object"),
        ({"meta": [1]}, "meta must be an object"),
    ],
)
def test_in_samples(
    change: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "samples.jsonl"
    file.write_text(json.dumps(SAMPLE | change) + "\n")
    said = told(capsys, "data", "stats", str(file))
    assert said.startswith(f"boxrl: {file}:1: ")
    assert words in said
    assert main(["data", "lint", str(file)]) == 1
    assert "1 error" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_tokens": HUGE}, "n_tokens must be an integer >= 0"),
        ({"input_size_wh": [HUGE, 1]}, "input_size_wh must be [width, height]"),
        ({"box_logprobs": [HUGE]}, "box_logprobs must be a list of numbers"),
    ],
)
def test_in_predictions(
    change: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples, predictions = tmp_path / "samples.jsonl", tmp_path / "predictions.jsonl"
    samples.write_text(json.dumps(SAMPLE) + "\n")
    predictions.write_text(json.dumps(PREDICTION | change) + "\n")
    call = ["evaluate", "--samples", str(samples), "--predictions", str(predictions)]
    assert f"{predictions}:1: {words}" in told(capsys, *call, "--family", "plain")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_tokens": HUGE}, "n_tokens must be an integer >= 0"),
        ({"width": HUGE, "height": 9}, "expected positive integers"),
        ({"objects": [BOX]}, "expected four finite numbers"),
    ],
)
def test_in_finished_completions(
    change: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "finished.jsonl"
    file.write_text(json.dumps(FINISHED | change) + "\n")
    said = told(capsys, "score", "--completions", str(file), "--rewards", "f1,cosine")
    assert said.startswith(f"boxrl: {file}:1: ")
    assert words in said


@pytest.mark.parametrize(
    ("array", "change", "words"),
    [
        ("images", {"width": HUGE}, "images[0]: image of 1000"),
        ("annotations", {"bbox": [0, 0, HUGE, 1]}, "expected four finite numbers"),
        ("annotations", {"bbox": [0.5, 0, HUGE, 1]}, "expected four numbers x, y, width, height"),
        ("annotations", {"area": HUGE}, "expected square pixels, 0 or more"),
        ("annotations", {"iscrowd": "yes"}, "iscrowd must be true or false, got 'yes'"),
    ],
)
def test_in_coco_files(
    array: str,
    change: dict[str, Any],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(COCO | {array: [COCO[array][0] | change]}))
    call = ["data", "convert", "coco", "--annotations", str(file), "--images", str(tmp_path)]
    said = told(capsys, *call, "--out", str(tmp_path / "out.jsonl"))
    assert said.startswith(f"boxrl: {file}:1: {array}[0]: ")
    assert words in said
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": 7}, "Expected `str`, got `int` - at `$.id`"),
        ({"labels": ["cat", 3]}, "Expected `str`, got `int` - at `$.labels[1]`"),
        ({"status": "fine"}, "Invalid enum value 'fine' - at `$.status`"),
        ({"status": "\ud800"}, "no row of an evaluation ('utf-8' codec can't encode"),
        ({"formatted": 1}, "Expected `bool`, got `int` - at `$.formatted`"),
        ({"tp": HUGE}, "Expected `int` <= 9007199254740992 - at `$.tp`"),
        ({"f1": 1e308}, "Expected `float` <= 1.0 - at `$.f1`"),
        ({"first_box_hits": "yes"}, "got `str` - at `$.first_box_hits`"),
        ({"predictions": [BOX | SURE]}, "Number out of range - at `$.predictions[0].bbox[2]`"),
        ({"predictions": [SURE]}, "missing required field `bbox` - at `$.predictions[0]`"),
        ({"objects": [BOX | {"area": 9}]}, "Number out of range - at `$.objects[0].bbox[2]`"),
        ({"objects": [FLIPPED]}, "bbox [5.0, 2.0, 3.0, 4.0] is no box"),
        ({"objects": [FLIPPED | {"area": "9"}]}, "got `str` - at `$.objects[0].area`"),
        ({"objects": None}, "Expected `array`, got `null` - at `$.objects`"),
    ],
)
def test_in_the_rows_of_an_evaluation(change: dict[str, Any], words: str) -> None:
    line = encode_row(evaluated())
    assert decode_row(line, "rows.jsonl:1") == evaluated()
    odd = json.dumps(json.loads(line) | change).encode()
    with pytest.raises(DataError, match=rf"^rows\.jsonl:1: .*{re.escape(words)}"):
        decode_row(odd, "rows.jsonl:1")


def evaluated() -> Row:
    """The judged row of SAMPLE and PREDICTION."""
    sample, prediction = parse_sample(SAMPLE, "here"), parse_prediction(PREDICTION, "here")
    return judge(Question.from_sample(sample), prediction, FAMILIES["plain"])


def test_in_the_metrics_of_an_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.jsonl").write_bytes(encode_row(evaluated()) + b"\n")
        (tmp_path / name / "metrics.json").write_text('{"mAP": 1, "protocol": 7}')
    said = told(capsys, "compare", str(tmp_path / "a"), str(tmp_path / "b"))
    assert said == (
        f"boxrl: {tmp_path}/a/metrics.json: no metrics of an evaluation (no protocol); "
        "evaluate again"
    )


def test_a_terminal_without_unicode_shows_the_table_and_the_json_whole(tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    label = "größe 🦊"
    objects = [SAMPLE["objects"][0] | {"label": label}]  # type: ignore[index]
    file.write_text(json.dumps(SAMPLE | {"labels": [label], "objects": objects}) + "\n")
    ascii_only = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    call = [sys.executable, "-c", "import sys; from boxrl.cli import main; sys.exit(main())"]
    for words in (["data", "stats", str(file)], ["data", "stats", str(file), "--json"]):
        done = subprocess.run(
            [*call, *words], env=os.environ | ascii_only, capture_output=True, text=True, check=True
        )
        assert "Traceback" not in done.stderr
    assert label in json.loads(done.stdout)["labels"]


def test_boxes_of_numpy_are_written_as_numbers(tmp_path: Path) -> None:
    boxes = np.array([[1, 2, 30.5, 40]], dtype=np.float32)
    objects = (Object(tuple(boxes[0]), "cat"), Object(boxes[0], "cat"))
    made = Sample("a", "a.png", np.int64(64), 64, "detection", ("cat",), objects)
    write_samples(str(tmp_path / "made.jsonl"), [made])
    (read,) = read_samples(tmp_path / "made.jsonl")
    assert [item.bbox for item in read.objects] == [(1.0, 2.0, 30.5, 40.0)] * 2
    assert read.width == 64
