"""What the first answers of a run show: that none can be read, or how a server ends them."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from boxrl.generation.predict import Draw, Sampling, predict, unread
from boxrl.generation.questions import Questions
from boxrl.types import Sample
from tests.support.chat_server import chat_server
from tests.support.served import endpoint

BOX = '{"bbox_2d": [10, 10, 60, 60]}'
SAID = {
    "nothing": ("", "nothing said 24"),
    "only a thought": ("<think>a cat</think>", "nothing said 24"),
    "an open thought": ("<think>a cat", "open thought 24"),
    "boxes of several labels without a label": (f"<answer>[{BOX}]</answer>", "no label 24"),
    "prose": ("I see no such thing here.", "no JSON 24"),
}


def renamed(samples: list[Sample]) -> list[Sample]:
    """Twice as many, each asked for two labels."""
    return [
        replace(sample, id=f"{sample.id}/{k}", labels=("cat", "dog"))
        for k in range(2)
        for sample in samples
    ]


def reply(text: str, finish: str = "stop") -> str:
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": finish}]})


@pytest.mark.parametrize(("text", "why"), SAID.values(), ids=SAID)
def test_it_is_told_once_where_none_of_the_first_answers_can_be_read(
    text: str,
    why: str,
    scene_folder: Path,
    samples: list[Sample],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = renamed(samples)
    with chat_server(lambda number, _: reply(text)) as server:
        engine = endpoint(scene_folder, server)
        assert not predict(engine, asked, tmp_path / "p.jsonl", Sampling(), {})
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("answers can be read as family plain writes them") == 1
    draws = [Draw(sample.id, sample) for sample in asked]
    assert f"({why})" in unread(engine.questions, draws, {s.id: text for s in asked})


def test_one_answer_that_can_be_read_is_enough(
    scene_folder: Path, samples: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def some(number: int, _: object) -> str:
        return reply("None" if number == 9 else "prose")

    with chat_server(some) as server:
        engine = endpoint(scene_folder, server)
        predict(engine, renamed(samples), tmp_path / "p.jsonl", Sampling(), {})
    assert "can be read" not in capsys.readouterr().err
    counting = [replace(samples[0], task="counting", question="How many?", answer="2")]
    draw = Draw(samples[0].id, counting[0])
    assert unread(_questions(engine), [draw], {draw.id: "2"}) == ""


def _questions(engine: object) -> Questions:
    return engine.questions  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize(("word", "told"), [("done!", True), ("eos_token", False), ("", True)])
def test_a_finish_word_that_nobody_knows_is_told_of_by_the_probe(
    word: str,
    told: bool,
    scene_folder: Path,
    samples: list[Sample],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        caplog.at_level(logging.WARNING),
        chat_server(lambda number, _: reply("None", word)) as server,
    ):
        predict(endpoint(scene_folder, server), samples[:2], tmp_path / "p.jsonl", Sampling(), {})
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == told
    assert all(f"finish_reason {word!r}, which nobody here knows" in line for line in said)


def test_a_finish_word_that_only_answers_end_with_is_told_of_once(
    scene_folder: Path, samples: list[Sample], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(number: int, _: object) -> str:
        return reply("[1", "cut short" if number else "stop")

    with caplog.at_level(logging.WARNING), chat_server(fault) as server:
        predict(endpoint(scene_folder, server), samples[:3], tmp_path / "p.jsonl", Sampling(), {})
    (said,) = [record.getMessage() for record in caplog.records]
    assert "finish_reason 'cut short', which nobody here knows" in said
