"""What rewards select for among completions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boxrl.cli import main
from boxrl.data.predictions import Prediction, PredictionsFile
from boxrl.data.samples import write_samples
from boxrl.errors import DataError, UsageError
from boxrl.evaluate.selection import measure_selection
from boxrl.families import build_family
from boxrl.rewards import build_rewards
from boxrl.types import Object, Sample

PLAIN = build_family("plain")


def sample(name: str, image: str | None = None) -> Sample:
    objects = (Object((10, 10, 50, 50), "cat"),)
    return Sample(name, image or f"{name}.png", 100, 100, "detection", ("cat",), objects)


def answer(*boxes: tuple[int, int, int, int]) -> str:
    items = [{"bbox_2d": list(box), "label": "cat"} for box in boxes]
    return f"<think>1</think><answer>{json.dumps(items)}</answer>"


RIGHT, JUNK = (10, 10, 50, 50), (60, 60, 90, 90)
GROUP = [answer(RIGHT), answer(RIGHT, JUNK), answer(JUNK), answer(RIGHT, JUNK, (0, 0, 9, 9))]


def draws(name: str, answers: list[str], tokens: list[int | None]) -> dict[str, Prediction]:
    return {
        f"{name}#{k}": Prediction(f"{name}#{k}", text, n, "stop")
        for k, (text, n) in enumerate(zip(answers, tokens, strict=True))
    }


def two_samples(*rewards: str) -> dict[str, Any]:
    predictions = draws("a", GROUP, [5, 10, 5, 15]) | draws("b", GROUP, [5, 10, 5, 15])
    return measure_selection([sample("a"), sample("b")], predictions, PLAIN, build_rewards(rewards))


def test_a_differential_is_the_covariance_of_advantage_and_trait() -> None:
    found = two_samples("iou")["rewards"]["iou"]
    paid, tokens = np.array([1.0, 1.0, 0.0, 1.0]), np.array([5.0, 10.0, 5.0, 15.0])
    advantage = (paid - paid.mean()) / (paid.std(ddof=1) + 1e-4)
    assert found["traits"]["tokens"]["mean"] == pytest.approx(
        np.mean(advantage * (tokens - tokens.mean()))
    )
    assert found["traits"]["tokens"]["n"] == 2
    assert found["flat_groups"] == 0


def test_samples_of_one_image_are_one_piece_of_evidence() -> None:
    """Asked twice alike, an image says no more than asked once."""
    other = ["None", *GROUP[1:]]
    texts = {"a": GROUP, "b": other, "c": GROUP, "d": other}
    asked = [sample(name, image=f"{texts[name] is other}.jpg") for name in texts]
    answers = {k: v for name in texts for k, v in draws(name, texts[name], [5, 10, 5, 15]).items()}
    once, twice = (
        measure_selection(some, answers, PLAIN, build_rewards(["f1"]))["rewards"]["f1"]["traits"]
        for some in (asked[:2], asked)
    )
    for trait in ("tokens", "recall"):
        assert twice[trait]["n"] == 2 * once[trait]["n"]
        assert twice[trait]["high"] == pytest.approx(once[trait]["high"])
    assert once["recall"]["high"] > once["recall"]["mean"]


def test_a_reward_to_which_junk_is_free_selects_more_of_it_than_one_that_charges() -> None:
    results = two_samples("ap50", "f1")
    free, charged = (results["rewards"][name]["traits"]["boxes too many"]["mean"]
                     for name in ("ap50", "f1"))  # fmt: skip
    assert free > charged
    beside = results["beside"]["f1 - ap50"]["boxes too many"]
    assert beside["mean"] == pytest.approx(charged - free)
    assert beside["high"] < 0  # equal samples: no spread


def test_several_rewards_are_also_summed_as_trainers_do() -> None:
    results = two_samples("format", "iou")
    assert set(results["rewards"]) == {"format", "iou", "sum"}
    summed, alone = (results["rewards"][name]["traits"] for name in ("sum", "iou"))
    assert summed["recall"] == alone["recall"]  # format is the same in every draw
    assert results["rewards"]["format"]["flat_groups"] == 1
    assert results["rewards"]["format"]["traits"]["tokens"]["mean"] == 0


def test_a_trait_that_nobody_counted_is_left_out() -> None:
    predictions = draws("a", GROUP, [None] * 4) | draws("b", GROUP, [None] * 4)
    found = measure_selection(
        [sample("a"), sample("b")], predictions, PLAIN, build_rewards(["iou"])
    )
    assert found["rewards"]["iou"]["traits"]["tokens"] is None


def test_single_answers_and_samples_without_boxes_are_refused() -> None:
    single = {"a": Prediction("a", answer(RIGHT), 5, "stop")}
    with pytest.raises(UsageError, match="predict --n 8"):
        measure_selection([sample("a")], single, PLAIN, build_rewards(["iou"]))
    counting = Sample("c", "c.png", 9, 9, "counting", (), (), "How many?", "2")
    with pytest.raises(DataError, match="no detection or grounding samples"):
        measure_selection([counting], {}, PLAIN, build_rewards(["iou"]))


def test_the_command_shows_a_row_per_reward(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_samples(tmp_path / "s.jsonl", [sample("a"), sample("b")])
    rows = [*draws("a", GROUP, [5, 10, 5, 15]).values(), *draws("b", GROUP, [5, 6, 7, 9]).values()]
    PredictionsFile(tmp_path / "p.jsonl", {"family": "plain"}).append(rows)
    call = ["doctor", "rewards", "--samples", str(tmp_path / "s.jsonl"), "--rewards", "ap50,f1",
            "--family", "plain"]  # fmt: skip
    assert main([*call, "--select", "--predictions", str(tmp_path / "p.jsonl")]) == 0
    printed = capsys.readouterr().out
    assert "f1 - ap50" in printed
    assert "no signal" in printed
    assert main([*call, "--select"]) == 2
    assert "go together" in capsys.readouterr().err
