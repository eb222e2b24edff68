"""A second look at every box: what is asked, shown and made of the answers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from boxrl.cli import main
from boxrl.data.predictions import read_predictions, render_prediction
from boxrl.data.samples import write_samples
from boxrl.errors import DataError, UsageError
from boxrl.evaluate.files import read_settings
from boxrl.families import FAMILIES
from boxrl.generation.verify import (
    QUESTION,
    as_verifier,
    score,
    verify_boxes,
    verify_predictions,
)
from boxrl.prompts import render_target
from boxrl.types import Detections, Sample
from tests.support.chat_server import chat_server, image_of
from tests.support.evaluations import prediction
from tests.support.served import endpoint

QWEN = FAMILIES["qwen2.5-vl"]


@pytest.mark.parametrize(
    ("tokens", "value"),
    [
        ({"Yes": 0.6, "No": 0.2}, 0.75),
        ({"Yes": 0.3, " yes": 0.3, "no": 0.2, "maybe": 0.2}, 0.75),
        ({"Y": 0.5, "N": 0.5}, 0.5),  # vocabularies of characters
        ({"No": 0.9}, 0.0),
        ({"Yes": 0.1, " ": 0.8}, 1.0),
        ({"maybe": 0.9, "": 0.1}, None),
        ({}, None),
    ],
)
def test_yes_against_no(tokens: dict[str, float], value: float | None) -> None:
    assert score(tokens) == (None if value is None else pytest.approx(value))


def says(probability: Callable[[dict[str, Any]], float]) -> Callable[[int, dict[str, Any]], str]:
    """A server that answers yes with this probability."""

    def reply(_: int, body: dict[str, Any]) -> str:
        yes = probability(body)
        pairs = (("Yes", yes), ("No", 1 - yes))
        top = [{"token": text, "logprob": math.log(max(p, 1e-9))} for text, p in pairs]
        token = {**max(top, key=lambda item: item["logprob"]), "top_logprobs": top}
        choice = {
            "message": {"content": token["token"]},
            "finish_reason": "length",
            "logprobs": {"content": [token]},
        }
        usage = {"prompt_tokens": 50, "completion_tokens": 1}
        return json.dumps({"choices": [choice], "usage": usage})

    return reply


def outlined(body: dict[str, Any]) -> float:
    """.9 where some pixel is the mark's red, which no scene has."""
    colours = {colour for _, colour in image_of(body).convert("RGB").getcolors(1 << 20)}
    return 0.9 if (255, 0, 0) in colours else 0.1


def gold(samples: list[Sample]) -> dict[str, Any]:
    return {s.id: prediction(s.id, render_target(s, QWEN)) for s in samples}


