"""CountBenchQA, PixMo-Count and ODinW-13 by Qwen's protocol, from folders to figures."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from boxrl.benchmarks import build_benchmark
from boxrl.benchmarks.samples import build_samples
from boxrl.cli import main
from boxrl.data.predictions import Prediction, PredictionsFile
from tests.support.archives import annotation, write_image, write_json


def png(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (40, 30), (shade, 0, 0)).save(content, "PNG")
    return content.getvalue()


def count_bench(root: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    rows = [
        {"image": {"bytes": png(k), "path": f"{k}.png"}, "text": "", "number": k + 2,
         "question": f"How many things of {k}?"}
        for k in range(3)
    ]  # fmt: skip
    (root / "data").mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), root / "data" / "test-00000.parquet")


def pixmo(root: Path) -> None:
    rows = [{"image_sha256": f"a{k}", "label": "cats", "count": k + 2} for k in range(3)]
    for row in rows:
        write_image(root / "images" / f"{row['image_sha256']}.jpg")
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(capsys: pytest.CaptureFixture[str], root: Path, name: str, *more: str) -> dict[str, Any]:
    call = ["benchmark", "run", name, f"--data-root={root}", f"--out={root / 'out'}", "--json"]
    assert main([*call, "--resamples=0", *more]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.mark.parametrize(("name", "lay_out"), [("countbench", count_bench), ("pixmo_count", pixmo)])
def test_counting_is_the_share_of_exact_counts(
    name: str, lay_out: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out(tmp_path)
    samples = build_samples(build_benchmark(name), tmp_path).samples
    assert [sample.answer for sample in samples] == ["2", "3", "4"]
    assert samples[0].question in ("How many things of 0?", "How many cats are there in the image?")
    file = PredictionsFile(tmp_path / "r.jsonl", {"family": "plain", "model": "replay"})
    said = ["<answer>2</answer>", "<answer>9</answer>", "<answer>4</answer>"]
    file.append([Prediction(s.id, text, 3, "stop") for s, text in zip(samples, said, strict=True)])
    result = run(capsys, tmp_path, name, f"--predictions={tmp_path / 'r.jsonl'}")
    assert result["parts"]["test"]["accuracy"] == pytest.approx(2 / 3)


def test_the_tiny_vlm_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    pixmo(tmp_path)
    options = ("--model=tiny", "--predict-options=--max-new-tokens 8", "--limit=2")
    assert run(capsys, tmp_path, "pixmo_count", *options)["parts"]["test"]["n"] == 2


def test_odinw_by_qwen_s_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [{"id": k, "file_name": f"{k}.jpg", "width": 200, "height": 100} for k in (1, 2)]
    document = {
        "images": images,
        "annotations": [
            annotation(1, 1, 1, [0, 0, 100, 50]),
            annotation(2, 2, 1, [20, 10, 40, 40]),
        ],
        "categories": [{"id": 1, "name": "Raccoon", "supercategory": "x"}],
    }
    folder = tmp_path / "Raccoon" / "Raccoon.v2-raw.coco" / "valid"
    write_json(folder / "annotations_without_background.json", document)
    samples = build_samples(build_benchmark("odinw13"), tmp_path, allow_missing=True).samples
    said = [
        '[{"bbox_2d": [0, 0, 500, 500], "label": "raccoon"}]',  # thousandths: right
        'Here: [{"bbox_2d": [100, 100, 300, 500], "label": "raccoon"}]',  # words around: nothing
    ]
    file = PredictionsFile(tmp_path / "r.jsonl", {"family": "qwen3-vl", "model": "replay"})
    rows = [Prediction(s.id, text, 9, "stop") for s, text in zip(samples, said, strict=True)]
    file.append(rows)
    options = ("--allow-missing", f"--predictions={tmp_path / 'r.jsonl'}")
    result = run(capsys, tmp_path, "odinw13", *options, "--protocol=qwen")
    assert result["variant"] == "qwen"
    figures = result["summary"]["sets"]["Raccoon"]
    assert figures["mAP"] == pytest.approx(0.505, abs=1e-9)  # 51 of 101 recalls
    assert result["summary"]["mean"]["mAP"] is None  # twelve sets are not there
    assert run(capsys, tmp_path, "odinw13", *options)["parts"]["Raccoon"]["AP50"] == 1.0
    call = ["benchmark", "run", "coco", "--protocol=qwen", f"--data-root={tmp_path}", "--out=o"]
    assert main([*call, "--model=tiny"]) == 2
    assert "protocols: none" in capsys.readouterr().err


def test_qwen_s_protocol_asks_by_its_own_prompt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    folder = tmp_path / "pothole" / "valid"
    document = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 64, "height": 48}],
        "annotations": [annotation(1, 1, 1, [0, 0, 30, 20])],
        "categories": [{"id": 1, "name": "pothole", "supercategory": "x"}],
    }
    write_json(folder / "annotations_without_background.json", document)
    write_image(folder / "1.jpg")
    options = ("--model=tiny", "--allow-missing", "--protocol=qwen")
    short = "--predict-options=--max-new-tokens 8"
    found = run(capsys, tmp_path, "odinw13", *options, short)
    assert found["parts"]["pothole"]["protocol"]["prompt"] == "qwen-native"
    call = ["benchmark", "run", "odinw13", f"--data-root={tmp_path}", f"--out={tmp_path / 'b'}"]
    assert main([*call, *options, f"{short} --prompt enhanced"]) == 2
    assert "asks by prompt qwen-native" in capsys.readouterr().err
