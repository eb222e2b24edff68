"""Servers that fail in every way: the run ends as with a well one, or says why in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.campaign import Record, assert_told, run, whole_lines
from tests.faults.kills import many_samples
from tests.support.chat_server import Fault, chat_server

pytestmark = pytest.mark.slow

FAULTS = {
    "500": "500",
    "503": "503",
    "429": "429",
    "429 with Retry-After": "429 1",
    "dropped connection": "drop",
    "answer cut short": "cut",
    "HTML for JSON": "html",
    "JSON without choices": "garbled",
    "JSON nested 100,000 deep": '{"choices": ' + "[" * 100_000,
    "hang beyond --timeout": "hang",
    "content that is no text": '{"choices": [{"message": {"content": 7}}]}',
    "400 MB answer": "huge",
}


def every_third(kind: str) -> Fault:
    def fault(number: int, body: dict[str, Any]) -> str | None:
        return kind if number % 3 == 1 else None

    return fault


def predict(samples: Path, url: str, out: Path) -> list[object]:
    return ["predict", "--engine", "openai", "--model", "m", "--family", "plain",
            "--samples", samples, "--images", samples.parent / "images", "--base-url", url,
            "--timeout", 2, "--concurrency", 4, "--out", out]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_third_of_the_answers_fails(
    fault: str, scene_folder: Path, tmp_path: Path, record: Record
) -> None:
    samples = many_samples(scene_folder, tmp_path, 1)
    out = tmp_path / "p.jsonl"
    with chat_server() as server:
        assert run(*predict(samples, server.url, tmp_path / "whole.jsonl")).status == 0
    with chat_server(every_third(FAULTS[fault])) as server:
        outcome = run(*predict(samples, server.url, out))
        met = sum(number % 3 == 1 for number in range(len(server.bodies)))
    assert outcome.status == 0, outcome.err
    assert outcome.peak_mb < 500
    assert met >= 3
    kept = whole_lines(out)
    lost = [row for row in whole_lines(tmp_path / "whole.jsonl") if row not in kept]
    for _ in range(met):
        how = f"every third answer: {fault}"
        record("endpoint", "predict", how, outcome.line, lost, len(kept), "rows")


def test_half_a_surrogate_pair_is_an_answer_and_spoils_no_file(
    scene_folder: Path, tmp_path: Path, record: Record
) -> None:
    samples = many_samples(scene_folder, tmp_path, 1)
    out = tmp_path / "p.jsonl"
    half = '{"choices": [{"message": {"content": "\\ud800"}, "finish_reason": "stop"}]}'
    with chat_server(every_third(half)) as server:
        outcome = run(*predict(samples, server.url, out))
    assert outcome.status == 0, outcome.err
    rows = [json.loads(line) for line in whole_lines(out)]
    assert [row["completion"] for row in rows].count("?") == 4
    lost = ["row"] * (12 - len(rows))
    record("endpoint", "predict", "half a surrogate pair", outcome.line, lost, len(rows), "rows")


@pytest.mark.parametrize(
    ("fault", "word"),
    [("401", "the key was refused"), ("404", "no such model"), ("500", "given up"),
     ("html", "given up"), ("drop", "given up"), ("huge", "given up")],
)  # fmt: skip
def test_a_server_that_always_fails_is_told_of_before_anything_is_written(
    fault: str, word: str, scene_folder: Path, tmp_path: Path, record: Record
) -> None:
    samples = many_samples(scene_folder, tmp_path, 1)
    with chat_server(lambda number, body: fault) as server:
        call = predict(samples, server.url, tmp_path / "p.jsonl")
        outcome = record.refused("endpoint", f"every answer: {fault}", call, word)
    assert outcome.status == 2


def test_no_server(scene_folder: Path, tmp_path: Path, record: Record) -> None:
    samples = many_samples(scene_folder, tmp_path, 1)
    call = predict(samples, "http://127.0.0.1:9/v1", tmp_path / "p.jsonl")
    record.refused("endpoint", "nobody listens", call, "connection failed")


def test_a_server_that_dies_in_the_middle_loses_no_row(
    scene_folder: Path, tmp_path: Path, record: Record
) -> None:
    samples = many_samples(scene_folder, tmp_path, 8)
    out = tmp_path / "p.jsonl"
    with chat_server(lambda number, body: "drop" if number > 40 else None) as server:
        # Lost questions wait half a minute each, so they wait side by side.
        call = [*predict(samples, server.url, out), "--concurrency", 24]
        outcome = run(*call)
        assert_told(outcome, "no server answered")
        finished = [row for row in whole_lines(out) if '"error"' not in row]
        assert len(finished) > 30
        server.fault = lambda number, body: None
        assert run(*call).status == 0
    kept = whole_lines(out)
    lost = [row for row in finished if row not in kept]
    how = "the server dies in the middle"
    record("endpoint", "predict", how, outcome.line, lost, len(finished), "rows")
    assert len(kept) == 96
