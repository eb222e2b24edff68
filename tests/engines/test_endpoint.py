"""Generation by OpenAI-compatible servers that misbehave; runs without torch."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from boxrl.cli import main
from boxrl.data.predictions import meta_path, read_predictions
from boxrl.data.samples import read_samples, write_samples
from boxrl.engines.endpoint import Endpoint
from boxrl.engines.predict import Sampling, predict
from boxrl.engines.questions import GREY, Questions
from boxrl.engines.servers import Retry, Servers
from boxrl.errors import UsageError
from boxrl.families import build_family
from boxrl.parsing import parse
from boxrl.prompts import PROMPTS
from boxrl.types import Sample
from tests.chat_server import ChatServer, Fault, answer, chat_server, image_of, random_faults
from tests.test_without_torch import WITHOUT as WITHOUT_TORCH

KEY = "sk-very-secret-0123456789"
QUICK = Retry(attempts=7, first_s=0.01, longest_s=0.05)


def call(scene_folder: Path, out: Path, *more: str) -> list[str]:
    return [
        "predict", "--engine", "openai", "--family", "plain", "--model", "served",
        *("--samples", str(scene_folder / "samples.jsonl")),
        *("--images", str(scene_folder / "images")),
        *("--out", str(out), *more),
    ]  # fmt: skip


def endpoint(scene_folder: Path, *servers: ChatServer, **options: Any) -> Endpoint:
    questions = Questions(build_family("plain"), PROMPTS["standard"], scene_folder / "images")
    urls = [server.url for server in servers]
    timeout_s = options.pop("timeout_s", 20.0)
    return Endpoint(
        questions, Servers(urls, KEY, 8, timeout_s=timeout_s, retry=QUICK), "served", **options
    )


def after_probe(kind: str, times: int = 1) -> Fault:
    """The fault for the first requests that follow the probe."""
    return lambda number, body: kind if 1 <= number <= times else None


@pytest.fixture
def samples(scene_folder: Path) -> list[Sample]:
    return read_samples(scene_folder / "samples.jsonl")


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
        (reply(more=', "usage": {"completion_tokens": -3}'), "x", 0, "stop"),
        (reply(more=', "usage": null'), "x", 0, "stop"),
        (reply('"\\ud800 x"', '"length"'), "? x", 0, "length"),
        (reply("null"), "", 0, "stop"),
        (reply(finish='"content_filter"'), "x", 0, "error"),
        (reply(finish="null"), "x", 0, "error"),
    ],
)
def test_odd_answers_are_read(
    scene_folder: Path,
    samples: list[Sample],
    tmp_path: Path,
    content: str,
    completion: str,
    n_tokens: int,
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
        reply(more=', "usage": {"completion_tokens": 1e999}'),
        reply(more=', "usage": [1]'),
        reply('{"a": 1}', more=', "usage": {"completion_tokens": "many"}'),
        '{"choices": [' + "[" * 100_000 + "]}",
        '{"choices": {}}',
    ],
    ids=["infinite", "list", "words", "deep", "none"],
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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "needs --base-url"),
        (("--base-url", "localhost:8000"), "expected a URL such as"),
        (("--base-url", "http://me:secret@127.0.0.1/v1"), "holds a password"),
        (("--base-url", "http://127.0.0.1:9/v1", "--n", "2"), "add --temperature"),
        (("--base-url", "http://127.0.0.1:9/v1", "--extra-body", "[1]"), "expected a JSON object"),
        (("--base-url", "http://127.0.0.1:9/v1", "--family", "none"), "unknown family 'none'"),
    ],
)
def test_a_wrong_call_is_one_line(
    scene_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    said: str,
) -> None:
    assert main(call(scene_folder, tmp_path / "p.jsonl", *options)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert "secret" not in error
    assert not list(tmp_path.iterdir())


def test_the_family_of_a_server_is_never_guessed(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = call(scene_folder, tmp_path / "p.jsonl", "--base-url", "http://127.0.0.1:9/v1")
    del arguments[3:5]
    assert main(arguments) == 2
    assert "name it with --family" in capsys.readouterr().err


def test_a_model_folder_gives_family_limits_and_banned_tokens(
    scene_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "p.jsonl"
    arguments = call(scene_folder, out, "--served-model-name", "mine", "--limit", "2")
    del arguments[3:5]
    arguments[arguments.index("served")] = "tiny"
    with chat_server() as server:
        assert main([*arguments, "--base-url", server.url]) == 0
    meta = json.loads(meta_path(out).read_text())
    assert (meta["family"], meta["max_pixels"], meta["model"]) == ("qwen2.5-vl", 12740, "tiny")
    assert meta["versions"]["servers"] == server.url
    assert server.bodies[1]["model"] == "mine"
    assert set(server.bodies[1]["logit_bias"].values()) == {-100}
    assert len(server.bodies[1]["logit_bias"]) == 4
    assert image_of(server.bodies[1]).size == (224, 224)
    assert read_predictions(out).popitem()[1].input_size_wh == (112, 112)


def test_without_a_model_folder_images_are_sent_in_the_size_that_the_frame_assumes(
    samples: list[Sample], scene_folder: Path, tmp_path: Path
) -> None:
    large = tmp_path / "large.png"
    Image.new("RGB", (300, 100)).save(large)
    sample = replace(samples[0], image=large.name, width=300, height=100, objects=())
    with chat_server() as server:
        for knows_size, size in ((False, (308, 112)), (True, (300, 100))):
            engine = endpoint(scene_folder, server, knows_size=knows_size)
            engine.questions = Questions(build_family("qwen2.5-vl"), PROMPTS["standard"], tmp_path)
            predict(engine, [sample], tmp_path / f"{knows_size}.jsonl", Sampling(), {})
            assert image_of(server.bodies[-1]).size == size


def test_images_are_shown_as_every_engine_shows_them(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    turned = Image.new("RGB", (30, 20), (250, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    turned.save(tmp_path / "plain.jpg")
    turned.convert("P").save(tmp_path / "palette.png")
    asked = [
        replace(samples[0], id=name, image=name, width=30, height=20, objects=())
        for name in ("turned.jpg", "plain.jpg", "palette.png")
    ]
    with chat_server() as server:
        for control in (None, "blank_image"):
            engine = endpoint(scene_folder, server)
            engine.questions = replace(engine.questions, images=tmp_path, control=control)
            for sample in asked:
                out = tmp_path / f"{sample.id}-{control}.jsonl"
                predict(engine, [sample], out, Sampling(), {})
                shown = image_of(server.bodies[-1])
                expected = GREY if control else turned.getpixel((0, 0))
                assert shown.size == (30, 20)
                assert shown.getexif().get(0x0112, 1) == 1
                assert shown.format == ("JPEG" if sample.id == "plain.jpg" and not control
                                        else "PNG")  # fmt: skip
                pixel = shown.convert("RGB").getpixel((0, 0))
                assert max(abs(a - b) for a, b in zip(pixel, expected, strict=True)) < 8


def test_extra_body_adds_to_every_request_and_removes_from_it(
    scene_folder: Path, tmp_path: Path
) -> None:
    extra = '{"max_tokens": null, "max_completion_tokens": 7}'
    with chat_server() as server:
        assert main(call(scene_folder, tmp_path / "p", "--limit", "1", "--base-url", server.url,
                         "--extra-body", extra)) == 0  # fmt: skip
    assert all(body["max_completion_tokens"] == 7 for body in server.bodies)
    assert not any("max_tokens" in body for body in server.bodies)


def test_several_draws_have_rows_and_seeds_of_their_own(scene_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.jsonl"
    with chat_server() as server:
        options = ("--base-url", server.url, "--n", "3", "--temperature", "1", "--limit", "2")
        assert main(call(scene_folder, out, *options)) == 0
        first = out.read_text()
        lines = first.splitlines(keepends=True)
        out.write_text("".join(lines[:2] + lines[4:]))
        assert main(call(scene_folder, out, *options)) == 0
    assert out.read_text() == first
    ids = [sample.id for sample in read_samples(scene_folder / "samples.jsonl")[:2]]
    assert list(read_predictions(out)) == [f"{i}#{k}" for i in ids for k in range(3)]
    assert len({row.completion for row in read_predictions(out).values()}) == 6
    assert len(server.bodies) == 1 + 6 + 1 + 2


def test_each_box_gets_the_mean_of_its_coordinate_tokens(
    scene_folder: Path, tmp_path: Path, samples: list[Sample]
) -> None:
    out = tmp_path / "p.jsonl"
    with chat_server() as server:
        engine = endpoint(scene_folder, server)
        predict(engine, samples, out, Sampling(logprobs=True), {})
    for row in read_predictions(out).values():
        text = row.completion
        (x1, y1, x2, y2), _ = parse(text, build_family("plain"), (224, 224)).items[0]
        start = text.index(f"[{x1}, {y1}, {x2}, {y2}]")
        end = text.index("]", start)
        digits = [k for k in range(start, end) if text[k].isdigit()]
        assert row.box_logprobs == pytest.approx([-sum(digits) / len(digits) / 100])
        assert row.n_tokens == len(text) + 1


def kill_and_rerun(
    scene_folder: Path, tmp_path: Path, server: ChatServer, copies: int, kills: int, seed: int
) -> None:
    """Kill `boxrl predict` at random moments; the final file equals the uninterrupted one."""
    rng = random.Random(seed)
    samples = read_samples(scene_folder / "samples.jsonl")
    many = [replace(sample, id=f"{sample.id}/{k}") for k in range(copies) for sample in samples]
    write_samples(tmp_path / "samples.jsonl", many)
    (tmp_path / "images").symlink_to(scene_folder / "images")
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    options = ("--base-url", server.url, "--timeout", "1", "--concurrency", "4")
    assert main(call(tmp_path, whole, *options)) == 0
    arguments = [sys.executable, "-m", "boxrl", *call(tmp_path, killed, *options)]
    done = 0
    for _ in range(kills):
        with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
            before = done
            deadline = time.monotonic() + 30
            # Each process does a little first, so that the kills spread over the work.
            while done <= before and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
                done = killed.read_bytes().count(b"\n") if killed.exists() else 0
            time.sleep(rng.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
    assert killed.read_bytes().count(b"\n") > 0
    assert main(call(tmp_path, killed, *options)) == 0
    assert killed.read_bytes() == whole.read_bytes()
    assert [json.loads(line)["id"] for line in killed.read_text().splitlines()] == [
        sample.id for sample in many
    ]


def hostile(share: float, seed: int) -> Fault:
    """A share of the requests fails in some way, one in a hundred by hanging."""
    faults, rng = random_faults(share, seed), random.Random(seed)

    def fault(number: int, body: dict[str, Any]) -> str | None:
        return "hang" if rng.random() < 0.01 else faults(number, body)

    return fault


def test_a_killed_run_ends_as_an_uninterrupted_one(scene_folder: Path, tmp_path: Path) -> None:
    with chat_server(hostile(0.05, 1), delay_s=0.05) as server:
        kill_and_rerun(scene_folder, tmp_path, server, copies=3, kills=3, seed=1)


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
