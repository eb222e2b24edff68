"""Generation by OpenAI-compatible servers that misbehave; runs without torch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from boxrl.cli import main
from boxrl.data.predictions import Prediction, read_predictions
from boxrl.errors import UsageError
from boxrl.generation.endpoint import Endpoint
from boxrl.generation.predict import Draw, Sampling, predict
from boxrl.generation.servers import Retry
from boxrl.types import Sample
from tests.faults.kills import hostile, kill_again_and_again, many_samples
from tests.support.chat_server import Fault, answer, chat_server
from tests.support.served import KEY, call, endpoint
from tests.test_without_torch import WITHOUT as WITHOUT_TORCH


def after_probe(kind: str, times: int = 1) -> Fault:
    """The fault for the first requests that follow the probe."""
    return lambda number, body: kind if 1 <= number <= times else None


def test_every_sample_is_answered_in_the_samples_order(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    with chat_server() as server:
        failed = predict(
            endpoint(scene_folder, server), samples, tmp_path / "p.jsonl", Sampling(), {}
        )
    rows = read_predictions(tmp_path / "p.jsonl")
    assert not failed
    assert list(rows) == [sample.id for sample in samples]
    asked = [answer(body) for body in server.bodies[1:]]
    assert sorted(row.completion for row in rows.values()) == sorted(asked)
    assert len(set(asked)) == len(samples)
    assert {row.finish_reason for row in rows.values()} == {"stop"}
    assert server.bodies[1]["temperature"] == 0.0
    assert server.bodies[1]["max_tokens"] == 1024
    assert server.headers[1]["Authorization"] == f"Bearer {KEY}"


def test_an_answer_that_waits_to_be_written_outlives_the_run(
    scene_folder: Path, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fake(engine: Endpoint, draw: Draw, sampling: Sampling) -> Prediction:
        if draw.id == samples[0].id:
            raise UsageError("no server answers")
        return Prediction(draw.id, "None", 1, "stop")

    monkeypatch.setattr(Endpoint, "_answer", fake)
    with chat_server() as server, pytest.raises(UsageError, match="no server answers"):
        predict(endpoint(scene_folder, server), samples, tmp_path / "p.jsonl", Sampling(), {})
    assert read_predictions(tmp_path / "p.jsonl").keys() == {each.id for each in samples[1:]}


def test_requests_undo_a_models_own_settings_and_say_what_the_call_says(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    own = {"repetition_penalty": 1.0, "top_k": -1, "top_p": 1.0, "skip_special_tokens": False}
    asked = {}
    with chat_server() as server:
        for name, sampling, extra in (
            ("greedy", Sampling(), {}),
            ("drawn", Sampling(temperature=1, top_p=0.9), {"repetition_penalty": None}),
        ):
            engine = endpoint(scene_folder, server, defaults=own, extra_body=extra)
            predict(engine, samples[:1], tmp_path / f"{name}.jsonl", sampling, {})
            asked[name] = {key: server.bodies[-1].get(key) for key in own}
    assert asked["greedy"] == own | {"top_k": None, "top_p": None}
    assert asked["drawn"] == own | {"repetition_penalty": None, "top_p": 0.9}


@pytest.mark.parametrize("kind", ["drop", "500", "503", "429", "429 0", "garbled", "html", "cut"])
def test_what_may_pass_is_tried_again(
    scene_folder: Path, samples: list[Sample], tmp_path: Path, kind: str
) -> None:
    with chat_server(after_probe(kind, 5)) as server:
        failed = predict(
            endpoint(scene_folder, server), samples, tmp_path / "p.jsonl", Sampling(), {}
        )
    assert not failed
    assert len(server.bodies) == 1 + 5 + len(samples)
    assert {row.finish_reason for row in read_predictions(tmp_path / "p.jsonl").values()} == {
        "stop"
    }


def test_a_server_that_hangs_is_given_up_on_after_the_time_limit(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    began = time.monotonic()
    with chat_server(after_probe("hang", 3)) as server:
        engine = endpoint(scene_folder, server, timeout_s=0.5)
        assert not predict(engine, samples, tmp_path / "p.jsonl", Sampling(), {})
        assert time.monotonic() - began < 10
    assert len(server.bodies) == 1 + 3 + len(samples)


def reply(content: str = '"x"', finish: str = '"stop"', more: str = "") -> str:
    return (
        f'{{"choices": [{{"message": {{"content": {content}}}, "finish_reason": {finish}}}]{more}}}'
    )


@pytest.mark.parametrize(
    ("content", "completion", "n_tokens", "finish"),
    [
        (reply(more=', "usage": {"completion_tokens": -3}'), "x", None, "stop"),
        (reply(more=', "usage": {"completion_tokens": 1e999}'), "x", None, "stop"),
        (reply(more=', "usage": {"completion_tokens": "many"}'), "x", None, "stop"),
        (reply(more=f', "usage": {{"completion_tokens": {10**30}}}'), "x", None, "stop"),
        (reply(more=', "usage": [1]'), "x", None, "stop"),
        (reply(more=', "usage": null'), "x", None, "stop"),
        (reply('"\\ud800 x"', '"length"'), "? x", None, "length"),
        (reply("null"), "", None, "stop"),
        (reply(finish='"content_filter"'), "", 0, "error"),
        (reply(finish="null"), "x", None, "stop"),
        (reply(finish='"eos_token"'), "x", None, "stop"),
    ],
)
def test_odd_answers_are_read(
    scene_folder: Path,
    samples: list[Sample],
    tmp_path: Path,
    content: str,
    completion: str,
    n_tokens: int | None,
    finish: str,
) -> None:
    with chat_server(after_probe(content)) as server:
        predict(endpoint(scene_folder, server), samples[:1], tmp_path / "p.jsonl", Sampling(), {})
    assert len(server.bodies) == 2
    (row,) = read_predictions(tmp_path / "p.jsonl").values()
    assert (row.completion, row.n_tokens, row.finish_reason) == (completion, n_tokens, finish)


@pytest.mark.parametrize(
    "content",
    [
        reply('{"a": 1}'),
        reply(finish='"abort"'),
        '{"error": {"message": "upstream"}}',
        '{"choices": [' + "[" * 100_000 + "]}",
        '{"choices": {}}',
    ],
    ids=["content", "aborted", "error", "deep", "none"],
)
def test_answers_that_cannot_be_read_are_asked_for_again(
    scene_folder: Path, samples: list[Sample], tmp_path: Path, content: str
) -> None:
    with chat_server(after_probe(content)) as server:
        out = tmp_path / "p.jsonl"
        assert not predict(endpoint(scene_folder, server), samples[:1], out, Sampling(), {})
    assert len(server.bodies) == 3


@pytest.mark.parametrize("wait", ["nan", "-1", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", "1e9"])
def test_a_senseless_retry_after_is_passed_over(
    scene_folder: Path, samples: list[Sample], tmp_path: Path, wait: str
) -> None:
    with chat_server(after_probe(f"429 {wait}")) as server:
        predict(endpoint(scene_folder, server), samples[:1], tmp_path / "p.jsonl", Sampling(), {})
    assert server.times[2] - server.times[1] < 2


def test_retry_after_is_waited_for(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    with chat_server(after_probe("429 1")) as server:
        predict(endpoint(scene_folder, server), samples[:1], tmp_path / "p.jsonl", Sampling(), {})
    assert 1.0 <= server.times[2] - server.times[1] < 3


def test_a_date_to_retry_after_counts_by_the_servers_clock(
    scene_folder: Path, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is years ahead of the client's here."""
    now = formatdate(4e9, usegmt=True)
    monkeypatch.setattr("http.server.BaseHTTPRequestHandler.date_time_string", lambda *_: now)
    with chat_server(after_probe(f"429 {formatdate(4e9 + 2, usegmt=True)}")) as server:
        predict(endpoint(scene_folder, server), samples[:1], tmp_path / "p.jsonl", Sampling(), {})
    assert 2.0 <= server.times[2] - server.times[1] < 6