def test_every_box_is_asked_about_once_with_its_mark_drawn(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    predictions, out = gold(samples), tmp_path / "verified.jsonl"
    with chat_server(says(outlined)) as server:
        arguments = (
            endpoint(scene_folder, server), samples, predictions, QWEN, {"prompt": "standard"}, out,
            {"model": "m", "engine": "openai", "predictions": "abc"},
        )  # fmt: skip
        done = verify_predictions(*arguments)
        asked = len(server.bodies)
        again = verify_predictions(*arguments)
        assert len(server.bodies) == asked  # nothing is asked anew
    n = sum(len(sample.targets) for sample in samples)
    assert (done.boxes, done.undecided, again.boxes) == (n, 0, n)
    questions = [body for body in server.bodies if "red box" in json.dumps(body)]
    assert len(questions) == n
    assert {body["top_logprobs"] for body in questions} == {20}
    assert {body["max_tokens"] for body in questions} == {1}
    text = questions[0]["messages"][-1]["content"][1]["text"]
    assert text in {QUESTION.format(label=o.label) for s in samples for o in s.targets}
    rows = read_predictions(out)
    for sample in samples:
        verified = rows[sample.id].box_verify or ()
        assert verified == pytest.approx([0.9] * len(sample.targets))
        assert replace(rows[sample.id], box_verify=None) == predictions[sample.id]
    assert read_settings(out)["verify"]["model"] == "m"


def named(body: dict[str, Any]) -> float:
    """By the label that is asked about."""
    text = body["messages"][-1]["content"][1]["text"]
    return len(text) / 1000


def test_boxes_are_verified_in_memory_and_each_is_asked_about_once(
    scene_folder: Path, samples: list[Sample]
) -> None:
    asked = [(sample, Detections.from_objects(sample.targets)) for sample in samples]
    with chat_server(says(named)) as server:
        found = verify_boxes(as_verifier(endpoint(scene_folder, server)), [*asked, *asked])
    questions = [body for body in server.bodies if "red box" in json.dumps(body)]
    assert len(questions) == sum(len(boxes) for _, boxes in asked)
    assert found[len(asked) :] == found[: len(asked)]
    for looks, (_, boxes) in zip(found, asked, strict=False):
        wanted = [len(QUESTION.format(label=label)) / 1000 for label in boxes.labels]
        assert looks == pytest.approx(wanted)


def test_a_box_that_nobody_could_look_at_ends_verifying_in_memory(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    lost = replace(next(s for s in samples if s.targets), image="gone.png")
    boxes = Detections.from_objects(lost.targets)
    with (
        chat_server(says(named)) as server,
        pytest.raises(DataError, match=r"verifier: question .*gone\.png"),
    ):
        verify_boxes(as_verifier(endpoint(scene_folder, server)), [(lost, boxes)])


def test_a_run_for_other_predictions_is_refused(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    with chat_server(says(outlined)) as server:
        engine, out = endpoint(scene_folder, server), tmp_path / "v.jsonl"
        run = (engine, samples, gold(samples), QWEN, {}, out)
        verify_predictions(*run, {"model": "m", "predictions": "abc"})
        with pytest.raises(UsageError, match="predictions: 'abc' there, 'def' now"):
            verify_predictions(*run, {"model": "m", "predictions": "def"})


def test_a_server_without_likely_tokens_is_told_of_at_once(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    with (
        chat_server() as server,
        pytest.raises(UsageError, match="top_logprobs"),
    ):
        verify_predictions(
            endpoint(scene_folder, server), samples, gold(samples), QWEN, {}, tmp_path / "v.jsonl",
            {"model": "m"},
        )  # fmt: skip
    assert len(server.bodies) == 1


def test_the_tiny_vlm_verifies_and_evaluate_ranks_by_it(
    scene_folder: Path, samples: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    few = samples[:3]
    write_samples(tmp_path / "s.jsonl", few)
    lines = "".join(render_prediction(row) + "\n" for row in gold(few).values())
    (tmp_path / "p.jsonl").write_text(lines)
    facts = {"family": "qwen2.5-vl", "model": "replay", "prompt": "standard"}
    limits = {"min_pixels": QWEN.min_pixels, "max_pixels": QWEN.max_pixels}
    (tmp_path / "p.meta.json").write_text(json.dumps(facts | limits))
    files = [f"--samples={tmp_path / 's.jsonl'}"]
    images = [f"--images={scene_folder / 'images'}", "--model=tiny"]
    call = ["verify", *files, *images, f"--predictions={tmp_path / 'p.jsonl'}"]
    assert main([*call, f"--out={tmp_path / 'v.jsonl'}"]) == 0
    assert "verified: " in capsys.readouterr().out
    assert json.loads((tmp_path / "v.boxes.meta.json").read_text())["weights"]
    call = ["evaluate", *files, f"--predictions={tmp_path / 'v.jsonl'}", "--json"]
    assert main([*call, "--confidence=verify", "--resamples=0"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["protocol"]["verify"]["model"] == "tiny"
    assert 0 <= metrics["calibration"]["D-ECE"] <= 1
    assert main([*call, "--resamples=0"]) == 0
    assert json.loads(capsys.readouterr().out)["protocol"]["verify"] is None
