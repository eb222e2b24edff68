"""A run that is being written: in the terminal, and as a page on loopback."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from rich.console import Console

from boxrl.cli import main
from boxrl.errors import UsageError
from boxrl.report.live import MOST_CONNECTIONS, serve
from boxrl.report.watch import describe_progress, sparkline, watch
from tests.support.report_runs import build_run, training_step, write_jsonl


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("run"), samples=4)


def shown(run: Path) -> str:
    console = Console(width=120, record=True, force_terminal=False)
    with console.capture() as capture:
        console.print(describe_progress(run))
    return capture.get()


def test_watch_shows_progress_curves_warnings_and_a_completion(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "recipe.yaml").write_text("train: {max_steps: 90}\n")
    steps = [training_step(step) for step in range(1, 61)]
    steps[40]["warnings"] = {"kl_exploding": "KL to the reference is 9.00"}
    write_jsonl(copy / "metrics.jsonl", steps)
    sampled = {"step": 60, "id": "train-1", "completion": "<think>\u202e2", "rewards": {"f1": 0.25}}
    write_jsonl(copy / "completions.jsonl", [sampled])
    text = shown(copy)
    assert "quickstart  done  step 60 of 90  2:30 passed  1:15 left" in text
    assert "! step 41: KL to the reference is 9.00" in text
    assert "sampled at step 60, train-1:  f1 0.25" in text
    assert "<think>\u27e8U+202E\u27e92" in text
    format_line = next(line for line in text.splitlines() if line.startswith("format"))
    assert "\u2581" in format_line and "\u2588" in format_line


def test_watch_of_a_run_that_has_just_begun(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "metrics.jsonl").write_text('{"step": 1, "rew')
    assert "no step is logged yet" in shown(copy)
    (copy / "metrics.jsonl").unlink()
    assert "no step is logged yet" in shown(copy)


@pytest.mark.parametrize("odd", [10**400, float("nan"), 1e308, "x", [], None])
def test_watch_passes_over_what_is_no_number(run: Path, tmp_path: Path, odd: object) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    steps = [training_step(step) for step in (1, 2, 3)]
    steps[1] |= {"reward": odd, "time_s": odd, "rewards": odd}
    steps.append(steps[1] | {"step": 10**400})
    steps[2]["rewards"]["f1"] = odd
    write_jsonl(copy / "metrics.jsonl", steps)
    write_jsonl(copy / "completions.jsonl", [{"step": 3, "id": "a", "rewards": {"f1": odd}}])
    text = shown(copy)
    assert "step 3" in text
    assert "sampled at step 3, a" in text


def test_watch_shows_names_of_rewards_as_they_are(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    steps = [training_step(step) | {"rewards": {"[/red] f1[own]": 0.5}} for step in (1, 2)]
    write_jsonl(copy / "metrics.jsonl", steps)
    assert "[/red] f1[own]" in shown(copy)


def test_watch_ends_with_the_run_and_prints_once_into_a_pipe(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch(run, Console(force_terminal=True, width=80))
    assert main(["watch", str(run)]) == 0
    assert "step 60" in capsys.readouterr().out


def test_watch_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        describe_progress(tmp_path)


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], list(range(500)), [-1.0, 5.0, 0.0]])
def test_sparkline_has_a_bar_per_stretch(values: list[float]) -> None:
    line = sparkline(values)
    assert len(line) == min(40, len(values))
    if max(values) > min(values):
        assert "\u2581" in line and "\u2588" in line


@pytest.fixture
def port(run: Path) -> Iterator[int]:
    with serve(run) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def get(
    port: int, path: str, host: str | None = None, method: str = "GET", **headers: str
) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers["Host"] = host or f"127.0.0.1:{port}"
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_live_page_asks_its_own_server_only(port: int) -> None:
    status, text = get(port, "/")
    assert status == 200
    assert "connect-src &#39;self&#39;" in text
    assert "default-src &#39;none&#39;" in text


def test_version_changes_with_the_run(run: Path, port: int) -> None:
    before = get(port, "/version")
    assert get(port, "/version") == before
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"seconds": 1234.5}))
    assert get(port, "/version") != before


@pytest.mark.parametrize("path", ["/../run.json", "//etc/passwd", "/%2e%2e/run.json", "/run.json"])
def test_live_server_serves_its_page_only(port: int, path: str) -> None:
    assert get(port, path)[0] == 404


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/", "/version", "/report_files/0.jpeg", "/nothing"])
def test_live_server_refuses_foreign_hosts(port: int, method: str, path: str) -> None:
    for host in (f"evil.example:{port}", "127.0.0.1:1", "127.0.0.1", f"127.0.0.1.nip.io:{port}"):
        assert get(port, path, host, method)[0] == 403
    for origin in ("http://evil.example", "null", "http://localhost:3000"):
        assert get(port, path, method=method, Origin=origin)[0] == 403
    own = get(port, path, f"LocalHost:{port}", method, Origin=f"http://localhost:{port}")
    assert own[0] == (200 if path in ("/", "/version") else 404)


def test_live_server_answers_head_without_the_page(port: int) -> None:
    status, text = get(port, "/", method="HEAD")
    assert (status, text) == (200, "")


@pytest.mark.parametrize(
    "request_line",
    ["GET /%00", "GET /\x00", "GET /report_files/..%2f..%2fetc", "GET " + "/" * 70_000, "GET \xff",
     "HEAD /%00", "POST /", "\x16\x03\x01", "GET http://[", "GET /?%00", "BREW /"],
)  # fmt: skip
def test_no_path_makes_the_live_server_print(
    port: int, request_line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        head = f"{request_line} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
        connection.sendall(head.encode("latin-1"))
        assert b" 200 " not in connection.recv(4096)
    assert get(port, "/version")[0] == 200
    assert capfd.readouterr().err == ""


def test_live_server_closes_connections_that_say_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("boxrl.report.live._Handler.timeout", 1.0)
    with serve(run) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        silent = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(300)]
        time.sleep(0.5)
        assert threading.active_count() < MOST_CONNECTIONS + 20
        time.sleep(1.5)
        assert get(server.server_port, "/version")[0] == 200
        server.shutdown()
        for connection in silent:
            connection.close()
    assert capfd.readouterr().err == ""


def test_live_server_says_what_is_wrong_with_the_run(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "<b>run")
    with serve(copy) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        shutil.rmtree(copy)
        status, text = get(server.server_port, "/")
        server.shutdown()
    assert status == 503
    assert "no such run folder" in text
    assert "<b>run" not in text


def test_live_of_nothing_and_of_two_runs(tmp_path: Path, run: Path) -> None:
    assert main(["report", "--live", str(tmp_path / "nowhere")]) == 2
    assert main(["report", "--live", str(run), str(run)]) == 2