def test_waits_double_with_jitter_up_to_a_bound() -> None:
    retry = Retry(first_s=1.0, longest_s=8.0)
    for failures, longest in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (500, 8)):
        waits = [retry.wait_s(failures) for _ in range(200)]
        assert longest / 2 <= min(waits) < max(waits) <= longest
        assert max(waits) - min(waits) > longest / 4


def test_what_fails_for_good_becomes_an_error_row_and_is_tried_by_the_next_run(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    out = tmp_path / "p.jsonl"
    unlucky = ("400", "500")

    def fault(number: int, body: dict[str, Any]) -> str | None:
        text = body["messages"][-1]["content"][1]["text"]
        return next((kind for kind in unlucky if f"never-{kind}" in text), None)

    asked = [
        replace(samples[0], labels=("never-400",)),
        *samples[1:4],
        replace(samples[4], labels=("never-500",)),
    ]
    with chat_server(fault, message=f"key {KEY} is not\nwelcome") as server:
        failed = predict(endpoint(scene_folder, server), asked, out, Sampling(), {})
    assert {row.id for row in failed} == {samples[0].id, samples[4].id}
    rows = read_predictions(out)
    assert rows[samples[0].id].finish_reason == "error"
    assert rows[samples[0].id].error == f"{server.url}: HTTP 400 'key *** is not welcome'"
    assert "given up after 7 tries" in (rows[samples[4].id].error or "")
    with chat_server() as server:
        assert not predict(endpoint(scene_folder, server), asked, out, Sampling(), {})
        assert len(server.bodies) == 1 + 2
    assert len(out.read_text().splitlines()) == 5
    assert list(read_predictions(out)) == [sample.id for sample in asked]
    assert {row.finish_reason for row in read_predictions(out).values()} == {"stop"}


def test_servers_share_the_load_and_a_dead_one_is_worked_around(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    many = [replace(sample, id=f"{sample.id}/{k}") for k in range(4) for sample in samples]
    with (
        chat_server(delay_s=0.2) as a,
        chat_server(delay_s=0.2) as b,
        chat_server(lambda number, body: "drop" if number else None) as dead,
    ):
        engine = endpoint(scene_folder, a, b, dead)
        assert not predict(engine, many, tmp_path / "p.jsonl", Sampling(), {})
    assert len(a.bodies) + len(b.bodies) == 2 + len(many)
    assert min(len(a.bodies), len(b.bodies)) >= 12
    assert len(dead.bodies) >= 2


def test_no_more_requests_at_once_than_allowed(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    with chat_server(delay_s=0.05) as server:
        assert main(call(scene_folder, tmp_path / "p", "--base-url", server.url,
                         "--concurrency", "3")) == 0  # fmt: skip
    assert server.most_busy == 3


def test_a_run_stops_when_no_server_answers_any_more(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    many = [replace(sample, id=f"{sample.id}/{k}") for k in range(10) for sample in samples]
    with (
        chat_server(lambda number, body: "500" if number > 20 else None) as server,
        pytest.raises(UsageError, match="no server answered 29 questions in a row"),
    ):
        predict(endpoint(scene_folder, server), many, tmp_path / "p.jsonl", Sampling(), {})
    assert len([r for r in read_predictions(tmp_path / "p.jsonl").values() if not r.error]) == 20


@pytest.mark.parametrize(
    ("kind", "message", "said"),
    [
        ("400", "served is not a multimodal model", "does served take images"),
        ("401", f"Incorrect API key provided: {KEY}", "the key was refused"),
        ("404", "The model `served` does not exist.", "no such model or address"),
        ("500", "image input is not supported", "does served take images"),
    ],
)
def test_what_every_question_would_meet_is_one_line_before_anything_is_generated(
    scene_folder: Path, samples: list[Sample], tmp_path: Path, kind: str, message: str, said: str
) -> None:
    with (
        chat_server(lambda number, body: kind, message) as server,
        pytest.raises(UsageError) as raised,
    ):
        predict(endpoint(scene_folder, server), samples, tmp_path / "p.jsonl", Sampling(), {})
    line = str(raised.value)
    assert said in line
    assert server.url in line
    assert KEY not in line
    assert "\n" not in line
    assert not read_predictions(tmp_path / "p.jsonl")


def test_the_key_is_in_no_file_and_no_output(
    scene_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    out = tmp_path / "p.jsonl"
    with chat_server(after_probe("400", 2), message=f"bad key {KEY}") as server:
        options = ("--base-url", server.url, "--api-key-env", "MY_KEY", "--concurrency", "1")
        assert main(call(scene_folder, out, *options)) == 1
    printed = capsys.readouterr()
    assert "2 completions ended in error" in printed.err
    assert server.headers[1]["Authorization"] == f"Bearer {KEY}"
    for text in (printed.out, printed.err, *(path.read_text() for path in tmp_path.iterdir())):
        assert KEY not in text


def test_a_killed_run_ends_as_an_uninterrupted_one(scene_folder: Path, tmp_path: Path) -> None:
    many_samples(scene_folder, tmp_path, copies=3)
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    with chat_server(hostile(0.05, 1), delay_s=0.05) as server:
        options = ("--base-url", server.url, "--timeout", "1", "--concurrency", "4")
        assert main(call(tmp_path, whole, *options)) == 0
        assert kill_again_and_again(call(tmp_path, killed, *options), killed, kills=3)
        assert main(call(tmp_path, killed, *options)) == 0
    assert killed.read_bytes() == whole.read_bytes()


def test_the_engine_runs_where_torch_is_not_installed(scene_folder: Path, tmp_path: Path) -> None:
    code = WITHOUT_TORCH + "from boxrl.cli import main\nsys.exit(main(sys.argv[1:]))\n"
    with chat_server() as server:
        arguments = call(scene_folder, tmp_path / "p.jsonl", "--base-url", server.url)
        result = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            env={key: value for key, value in os.environ.items() if key != "OPENAI_API_KEY"},
        )
    assert result.returncode == 0, result.stderr
    assert len(read_predictions(tmp_path / "p.jsonl")) == 12
    assert "Authorization" not in server.headers[1]


def raw(header: str = "", status: str = "200 OK", body: str = "{}") -> str:
    """An answer byte for byte."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body.encode())}\r\n{header}\r\n{body}"


SPLIT = "\u200b".join(KEY)
PLACES = {
    "the answer": reply(f'"{KEY} {SPLIT}"'),
    "the answer, spelled": reply('"' + "".join(f"\\\\u{ord(c):04x}" for c in KEY) + '"'),
    "the finish reason": reply(finish=f'"{KEY}"'),
    "the finish reason, split": reply(finish=f'"{SPLIT}"'),
    "the finish reason, behind 60 others": reply(finish=f'"{"x" * 60}{KEY}"'),
    "a token": reply(more=f', "usage": {{"completion_tokens": "{KEY}"}}'),
    "a header that is none": raw(f"{KEY}\r\n"),
    "a header that is none, split": raw(f"{SPLIT}\r\n"),
    "a header's value": raw(f"X-Key: {KEY}\r\nContent-Length: {KEY}\r\n"),
    "the status line": raw(status=f"4000 {KEY}"),
    "the version": f"HTTP/{KEY} 200 OK\r\n\r\n",
    "the error's body": raw(status="400 Bad", body=f"bad key {KEY}, {SPLIT}"),
    "the error's JSON": raw(status="400 Bad", body=f'{{"error": {{"message": ["{KEY}"]}}}}'),
    "the error's JSON, cut at 300": raw(status="400 Bad", body=f'"{"x" * 290}{KEY}"'),
    "a redirect": raw(f"Location: http://127.0.0.1/?key={KEY}\r\n", status="302 Found"),
    "Retry-After": raw(f"Retry-After: {KEY}\r\n", status="400 Bad"),
    "a body of another length": raw(body="{}") + KEY,
}


@pytest.mark.parametrize("place", PLACES)
def test_the_key_is_cut_out_wherever_a_server_puts_it(
    place: str,
    scene_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setattr("boxrl.generation.servers.Retry", lambda: Retry(2, 0.01, 0.01))
    out = tmp_path / "p.jsonl"
    extra = ("--api-key-env", "MY_KEY", "--limit", "1", "--extra-body", f'{{"user": "{KEY}"}}')
    with chat_server(after_probe(PLACES[place], 2)) as server:
        status = main(call(scene_folder, out, *extra, "--base-url", server.url))
    assert status == (0 if re.search("answer|finish|token", place) else 1)
    with chat_server() as server:
        assert main(call(scene_folder, out, *extra, "--base-url", server.url)) == 0
    printed = capfd.readouterr()
    for text in (printed.out, printed.err, *(path.read_text() for path in tmp_path.iterdir())):
        seen = "".join(c for c in text if c.isprintable() and not c.isspace()).lower()
        assert KEY not in seen
        assert KEY[:12] not in seen
        assert "\\u200b" not in text
    assert '"user": "***"' in out.with_suffix(".meta.json").read_text()


@pytest.mark.parametrize("wait", ["601", "86400", "9" * 23, "9" * 400])
def test_a_server_that_asks_for_a_day_is_not_waited_for(
    scene_folder: Path, samples: list[Sample], tmp_path: Path, wait: str
) -> None:
    began = time.monotonic()
    with chat_server(after_probe(f"429 {wait}", 99)) as server:
        (row,) = predict(
            endpoint(scene_folder, server), samples[:1], tmp_path / "p", Sampling(), {}
        )
    assert time.monotonic() - began < 5
    assert "asks to be left alone for" in (row.error or "")
    assert "longer than the limit of 600 s" in (row.error or "")
    assert len(server.bodies) == 2


def test_waiting_for_servers_that_ask_for_patience_has_an_end(
    scene_folder: Path, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxrl.generation.servers.LONGEST_WAIT_S", 2.5)
    began = time.monotonic()
    with chat_server(after_probe("429 1", 99)) as server:
        (row,) = predict(
            endpoint(scene_folder, server), samples[:1], tmp_path / "p", Sampling(), {}
        )
    assert time.monotonic() - began < 4
    assert len(server.bodies) == 1 + 3
    assert "longer than the limit of 2.5 s" in (row.error or "")


def test_json_that_would_fill_the_memory_ends_within_the_time_limit(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    """60 MB of empty lists took more than a minute and 6 GB a try."""
    bomb = '{"choices": [' + "[]," * 20_000_000 + "[]]}"
    began = time.monotonic()
    with chat_server(after_probe(bomb, 3)) as server:
        engine = endpoint(scene_folder, server, timeout_s=8.0)
        assert not predict(engine, samples[:1], tmp_path / "p.jsonl", Sampling(), {})
    assert time.monotonic() - began < 15
    assert len(server.bodies) == 5
