"""A real vLLM, server and offline, answers as the transformers engine does. `make test-vllm`."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.data.predictions import Prediction, read_predictions
from boxrl.generation.model_folders import model_folder

pytestmark = pytest.mark.vllm

PYTHON = os.environ.get("VLLM_PYTHON", "")
ENVIRONMENT = os.environ | {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONPATH": str(Path(__file__).parent / "repair"),
}
START_S = 600


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The taught tiny VLM behind an OpenAI-compatible server on loopback; its base URL."""
    if not PYTHON:
        pytest.skip("VLLM_PYTHON names no interpreter with vLLM; make test-vllm builds one")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    arguments = [
        *(PYTHON, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model_folder("tiny-taught")), "--served-model-name", "served"),
        *("--dtype", "float32", "--max-model-len", "1024", "--enforce-eager"),
        *("--host", "127.0.0.1", "--port", str(port), "--generation-config", "vllm"),
        *("--limit-mm-per-prompt", '{"image": 1, "video": 0}'),
    ]
    with (
        log.open("wb") as output,
        subprocess.Popen(arguments, stdout=output, stderr=output, env=ENVIRONMENT) as process,
    ):
        try:
            _wait_until_up(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()


def _wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(1)
        else:
            return
    pytest.fail(f"vLLM did not come up:\n{log.read_text(errors='replace')[-3000:]}")


def call(scene_folder: Path, out: Path, *more: str) -> list[str]:
    return [
        *("predict", "--model", "tiny-taught", "--max-new-tokens", "64", "--logprobs"),
        *("--samples", str(scene_folder / "samples.jsonl"), "--out", str(out)),
        *("--images", str(scene_folder / "images"), *more),
    ]


def predicted(scene_folder: Path, out: Path, *more: str) -> dict[str, Prediction]:
    assert main(call(scene_folder, out, *more)) == 0
    return read_predictions(out)


@pytest.fixture(scope="module")
def expected(scene_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Prediction]:
    """What the transformers engine answers."""
    return predicted(scene_folder, tmp_path_factory.mktemp("transformers") / "p.jsonl")


def assert_same(rows: dict[str, Prediction], expected: dict[str, Prediction]) -> None:
    assert list(rows) == list(expected)
    for key, row in rows.items():
        assert row.completion == expected[key].completion
        assert row.finish_reason == expected[key].finish_reason
        assert row.n_tokens == expected[key].n_tokens
        assert row.input_size_wh == expected[key].input_size_wh
        assert row.box_logprobs == pytest.approx(expected[key].box_logprobs, abs=1e-3)


def test_a_server_gives_the_boxes_of_the_transformers_engine(
    server: str, scene_folder: Path, tmp_path: Path, expected: dict[str, Prediction]
) -> None:
    options = ("--engine", "openai", "--base-url", server, "--served-model-name", "served")
    assert_same(predicted(scene_folder, tmp_path / "p.jsonl", *options), expected)
    assert sum(len(row.box_logprobs or ()) for row in expected.values()) >= 10


def test_seeded_draws_of_a_server_repeat_whatever_is_asked_beside_them(
    server: str, scene_folder: Path, tmp_path: Path
) -> None:
    options = ("--engine", "openai", "--base-url", server, "--served-model-name", "served",
               "--n", "3", "--temperature", "1", "--limit", "4")  # fmt: skip
    a = predicted(scene_folder, tmp_path / "a.jsonl", *options)
    b = predicted(scene_folder, tmp_path / "b.jsonl", *options, "--concurrency", "2")
    assert {key: row.completion for key, row in a.items()} == {
        key: row.completion for key, row in b.items()
    }
    assert len({row.completion for row in a.values()}) > 4


def test_an_unknown_model_is_one_line(
    server: str, scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = call(scene_folder, tmp_path / "p.jsonl", "--engine", "openai", "--base-url", server)
    assert main(arguments) == 2
    assert "The model `tiny-taught` does not exist" in capsys.readouterr().err


def verified(scene_folder: Path, predictions: Path, out: Path, *options: str) -> list[str]:
    return [
        *("verify", "--model", "tiny-taught", "--predictions", str(predictions)),
        *("--samples", str(scene_folder / "samples.jsonl"), "--out", str(out)),
        *("--images", str(scene_folder / "images"), *options),
    ]


def test_a_second_look_is_the_same_by_a_server_offline_and_by_transformers(
    server: str, scene_folder: Path, tmp_path: Path
) -> None:
    """What is compared is how likely each first token was: the tiny VLM knows no yes and no."""
    made = tmp_path / "p.jsonl"
    predicted(scene_folder, made, "--limit", "4")
    few = tmp_path / "samples.jsonl"
    lines = (scene_folder / "samples.jsonl").read_text().splitlines(keepends=True)
    few.write_text("".join(lines[:4]))
    served = ("--engine", "openai", "--base-url", server, "--served-model-name", "served")
    offline = ("--engine", "vllm", "--dtype", "float32", "--engine-arg",
               "max_model_len=1024", "--engine-arg", "enforce_eager=true")  # fmt: skip
    looks = []
    for name, options in (("t", ()), ("s", served), ("o", offline)):
        arguments = verified(scene_folder, made, tmp_path / f"{name}.jsonl", *options)
        arguments[arguments.index("--samples") + 1] = str(few)
        if name == "o":
            command = [PYTHON, "-m", "boxrl", *arguments]
            result = subprocess.run(
                command, capture_output=True, text=True, env=ENVIRONMENT, timeout=START_S
            )
            assert result.returncode == 0, result.stderr[-3000:]
        else:
            assert main(arguments) == 0
        looks.append(read_predictions(tmp_path / f"{name}.boxes.jsonl"))
    assert len(looks[0]) >= 4
    for key, row in looks[0].items():
        for other in looks[1:]:
            likely, theirs = row.first_tokens or {}, other[key].first_tokens or {}
            for token, probability in likely.items():
                if probability > 1e-3:
                    assert theirs[token] == pytest.approx(probability, abs=1e-3)


def test_offline_gives_the_boxes_of_the_transformers_engine(
    scene_folder: Path, tmp_path: Path, expected: dict[str, Prediction]
) -> None:
    if not PYTHON:
        pytest.skip("VLLM_PYTHON names no interpreter with vLLM; make test-vllm builds one")
    options = ("--engine", "vllm", "--dtype", "float32", "--engine-arg", "max_model_len=1024",
               "--engine-arg", "enforce_eager=true")  # fmt: skip
    result = subprocess.run(
        [PYTHON, "-m", "boxrl", *call(scene_folder, tmp_path / "p.jsonl", *options)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=START_S,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert_same(read_predictions(tmp_path / "p.jsonl"), expected)
