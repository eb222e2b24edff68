"""A named benchmark with a model: from an archive's layout to its table in one command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from boxrl.cli import main  # noqa: E402
from tests.support.archives import IMAGES, coco_document, write_image, write_json  # noqa: E402


def test_the_tiny_vlm_answers_a_benchmark_and_a_second_call_only_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(tmp_path / "annotations" / "instances_val2017.json", coco_document())
    for image in IMAGES:
        write_image(tmp_path / "val2017" / image["file_name"], (image["width"], image["height"]))
    call = ["benchmark", "run", "coco_pos_1", "--model=tiny", f"--data-root={tmp_path}"]
    call += [f"--out={tmp_path / 'out'}", "--json", "--resamples=0"]
    call += ["--predict-options=--max-new-tokens 48"]
    assert main(call) == 0
    result = json.loads(capsys.readouterr().out)  # one JSON object and nothing else
    assert result["parts"]["coco_pos_1"]["n"] == 2
    assert result["parts"]["coco_pos_1"]["protocol"]["model"] == "tiny"
    answers = tmp_path / "out" / "predictions.jsonl"
    first = answers.stat().st_mtime_ns
    assert main(call) == 0
    assert json.loads(capsys.readouterr().out) == result
    assert answers.stat().st_mtime_ns == first
