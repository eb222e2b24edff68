"""Replies without measure: bounded time and memory, and one line each."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from boxrl.cli import main
from boxrl.data.predictions import read_predictions
from boxrl.errors import UsageError
from boxrl.generation.predict import Sampling, predict
from boxrl.generation.servers import Retry
from boxrl.types import Sample
from tests.support import served
from tests.support.chat_server import chat_server
from tests.support.served import endpoint

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "a cat "}}]}\n\n'


@contextmanager
def raw_server(write: Callable[[socket.socket], None]) -> Iterator[Any]:
    """A server that answers every request by `write`, until the client has enough."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    closed = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection:
            connection.recv(2**20)
            try:
                write(connection)
            except OSError:
                return  # the client has left

    def serve() -> None:
        while not closed.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    server = type("Raw", (), {"url": f"http://127.0.0.1:{listening.getsockname()[1]}/v1"})
    try:
        yield server
    finally:
        closed.set()
        listening.close()


def large(connection: socket.socket) -> None:
    connection.sendall(HEAD.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % (400 << 20)))
    for _ in range(400):
        connection.sendall(b" " * 2**20)


def endless(connection: socket.socket) -> None:
    connection.sendall(HEAD)
    while True:
        connection.sendall(CHUNK * 10_000)


def dripping(connection: socket.socket) -> None:
    connection.sendall(HEAD)
    while True:
        connection.sendall(CHUNK)
        time.sleep(0.05)


ENDLESS = {
    "400 MB": (large, "answered with more than 64 MB; given up after 2 tries"),
    "an endless stream": (endless, "answered with more than 64 MB; given up after 2 tries"),
    "a stream that drips for ever": (dripping, r"its answer did not end within 2 s \(--timeout\)"),
}


@pytest.mark.parametrize(("write", "said"), ENDLESS.values(), ids=ENDLESS)
def test_an_answer_without_end_is_one_line(
    write: Any,
    said: str,
    scene_folder: Path,
    samples: list[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(served, "QUICK", Retry(attempts=2, first_s=0.01, longest_s=0.05))
    began = time.monotonic()
    with raw_server(write) as server, pytest.raises(UsageError, match=said) as told:
        engine = endpoint(scene_folder, server, timeout_s=2.0 if write is dripping else 60.0)
        predict(engine, samples, tmp_path / "p.jsonl", Sampling(), {})
    assert time.monotonic() - began < 30
    assert "\n" not in str(told.value)


def test_a_stream_that_is_kept_open_behind_its_end_is_read(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    def write(connection: socket.socket) -> None:
        connection.sendall(HEAD + CHUNK + b"data: [DONE]\n\n")
        time.sleep(60)

    began = time.monotonic()
    with raw_server(write) as server:
        out = tmp_path / "p.jsonl"
        assert not predict(endpoint(scene_folder, server), samples[:2], out, Sampling(), {})
    assert time.monotonic() - began < 20
    assert {row.completion for row in read_predictions(out).values()} == {"a cat "}


DEEP = 10_000
NESTED = {
    "arrays": '{"choices": ' + "[" * DEEP + "]" * DEEP + "}",
    "objects": '{"choices": ' + '{"a": ' * DEEP + "1" + "}" * DEEP + "}",
    "errors": '{"error": ' * DEEP + '"deep"' + "}" * DEEP,
    "parts": '{"choices": [{"message": {"content": '
    + '[{"thinking": ' * DEEP
    + '"x"'
    + "}]" * DEEP
    + "}}]}",
}


@pytest.mark.parametrize("body", NESTED.values(), ids=NESTED)
def test_a_reply_nested_10_000_deep_is_one_line(
    body: str, scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    began = time.monotonic()
    with chat_server(lambda number, _: body) as server, pytest.raises(UsageError) as told:
        predict(endpoint(scene_folder, server), samples, tmp_path / "p.jsonl", Sampling(), {})
    assert time.monotonic() - began < 30
    assert "given up after 7 tries" in str(told.value)
    assert "\n" not in str(told.value)


MILLION = 1_000_000
ANSWERS = {
    "a million brackets": "[" * MILLION,
    "a million braces": "{" * MILLION,
    "half a million pairs": "[]" * (MILLION // 2),
    "arrays nested 10,000 deep": "[" * DEEP + "]" * DEEP,
    "objects nested 10,000 deep": '{"bbox_2d": ' * DEEP + "1" + "}" * DEEP,
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("reading", ["strict", "tolerant"])
def test_an_answer_of_brackets_is_a_row_like_any_other(
    answer: str,
    reading: str,
    scene_folder: Path,
    samples: list[Sample],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = f"<think>a</think><answer>{answer}</answer>"
    reply = json.dumps({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]})
    out, few = tmp_path / "p.jsonl", tmp_path / "few.jsonl"
    lines = (scene_folder / "samples.jsonl").read_text().splitlines(keepends=True)
    few.write_text("".join(lines[:2]))
    began = time.monotonic()
    with chat_server(lambda number, _: reply) as server:
        assert not predict(endpoint(scene_folder, server), samples[:2], out, Sampling(), {})
    call = ["evaluate", "--samples", f"{few}", "--predictions", f"{out}", "--family", "plain"]
    assert main([*call, "--json", "--resamples", "0", "--reading", reading]) == 0
    assert time.monotonic() - began < 20
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["n"] == 2
    assert sum(metrics["unreadable"].values()) + 2 * metrics["parse"]["empty"] == 2
