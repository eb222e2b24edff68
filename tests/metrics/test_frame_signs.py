"""Boxes of another frame are told of in words, and right ones never are."""

import json
import random

import numpy as np
import pytest

from boxrl.cli import main
from boxrl.data.predictions import Prediction
from boxrl.data.samples import render_sample
from boxrl.evaluate import evaluate
from boxrl.families import FAMILIES, build_family
from boxrl.metrics.frame_signs import LEAST_BOXES, Written, describe_signs, find_signs
from boxrl.prompts import render_answer
from boxrl.types import Detections, Object, Sample


def some_samples(n=30, size_wh=(1600, 1200), seed=0):
    rng = random.Random(seed)
    width, height = size_wh
    samples = []
    for number in range(n):
        objects = []
        for _ in range(2):
            x, y = rng.uniform(0, 0.7) * width, rng.uniform(0, 0.7) * height
            box = (x, y, x + rng.uniform(0.1, 0.3) * width, y + rng.uniform(0.1, 0.25) * height)
            objects.append(Object(box, "cat"))
        key = str(number)
        samples.append(Sample(key, "a.jpg", width, height, "detection", ("cat",), tuple(objects)))
    return samples


def in_extent(sample, extent, swapped=False):
    """The sample's boxes with the whole image measuring `extent`."""
    x, y = extent[0] / sample.width, extent[1] / sample.height
    boxes = []
    for item in sample.objects:
        x1, y1, x2, y2 = (v * s for v, s in zip(item.bbox, (x, y, x, y), strict=True))
        boxes.append([y1, x1, y2, x2] if swapped else [x1, y1, x2, y2])
    return boxes


def sized(sample, extent, centred=False):
    """A corner, or the centre, then width and height."""
    return [
        [(x1 + x2) / 2 if centred else x1, (y1 + y2) / 2 if centred else y1, x2 - x1, y2 - y1]
        for x1, y1, x2, y2 in in_extent(sample, extent)
    ]


WRONG = {
    "shares": (lambda s: in_extent(s, (1, 1)), "have no coordinate above 1"),
    "y first": (lambda s: in_extent(s, (1000, 1000), True), "now but with y first"),
    "pixels": (lambda s: in_extent(s, s.size_wh), "read as pixels of the original image"),
    "far out": (lambda s: in_extent(s, (9000, 9000)), "reach beyond family qwen3-vl's frame"),
    "tiny": (lambda s: in_extent(s, (9, 9)), "under 4 pixels wide or high"),
    "xywh": (lambda s: sized(s, (1000, 1000)), "now but as a corner, width and height"),
    "cxcywh": (lambda s: sized(s, (1000, 1000), True), "now but as the centre, width and height"),
}


def answer_of(sample, boxes, key="bbox_2d"):
    items = [{key: box, "label": "cat"} for box in boxes]
    return Prediction(sample.id, f"<answer>{json.dumps(items)}</answer>", 9, "stop")


@pytest.mark.parametrize(("write", "said"), WRONG.values(), ids=WRONG)
def test_evaluate_tells_of_another_frame(write, said):
    samples = some_samples()
    predictions = {s.id: answer_of(s, write(s)) for s in samples}
    metrics = evaluate(samples, predictions, build_family("qwen3-vl"), resamples=0).metrics
    assert metrics["mAP"] < 0.1
    assert any(said in hint for hint in metrics["hints"])
    assert all(hint.endswith("with the right pixel limits?") for hint in metrics["hints"])


def test_a_grid_read_as_pixels_is_told_of():
    samples = some_samples()
    predictions = {s.id: answer_of(s, in_extent(s, (1000, 1000))) for s in samples}
    (hint,) = evaluate(samples, predictions, build_family("plain"), resamples=0).metrics["hints"]
    assert (
        "100% of the boxes would lie on a target if they were read as a grid of 0 to 1000" in hint
    )


def test_a_resized_frame_with_other_limits_is_told_of():
    """What a server's own limit does to Qwen2.5-VL: boxes of an image half as wide."""
    samples = some_samples(size_wh=(3000, 2000))
    seen = build_family("qwen2.5-vl", max_pixels=401_408)
    shown = {s.id: seen.input_size_wh(s.size_wh) for s in samples}
    predictions = {s.id: answer_of(s, in_extent(s, shown[s.id])) for s in samples}
    metrics = evaluate(samples, predictions, build_family("qwen2.5-vl"), resamples=0).metrics
    assert metrics["mAP"] < 0.1
    assert "images of at most 401,408 pixels (--max-pixels 401408)" in metrics["hints"][0]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
@pytest.mark.parametrize("size_wh", [(1600, 1200), (320, 240), (4000, 3000)])
def test_right_answers_are_not_suspected(family, size_wh):
    samples = some_samples(size_wh=size_wh)
    predictions = {}
    for sample in samples:
        text = render_answer(Detections.from_objects(sample.objects), family, size_wh)
        predictions[sample.id] = Prediction(sample.id, f"<answer>{text}</answer>", 9, "stop")
    assert evaluate(samples, predictions, family, resamples=0).metrics["hints"] == []


def test_a_weak_model_is_not_suspected():
    """Random boxes hit as little in every frame."""
    rng, samples = random.Random(1), some_samples()
    predictions = {}
    for sample in samples:
        corners = [sorted(rng.uniform(0, 1000) for _ in range(2)) for _ in range(2)]
        (x1, x2), (y1, y2) = corners
        predictions[sample.id] = answer_of(sample, [[x1, y1, x2, y2]])
    assert (
        evaluate(samples, predictions, build_family("qwen3-vl"), resamples=0).metrics["hints"] == []
    )


def test_few_boxes_show_nothing():
    family = FAMILIES["plain"]
    few = [Written([(0, 0, 0.5, 0.5)] * (LEAST_BOXES - 1), (100, 100), None, np.zeros((0, 4)))]
    assert find_signs(few, family) is None
    assert describe_signs(None, family) == []
    assert find_signs([Written([], (9, 9), None, np.zeros((0, 4)))], family) is None


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_score_tells_of_another_frame(tmp_path, capsys, option):
    rows = []
    for sample in some_samples(8):
        row = json.loads(render_sample(sample))
        row["completion"] = answer_of(sample, in_extent(sample, (1, 1))).completion
        rows.append({k: row[k] for k in ("id", "completion", "objects", "width", "height")})
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["score", "--completions", str(path), "--rewards", "f1", *option]) == 0
    assert "have no coordinate above 1" in capsys.readouterr().out
    assert main(["score", "--completions", str(path), "--rewards", "format", *option]) == 0
    assert "coordinate" not in capsys.readouterr().out


def test_score_takes_pixel_limits(tmp_path, capsys):
    family = build_family("qwen2.5-vl", max_pixels=200_704)
    rows = []
    for sample in some_samples(6):
        boxes = in_extent(sample, family.input_size_wh(sample.size_wh))
        row = json.loads(render_sample(sample)) | {
            "completion": answer_of(sample, boxes).completion
        }
        rows.append({k: row[k] for k in ("id", "completion", "objects", "width", "height")})
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    call = ["score", "--completions", str(path), "--rewards", "f1", "--family", "qwen2.5-vl"]
    assert main([*call, "--json", "--max-pixels", "200704"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["rewards"]["f1"]["mean"] == 1.0
    assert scored["hints"] == []
    assert main([*call, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rewards"]["f1"]["mean"] < 0.5
