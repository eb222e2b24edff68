"""Servers as they were reported to answer, through the command line.

Written after public reports: content in reasoning_content (vllm 17357, ollama 17978), one input
refused (cosmos-rl 403, OpenRouter's moderation), an error inside of a 200 (OpenRouter), no usable
log-probabilities (tabbyAPI 430), large photographs (DashScope's 10 MB), streams only (ragflow
5912), other names of parameters (9router 560). Servers with pixel limits of their own stand in
tests/generation/test_size_check.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from boxrl.cli import main
from boxrl.data.predictions import read_predictions
from boxrl.data.samples import write_samples
from boxrl.types import Sample
from tests.support.chat_server import ChatServer, chat_server
from tests.support.served import call

RIGHT = '<think>one</think><answer>[{"bbox_2d": [10, 10, 60, 60], "label": "cat"}]</answer>'


def whole(message: Any = RIGHT, **more: Any) -> str:
    message = {"content": message} if isinstance(message, str) else message
    choice = {"message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice | more], "usage": {"completion_tokens": 30}})


def refusal(status: str, message: str) -> str:
    body = json.dumps({"error": {"message": message}})
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}"


def predict(scenes: Path, server: ChatServer, out: Path, *more: str) -> int:
    return main(call(scenes, out, "--base-url", server.url, "--concurrency", "1", *more))


def evaluated(scenes: Path, out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> Any:
    capsys.readouterr()
    files = ["--samples", f"{scenes / 'samples.jsonl'}", "--predictions", f"{out}"]
    assert main(["evaluate", *files, "--json", "--resamples", "0", *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_text_in_reasoning_content_alone_is_a_thought_and_told(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p.jsonl"
    reply = whole({"content": None, "reasoning_content": RIGHT})
    with chat_server(lambda number, _: reply) as server:
        assert predict(scene_folder, server, out) == 0
    row = next(iter(read_predictions(out).values()))
    inner = RIGHT.replace("<think>", "").replace("</think>", "")
    assert row.completion.strip() == f"<think>{inner}</think>"
    metrics = evaluated(scene_folder, out, capsys)
    assert metrics["parse"]["missing"] == 1.0
    assert "12 of 12 completions hold no answer" in metrics["hints"][0]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("400 Bad Request", "The decoder prompt (length 10127) is longer than the maximum"),
        ("403 Forbidden", "Your chosen model requires moderation and your input was flagged"),
        ("413 Payload Too Large", "too large"),
        ("422 Unprocessable Entity", "image cannot be opened"),
    ],
)
def test_a_sample_that_is_never_answered_is_an_error_row_and_has_its_rule(
    status: str,
    words: str,
    scene_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "p.jsonl"
    with chat_server(lambda n, _: refusal(status, words) if n == 3 else whole()) as server:
        assert predict(scene_folder, server, out) == 1
    assert words[:40] in capsys.readouterr().err
    with chat_server(lambda n, _: refusal(status, words) if n == 1 else whole()) as server:
        assert predict(scene_folder, server, out) == 1  # again, and the rest stays
    rows = read_predictions(out)
    (failed,) = [row for row in rows.values() if row.finish_reason == "error"]
    assert len(rows) == 12
    assert words[:40] in (failed.error or "")
    files = ["--samples", f"{scene_folder / 'samples.jsonl'}", "--predictions", f"{out}"]
    assert main(["evaluate", *files]) == 1
    assert "--errors wrong or --errors skip" in capsys.readouterr().err
    for rule, n in (("wrong", 12), ("skip", 11)):
        metrics = evaluated(scene_folder, out, capsys, "--errors", rule)
        assert metrics["n"] == n
        assert metrics["failed"] == {"n": 1, "rule": rule}
        assert metrics["protocol"]["errors"] == rule


@pytest.mark.slow  # tries again for as long as a server may need
def test_an_error_inside_of_a_200_is_told_in_its_own_words(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "Provider returned error: quota exceeded for project"
    reply = json.dumps({"error": {"message": words, "code": 429}, "user_id": "u"})
    with chat_server(lambda number, _: reply) as server:
        assert predict(scene_folder, server, tmp_path / "p.jsonl") == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.split("boxrl: ")) == 2


@pytest.mark.parametrize("logprobs", [None, {"tokens": ["a"], "token_logprobs": [-1.0]}])
def test_log_probabilities_that_are_none_stop_the_run_before_it_begins(
    logprobs: Any, scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p.jsonl"
    with chat_server(lambda number, _: whole(logprobs=logprobs)) as server:
        assert predict(scene_folder, server, out, "--logprobs") == 2
        assert len(server.bodies) == 1
    assert "leave --logprobs out" in capsys.readouterr().err


@pytest.mark.parametrize("family", ["qwen3-vl", "internvl"])
def test_a_large_photograph_is_sent_as_the_file_that_it_is(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "p.jpg"
    Image.effect_noise((4032, 3024), 60).convert("RGB").save(path, quality=60)
    assert 4_000_000 < path.stat().st_size < 7_000_000
    sample = Sample("p", "p.jpg", 4032, 3024, "detection", ("cat",))
    write_samples(tmp_path / "samples.jsonl", [sample])

    def limited(number: int, body: dict[str, Any]) -> str:
        url = body["messages"][-1]["content"][0]["image_url"]["url"]
        too_large = "Exceeded limit on max bytes per data-uri item : 10485760"
        return refusal("400 Bad Request", too_large) if len(url) > 10 * 2**20 else whole("None")

    with chat_server(limited) as server:
        assert predict(tmp_path, server, tmp_path / "p.jsonl", "--family", family) == 0
        url = server.bodies[-1]["messages"][-1]["content"][0]["image_url"]["url"]
    assert url.startswith("data:image/jpeg;base64,")
    assert len(url) < 1.4 * path.stat().st_size


@pytest.mark.parametrize("asked", [(), ("--extra-body", '{"stream": true}')])
def test_a_server_that_only_streams_is_read(
    asked: tuple[str, ...], scene_folder: Path, tmp_path: Path
) -> None:
    chunks = (
        {"choices": [{"delta": {"reasoning_content": "one"}, "index": 0}]},
        {"choices": [{"delta": {"content": "<answer>None</answer>"}, "finish_reason": "stop"}]},
    )
    stream = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    words = "This model only support stream mode, please enable the stream parameter"

    def streams(number: int, body: dict[str, Any]) -> str:
        return stream if body.get("stream") else refusal("400 Bad Request", words)

    out = tmp_path / "p.jsonl"
    with chat_server(streams) as server:
        assert predict(scene_folder, server, out, *asked) == 0
    completions = {row.completion for row in read_predictions(out).values()}
    assert completions == {"<think>one</think>\n<answer>None</answer>"}


def test_other_names_of_parameters_go_by_extra_body(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def strict(number: int, body: dict[str, Any]) -> str:
        for key in ("max_tokens", "temperature"):
            if key in body:
                return refusal("400 Bad Request", f"Unsupported parameter: {key!r}")
        return whole("None")

    body = {"max_tokens": None, "max_completion_tokens": 1024, "temperature": None}
    with chat_server(strict) as server:
        assert predict(scene_folder, server, tmp_path / "p.jsonl") == 2
        error = capsys.readouterr().err
        assert "Unsupported parameter: 'max_tokens'" in error
        assert "--extra-body" in error
        assert len(error.split("boxrl: ")) == 2
        more = ("--extra-body", json.dumps(body))
        assert predict(scene_folder, server, tmp_path / "p.jsonl", *more) == 0
    assert server.bodies[-1]["max_completion_tokens"] == 1024
