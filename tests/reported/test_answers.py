"""Answers as models were reported to write them, through the command line; each has exact boxes.

The files in tests/golden/answers are written after public reports: single objects (VLM-R1 44,
Qwen3-VL 1137), grounding without labels (lmms-eval 1373, VLM-R1 112), thinking without answer
tags (Qwen3-VL 1504, vllm 31045), brackets behind the answer (libreyolo 341), labels in front of
marks (GLM-V 118, InternVL 953), frames of others (Kimi-VL 56), what is nearly JSON (Visual-RFT
203, OmniParser 220) and rows of fine-tuning sets (Qwen3-VL 1137, InternVL 227).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from boxrl.cli import main
from boxrl.data.predictions import Prediction, render_prediction
from boxrl.data.samples import read_samples
from boxrl.families import FAMILIES
from boxrl.parsing import parse

GOLDEN = Path(__file__).parents[1] / "golden" / "answers"
BOX = '{"bbox_2d": [1, 2, 300, 400], "label": "cat"}'


def rewards_of(name: str, rewards: str, capsys: pytest.CaptureFixture[str], out: Path) -> Any:
    call = ["score", "--completions", f"{GOLDEN / name}", "--rewards", rewards]
    assert main([*call, "--family", "plain", "--out", f"{out}", "--json"]) == 0
    capsys.readouterr()
    rows = map(json.loads, out.read_text().splitlines())
    return {row["id"]: row["rewards"] for row in rows}


def metrics_of(
    name: str,
    capsys: pytest.CaptureFixture[str],
    predictions: str = "predictions",
    family: str = "qwen3-vl",
) -> dict[str, Any]:
    files = "--samples", f"{GOLDEN / name}.samples.jsonl"
    made = GOLDEN / f"{name}.{predictions}.jsonl"
    call = ["evaluate", *files, "--predictions", f"{made}", "--family", family]
    assert main([*call, "--json", "--resamples", "0"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_single_object_is_an_answer(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = rewards_of("single_object.jsonl", "format,f1,iou,ap", capsys, tmp_path / "r.jsonl")
    assert len(found) == 7
    for key, values in found.items():
        assert values == pytest.approx(dict.fromkeys(values, 1.0)), key


def test_grounding_needs_no_label(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = metrics_of("grounding", capsys)
    assert metrics["grounding_accuracy@0.5"] == 1.0
    assert metrics["parse"]["ok"] == 1.0


def test_thinking_without_answer_tags_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = metrics_of("thinking", capsys)
    assert metrics["mAP"] == pytest.approx(1.0)
    assert metrics["precision@0.5"] == metrics["recall@0.5"] == 1.0
    assert metrics["negatives"] == {"n": 1, "accuracy": 1.0}
    assert metrics["untagged_rate"] == 1.0
    assert "4 of 4 completions end a thought that they do not begin" in metrics["hints"][0]


def test_boxes_of_a_cut_thought_count_for_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = metrics_of("thinking", capsys, "cut")
    assert metrics["parse"]["missing"] == 1.0
    assert metrics["unreadable"] == {"open thought": 4}
    assert (metrics["mAP"], metrics["negatives"]["accuracy"]) == (0.0, 0.0)
    assert "4 of 4 completions hold no answer" in metrics["hints"][0]


def test_brackets_behind_the_answer_displace_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = rewards_of("brackets_behind.jsonl", "f1,ap", capsys, tmp_path / "r.jsonl")
    invented = found.pop("negative target, a real box before []")
    assert set(invented.values()) == {0.0}
    for key, values in found.items():
        assert values == pytest.approx({"f1": 1.0, "ap": 1.0}), key


def test_an_answer_that_is_quoted_in_the_thought_earns_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = rewards_of("quoted.jsonl", "format,ap,f1", capsys, tmp_path / "r.jsonl")
    assert found == {"cut": {"format": 0.0, "ap": 0.0, "f1": 0.0}}


@pytest.mark.parametrize(("name", "family"), [("prose_labels", "glm-4v"), ("echo", "internvl")])
def test_the_words_in_front_of_a_mark_are_its_label(
    name: str, family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = metrics_of(name, capsys, family=family)
    assert metrics["precision@0.5"] == metrics["recall@0.5"] == 1.0
    assert metrics["mAP"] == pytest.approx(1.0)
    assert metrics["unknown_labels"] == 0


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("shares", "100% of the boxes have no coordinate above 1"),
        ("y_first", "100% of the boxes would lie on a target if they were read as now but with y"),
    ],
)
def test_boxes_of_another_frame_are_told_of_even_where_they_are_few(
    written: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = metrics_of("frames", capsys, written)
    assert metrics["mAP"] < 0.2
    assert said in metrics["hints"][0]


def test_what_is_nearly_json_is_read_where_the_protocol_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    strict = rewards_of("nearly_json.jsonl", "format,f1", capsys, tmp_path / "r.jsonl")
    assert {row["f1"] for row in strict.values()} == {0.0}
    rows = [json.loads(line) for line in (GOLDEN / "nearly_json.jsonl").read_text().splitlines()]
    with (tmp_path / "s.jsonl").open("w") as samples, (tmp_path / "p.jsonl").open("w") as answers:
        for row in rows:
            asked = {"image": "a.jpg", "task": "detection", "labels": ["cat"]}
            known = {key: row[key] for key in ("id", "width", "height", "objects")}
            samples.write(json.dumps(known | asked) + "\n")
            answers.write(render_prediction(Prediction(row["id"], row["completion"], 9, "stop")))
            answers.write("\n")
    found = {}
    for reading in ("strict", "tolerant"):
        call = ["evaluate", "--samples", f"{tmp_path / 's.jsonl'}", "--family", "plain"]
        call += ["--predictions", f"{tmp_path / 'p.jsonl'}", "--reading", reading]
        assert main([*call, "--json", "--resamples", "0"]) == 0
        found[reading] = json.loads(capsys.readouterr().out)
    assert found["tolerant"]["recall@0.5"] == found["tolerant"]["precision@0.5"] == 1.0
    assert found["strict"]["recall@0.5"] < 0.5
    assert sum(found["strict"]["unreadable"].values()) >= 5


@pytest.mark.parametrize(
    ("family", "places"),
    [("plain", [0, 1, 3]), ("internvl", [2])],
    ids=["Qwen's rows", "InternVL's rows"],
)
def test_rows_of_fine_tuning_sets_become_boxes(
    family: str, places: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (1200, 800)).save(tmp_path / "images" / "h.jpg")
    lines = (GOLDEN / "conversations.jsonl").read_text().splitlines()
    for place in places:
        rows, out = tmp_path / f"{place}.jsonl", tmp_path / f"{place}.out.jsonl"
        rows.write_text(lines[place] + "\n")
        call = ["data", "convert", "chat", "--annotations", f"{rows}", "--family", family]
        assert main([*call, "--images", f"{tmp_path / 'images'}", "--out", f"{out}"]) == 0, place
        (sample,) = read_samples(out)
        assert sample.task in ("detection", "grounding")
        assert sample.objects
        assert "<box>" not in (sample.answer or "")


def test_markup_of_boxes_never_becomes_the_answer_of_another_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (1200, 800)).save(tmp_path / "images" / "h.jpg")
    rows = tmp_path / "rows.jsonl"
    rows.write_text((GOLDEN / "conversations.jsonl").read_text().splitlines()[2] + "\n")
    call = ["data", "convert", "vlmr1", "--annotations", f"{rows}", "--images"]
    assert main([*call, f"{tmp_path / 'images'}", "--out", f"{tmp_path / 'o.jsonl'}"]) == 1
    assert len(capsys.readouterr().err.split("boxrl: ")) == 2
    swift = ["data", "convert", "chat", "--annotations", f"{GOLDEN / 'swift.jsonl'}", "--images"]
    assert main([*swift, f"{tmp_path / 'images'}", "--out", f"{tmp_path / 's.jsonl'}"]) == 0
    (sample,) = read_samples(tmp_path / "s.jsonl")
    assert [(item.label, item.bbox) for item in sample.objects] == [
        ("house", (135, 114, 1016, 672))
    ]


LOOPS = {
    "a number without end": (f'[{BOX}, {{"bbox_2d": [0, 5, 533, ' + "9" * 6000, 1),
    "a label without end": (
        f'[{BOX}, {{"bbox_2d": [0, 5, 533, 600], "label": "' + "cat " * 5000, 1,
    ),
    "a box 800 times": ("[" + ", ".join([BOX] * 800) + ', {"bbox_2d": [1, 2', 800),
    "no commas": (f"[\n\t{BOX}\n\t{BOX}\n]", 2),
    "a lone fence behind it": (f"[{BOX}]\n```", 1),
    "the prompt in front of it": (
        "Detect. Output <think> ... </think> <answer>[{\"bbox_2d\": [x1, y1, x2, y2], \"label\": "
        f"\"target name\"}}, ...]</answer>\nassistant\n<think>\n</think>\n<answer>[{BOX}]</answer>",
        1,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "boxes"), LOOPS.values(), ids=LOOPS)
def test_loops_and_echoes_keep_the_boxes_that_are_whole(text: str, boxes: int) -> None:
    parsed = parse(text, FAMILIES["plain"], (1000, 1000), answer_tag="optional")
    assert len(parsed.detections) == boxes
    assert parsed.status in ("ok", "partial")
    assert parsed.detections.boxes[0].tolist() == [1, 2, 300, 400]
