"""Servers of every kind answer the same questions: the same predictions come of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from boxrl.data.predictions import read_predictions
from boxrl.errors import UsageError
from boxrl.generation.chat_template import Thinking
from boxrl.generation.predict import Sampling, predict, with_questions
from boxrl.parsing.answers import as_read
from boxrl.types import Sample
from tests.support.chat_server import answer, chat_server
from tests.support.served import endpoint

Shape = Callable[[str], dict[str, Any]]


def whole(message: dict[str, Any], finish: Any = "stop", usage: Any = None, **more: Any) -> Any:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {"choices": [choice | more], **({"usage": usage} if usage else {})}


USAGE = {"prompt_tokens": 700, "completion_tokens": 40}
SHAPES: dict[str, Shape] = {
    "vLLM": lambda text: whole({"content": text, "reasoning": None}, usage=USAGE, stop_reason=5),
    "SGLang": lambda text: whole({"content": text}, usage=USAGE, matched_stop=151645),
    "llama.cpp": lambda text: whole({"content": text}, usage=USAGE) | {"timings": {}},
    "ollama": lambda text: whole({"content": text}, None, USAGE),
    "TGI": lambda text: whole({"content": text}, "eos_token", USAGE) | {"id": ""},
    "OpenRouter": lambda text: whole({"content": text}, usage=USAGE, native_finish_reason="STOP"),
    "Gemini": lambda text: whole({"content": text}, usage={"prompt_tokens": 700}),
    "DashScope": lambda text: whole({"content": text, "reasoning_content": ""}, usage=USAGE),
    "Mistral": lambda text: whole({"content": [{"type": "text", "text": text}]}, usage=USAGE),
    "Azure": lambda text: whole({"content": text}) | {"usage": None},
}


def run(server: Any, scenes: Path, samples: list[Sample], out: Path, **options: Any) -> list[Any]:
    failed = predict(endpoint(scenes, server), samples, out, Sampling(**options), {})
    assert not failed
    return [(row.completion, row.finish_reason) for row in read_predictions(out).values()]


def speaks(shape: Shape) -> Callable[[int, dict[str, Any]], str]:
    return lambda number, body: json.dumps(shape(answer(body)))


@pytest.fixture
def expected(scene_folder: Path, samples: list[Sample], tmp_path: Path) -> list[Any]:
    with chat_server() as server:
        return run(server, scene_folder, samples, tmp_path / "expected.jsonl")


@pytest.mark.parametrize("kind", SHAPES)
def test_the_same_predictions_come_of_every_kind(
    kind: str, scene_folder: Path, samples: list[Sample], tmp_path: Path, expected: list[Any]
) -> None:
    with chat_server(speaks(SHAPES[kind])) as server:
        assert run(server, scene_folder, samples, tmp_path / "p.jsonl") == expected


def split(text: str) -> tuple[str, str]:
    """The thought and what stands behind it, as servers with a reasoning parser cut them."""
    thought, _, rest = text.removeprefix("<think>").partition("</think>\n")
    return thought, rest


def with_thought(*keys: str) -> Shape:
    def shape(text: str) -> dict[str, Any]:
        thought, rest = split(text)
        return whole({"content": rest, **dict.fromkeys(keys, thought)}, usage=USAGE)

    return shape


def in_parts(text: str) -> dict[str, Any]:
    thought, rest = split(text)
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": thought}]}
    return whole({"content": [thinking, {"type": "text", "text": rest}]}, usage=USAGE)


THINKING: dict[str, Shape] = {
    "vLLM": with_thought("reasoning"),
    "vLLM up to 0.10, SGLang, llama.cpp, DashScope": with_thought("reasoning_content"),
    "ollama": with_thought("thinking"),
    "OpenRouter": with_thought("reasoning", "reasoning_content"),
    "Mistral": in_parts,
}


@pytest.mark.parametrize("kind", THINKING)
def test_a_thought_that_is_split_off_gives_the_same_predictions(
    kind: str, scene_folder: Path, samples: list[Sample], tmp_path: Path, expected: list[Any]
) -> None:
    with chat_server(speaks(THINKING[kind])) as server:
        assert run(server, scene_folder, samples, tmp_path / "p.jsonl") == expected


@pytest.mark.parametrize("split", [True, False], ids=["a reasoning parser", "none"])
def test_a_thought_that_the_prompt_opened_is_opened_once(
    split: bool, scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    content = "<answer>None</answer>" if split else "hm</think>\n<answer>None</answer>"
    message = {"content": content, "reasoning": "hm" if split else None}
    body = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]})
    with chat_server(lambda number, _: body) as server:
        engine = with_questions(endpoint(scene_folder, server), thinking=Thinking(opened=True))
        predict(engine, samples[:1], tmp_path / "p.jsonl", Sampling(), {})
    (row,) = read_predictions(tmp_path / "p.jsonl").values()
    assert as_read(row.completion, True) == "<think>hm</think>\n<answer>None</answer>"


def stream(text: str) -> Iterator[str]:
    """A stream of chunks, with the comments that OpenRouter keeps connections open with."""
    yield ": PROCESSING"
    for part in (text[:5], text[5:]):
        yield "data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": part}}]})
    yield "data: " + json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    yield "data: " + json.dumps({"choices": [], "usage": USAGE})
    yield "data: [DONE]"


def test_a_server_that_only_streams_is_asked_for_streams(
    scene_folder: Path, samples: list[Sample], tmp_path: Path, expected: list[Any]
) -> None:
    refusal = json.dumps({"error": {"message": "This model only supports stream mode"}})

    def fault(number: int, body: dict[str, Any]) -> str:
        if not body.get("stream"):
            head = f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(refusal)}\r\n\r\n"
            return head + refusal
        return "\n\n".join(stream(answer(body)))

    with chat_server(fault) as server:
        assert run(server, scene_folder, samples, tmp_path / "p.jsonl") == expected


def test_a_refused_input_costs_its_own_row(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    words = "your input was flagged"
    refusal = json.dumps({"error": {"code": 403, "message": words}})
    head = f"HTTP/1.1 403 Forbidden\r\nContent-Length: {len(refusal)}\r\n\r\n"
    with chat_server(lambda number, body: head + refusal if number == 3 else None) as server:
        out = tmp_path / "p.jsonl"
        (failed,) = predict(endpoint(scene_folder, server), samples, out, Sampling(), {})
    assert words in (failed.error or "")
    assert len(read_predictions(out)) == len(samples)


def test_a_server_that_refuses_everything_is_told_of(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    refusal = json.dumps({"error": {"message": "too long"}})
    head = f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(refusal)}\r\n\r\n"
    many = [sample for copy in range(9) for sample in _renamed(samples, copy)]
    with (
        chat_server(lambda number, body: head + refusal if number > 3 else None) as server,
        pytest.raises(UsageError, match="in a row"),
    ):
        predict(endpoint(scene_folder, server), many, tmp_path / "p.jsonl", Sampling(), {})


def _renamed(samples: list[Sample], copy: int) -> list[Sample]:
    from dataclasses import replace

    return [replace(sample, id=f"{sample.id}-{copy}") for sample in samples]


def test_log_probabilities_that_spell_another_text_are_told_of_before_anything_is_generated(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    tokens = {"content": [{"token": "zzz", "logprob": -1.0}]}
    shapes: list[Shape] = [
        lambda text: whole({"content": text}),
        lambda text: whole({"content": text}, logprobs=tokens),
    ]
    for shape in shapes:
        with (
            chat_server(speaks(shape)) as server,
            pytest.raises(UsageError, match="leave --logprobs out"),
        ):
            run(server, scene_folder, samples, tmp_path / "p.jsonl", logprobs=True)
        assert len(server.bodies) == 1
