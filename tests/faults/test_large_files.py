"""Files of 100,000 samples within a stated memory."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.faults.campaign import Record, run

pytestmark = pytest.mark.slow

SAMPLES = 100_000
LIMITS_MB = {
    "data convert": 1000,
    "data lint": 600,
    "data stats": 600,
    "score": 600,
    "evaluate": 3000,
    "report": 2500,
}
"""Peak resident memory that each verb may take."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO file, samples, predictions and completions of 100,000 images, 3 boxes each."""
    folder = tmp_path_factory.mktemp("large")
    rng = random.Random(0)
    names = ("cat", "dog", "red circle", "traffic light")
    images, annotations = [], []
    with (
        (folder / "samples.jsonl").open("w") as samples,
        (folder / "predictions.jsonl").open("w") as predictions,
        (folder / "completions.jsonl").open("w") as completions,
    ):
        for number in range(SAMPLES):
            image = f"{number:06}.png"
            images.append({"id": number, "file_name": image, "width": 640, "height": 480})
            objects = []
            for k in range(3):
                x, y = rng.randrange(500), rng.randrange(400)
                box, label = [x, y, x + 9 + k, y + 20], rng.randrange(4)
                objects.append({"bbox": box, "label": names[label]})
                annotations.append(
                    {"id": 3 * number + k + 1, "image_id": number, "category_id": label + 1,
                     "bbox": [x, y, 9 + k, 20], "area": 20 * (9 + k), "iscrowd": 0}
                )  # fmt: skip
            boxes = [{"bbox_2d": o["bbox"], "label": o["label"]} for o in objects[:2]]
            text = f"<think>1</think>\n<answer>{json.dumps(boxes)}</answer>"
            size = {"width": 640, "height": 480}
            sample = {"id": str(number), "image": image, **size, "task": "detection",
                      "labels": list(names), "objects": objects}  # fmt: skip
            samples.write(json.dumps(sample) + "\n")
            answer = {"id": str(number), "completion": text, "n_tokens": 30}
            predictions.write(json.dumps(answer | {"finish_reason": "stop"}) + "\n")
            completions.write(json.dumps(answer | size | {"objects": objects}) + "\n")
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(names)]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "coco.json").write_text(json.dumps(coco))
    settings = {"family": "plain", "samples": str(folder / "samples.jsonl"), "prompt": "standard"}
    run_folder = folder / "run"
    evaluation = run_folder / "evals" / "all"
    evaluation.mkdir(parents=True)
    (evaluation / "predictions.jsonl").symlink_to(folder / "predictions.jsonl")
    for path in (folder / "predictions.meta.json", evaluation / "predictions.meta.json"):
        path.write_text(json.dumps(settings))
    (run_folder / "run.json").write_text(json.dumps({"name": "large", "evals": ["all"]}))
    return folder


@pytest.mark.parametrize("verb", LIMITS_MB)
def test_a_hundred_thousand_samples(verb: str, large: Path, tmp_path: Path, record: Record) -> None:
    samples, out = large / "samples.jsonl", tmp_path / "out.jsonl"
    coco = ["--annotations", large / "coco.json", "--images", large]
    call: dict[str, list[object]] = {
        "data convert": ["data", "convert", "coco", *coco, "--out", out],
        "data lint": ["data", "lint", samples],
        "data stats": ["data", "stats", samples],
        "score": ["score", "--completions", large / "completions.jsonl", "--rewards", "f1,format",
                  "--out", out],
        "evaluate": ["evaluate", "--samples", samples, "--resamples", "20",
                     "--predictions", large / "predictions.jsonl", "--out", tmp_path / "e"],
        "report": ["report", large / "run", "--out", tmp_path / "report.html"],
    }  # fmt: skip
    outcome = run(*call[verb])
    assert outcome.status == 0, outcome.err
    assert 0 < outcome.peak_mb < LIMITS_MB[verb]
    if out.exists():
        assert out.read_bytes().count(b"\n") == SAMPLES
    how = f"100,000 samples; may take {LIMITS_MB[verb]:,} MB"
    record("large files", verb, how, f"peak {outcome.peak_mb:,.0f} MB", [], SAMPLES, "samples")
