"""Schedulers, clocks, memory and numbers that go wrong: a checkpoint or a line, never silence."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from boxrl.config import dump_recipe
from tests.faults.campaign import Record, limit, run, start, wait_for_lines, whole_lines
from tests.faults.kills import many_samples, rows, same_rows
from tests.support.chat_server import chat_server
from tests.support.recipes import tiny_recipe

pytestmark = pytest.mark.slow

JUMPS = """
import random, time
dice, real = random.Random(0), time.time
time.time = lambda: real() + dice.choice([-86400 * 365, -1.0, 0.0, 3600.0])
"""
"""The wall clock jumps back a year or forward an hour between any two readings."""


@pytest.fixture
def recipe(scene_folder: Path, tmp_path: Path) -> Path:
    """A recipe of 14 steps without a checkpoint of its own; `out=` chooses the folder."""
    written = tmp_path / "recipe.yaml"
    tiny = tiny_recipe(scene_folder, tmp_path / "run", max_steps=14, prompts_per_step=2)
    written.write_text(dump_recipe(tiny))
    return written


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_training_writes_a_checkpoint_first(
    number: signal.Signals, recipe: Path, tmp_path: Path, record: Record
) -> None:
    log, errors = tmp_path / "run" / "metrics.jsonl", tmp_path / "stderr"
    with errors.open("wb") as output:
        process = start("train", recipe, output=output)
        wait_for_lines(process, log, 3)
        before = rows(log)
        process.send_signal(number)
        assert process.wait(60) == 130
    steps = len(rows(log))
    assert (tmp_path / "run" / "checkpoints" / f"checkpoint-{steps}").is_dir()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    told = errors.read_text().splitlines()[-1]
    assert "--resume" in told
    assert run("train", recipe, f"train.max_steps={steps + 1}", "--resume").status == 2
    assert run("train", recipe, "--resume").status == 0
    lost = same_rows(rows(log), before)
    record("scheduler", "train", f"{number.name} in the middle", told, lost, steps, "steps")
    assert len(rows(log)) == 14


def test_a_stopped_predict_keeps_its_rows(
    scene_folder: Path, tmp_path: Path, record: Record
) -> None:
    samples = many_samples(scene_folder, tmp_path, 4)
    out = tmp_path / "p.jsonl"
    with chat_server(delay_s=0.1) as server:
        call: list[object] = ["predict", "--engine", "openai", "--model", "m", "--family", "plain",
                "--samples", samples, "--images", tmp_path / "images", "--concurrency", 2,
                "--base-url", server.url, "--out", out]  # fmt: skip
        process = start(*call)
        wait_for_lines(process, out, 5)
        process.send_signal(signal.SIGTERM)
        process.wait()
        seen = whole_lines(out)
        outcome = run(*call)
    assert outcome.status == 0
    lost = [row for row in seen if row not in whole_lines(out)]
    record(
        "scheduler", "predict", "SIGTERM in the middle", outcome.line, lost, len(seen), "rows"
    )  # fmt: skip
    assert len(whole_lines(out)) == 48


def test_a_clock_that_jumps_changes_no_figure(recipe: Path, tmp_path: Path, record: Record) -> None:
    steady, jumping = tmp_path / "steady", tmp_path / "jumping"
    small = ("train.max_steps=4", "train.save_steps=2")
    assert run("train", recipe, *small, f"out={steady}").status == 0
    outcome = run("train", recipe, *small, f"out={jumping}", first=JUMPS)
    assert outcome.status == 0, outcome.err
    expected, got = (rows(folder / "metrics.jsonl") for folder in (steady, jumping))
    times = [row["time_s"] for row in got]
    assert times == sorted(times)
    assert times[0] >= 0
    how = "time.time jumps by a year or an hour"
    record("clock", "train", how, outcome.line, same_rows(got, expected), len(expected), "steps")


SLOW = """
import time
def slow(completion, target) -> float:
    time.sleep(20)
    return float(len(completion.text))
"""


def test_a_launched_run_of_long_steps_writes_a_checkpoint_first(
    scene_folder: Path, tmp_path: Path
) -> None:
    """Two completions a process and step: 40 s."""
    (tmp_path / "slow_reward.py").write_text(SLOW)
    options = {"max_steps": 9, "prompts_per_step": 2, "num_generations": 2}
    tiny = tiny_recipe(scene_folder, tmp_path / "run", **options)
    written = tmp_path / "recipe.yaml"
    written.write_text(dump_recipe(tiny))
    launch = ("--launch", "accelerate", "--num-processes", "2")
    call = ("train", written, "rewards=['slow_reward:slow']", *launch)
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    process = start(*call, variables={"PYTHONPATH": path})
    wait_for_lines(process, tmp_path / "run" / "metrics.jsonl", 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(200) == 130
    steps = len(rows(tmp_path / "run" / "metrics.jsonl"))
    checkpoint = tmp_path / "run" / "checkpoints" / f"checkpoint-{steps}"
    assert (checkpoint / "trainer_state.json").is_file()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"


def test_a_clock_that_jumps_loses_no_answer(
    scene_folder: Path, tmp_path: Path, record: Record
) -> None:
    samples = many_samples(scene_folder, tmp_path, 2)

    def patience(number: int, body: dict[str, Any]) -> str | None:
        return f"429 {formatdate(time.time() + 2, usegmt=True)}" if number % 5 == 1 else None

    with chat_server(patience) as server:
        call: list[object] = ["predict", "--engine", "openai", "--model", "m", "--family", "plain",
                "--samples", samples, "--images", tmp_path / "images",
                "--base-url", server.url, "--out", tmp_path / "p.jsonl"]  # fmt: skip
        outcome = run(*call, first=JUMPS)
        assert run(*call[:-1], tmp_path / "steady.jsonl").status == 0
    assert outcome.status == 0, outcome.err
    kept = whole_lines(tmp_path / "p.jsonl")
    lost = [row for row in whole_lines(tmp_path / "steady.jsonl") if row not in kept]
    how = "time.time jumps while servers ask for patience until a date"
    record("clock", "predict", how, outcome.line, lost, len(kept), "rows")


@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_a_loss_that_is_no_number(
    method: str, recipe: Path, tmp_path: Path, record: Record
) -> None:
    how = f"a learning rate of 1e20, {method}"
    call = ["train", recipe, f"method={method}", "train.learning_rate=1e20"]
    outcome = record.refused("NaN loss", how, call, "is NaN or infinite at step")
    assert outcome.status == 1
    assert len(rows(tmp_path / "run" / "metrics.jsonl")) <= 2
    assert not (tmp_path / "run" / "model").exists()


def test_too_little_memory_for_a_verb(tmp_path: Path, record: Record) -> None:
    content = '{"id": "%d", "image": "a.png", "width": 9, "height": 9, "task": "detection", ' \
              '"labels": ["cat"], "objects": []}\n'  # fmt: skip
    samples = tmp_path / "samples.jsonl"
    samples.write_text("".join(content % number for number in range(300_000)))
    how = "230 MB of address space (RLIMIT_AS), 300,000 samples"
    memory = limit(resource.RLIMIT_AS, 230 * 2**20)
    call = ["data", "stats", samples]
    record.refused("memory", how, call, "out of memory", preexec_fn=memory)


def test_too_little_memory_in_training(recipe: Path, tmp_path: Path, record: Record) -> None:
    first = (
        "import torch, transformers\n"
        "def step(*args, **kwargs): torch.empty(2**60, dtype=torch.uint8)\n"
        "transformers.Trainer.training_step = step\n"
        "import boxrl.engines.training.grpo_trainer as g; g.BoxGRPOTrainer.training_step = step"
    )
    how = "a step that asks for 2^60 bytes"
    outcome = record.refused("memory", how, ["train", recipe], "out of memory at step", first=first)
    assert outcome.status == 2


def two_processes(recipe: Path) -> list[object]:
    """The call that trains by SFT in two processes under accelerate's launcher."""
    return ["train", recipe, "method=sft", "--launch", "accelerate", "--num-processes", "2"]


def test_a_worker_killed_for_memory_ends_the_run_which_goes_on(
    recipe: Path, tmp_path: Path, record: Record
) -> None:
    """As the kernel does it: kill -9 of one of two processes."""
    log, errors = tmp_path / "run" / "metrics.jsonl", tmp_path / "stderr"
    call = [*two_processes(recipe), "train.max_steps=6", "train.save_steps=2"]
    with errors.open("wb") as output:
        process = start(*call, output=output, start_new_session=True)
        wait_for_lines(process, log, 3)
        before = rows(log)
        os.kill(worker_of(process.pid, rank=1), signal.SIGKILL)
        assert process.wait(120) == 1
    told = errors.read_text().strip().splitlines()[-1]
    assert "a process of the launch failed" in told
    outcome = run(*call, "--resume")
    assert outcome.status == 0, outcome.err[-3000:]
    lost = same_rows(rows(log), before)
    how = "kill -9 of one of two processes, then --resume"
    record("memory", "train", how, told, lost, len(before), "steps")
    assert len(rows(log)) == 6


def terminate(process: subprocess.Popen[bytes]) -> None:
    """As Kubernetes does it: the first process alone."""
    process.terminate()


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """As a terminal does it: Ctrl-C reaches the whole group."""
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.parametrize("stop", [terminate, interrupt])
def test_a_stopped_launch_leaves_no_process_behind(
    stop: Callable[[Any], None], recipe: Path, tmp_path: Path, record: Record
) -> None:
    log, errors = tmp_path / "run" / "metrics.jsonl", tmp_path / "stderr"
    call = [*two_processes(recipe), "train.max_steps=200"]
    with errors.open("wb") as output:
        process = start(*call, output=output, start_new_session=True)
        wait_for_lines(process, log, 3)
        worker = worker_of(process.pid, rank=1)
        stop(process)
        process.wait(120)
    assert not Path(f"/proc/{worker}").exists()
    told = errors.read_text().strip().splitlines()[-1]
    found = rows(log)
    checkpoint = tmp_path / "run" / "checkpoints" / f"checkpoint-{len(found)}"
    lost = [] if checkpoint.is_dir() else found
    assert not lost
    how = f"{'SIGTERM to' if stop is terminate else 'Ctrl-C of'} the launcher of two processes"
    record("scheduler", "train", how, told, lost, len(found), "steps")


def worker_of(launcher: int, rank: int) -> int:
    """The process below `launcher` with that RANK in its environment."""
    waiting = [launcher]
    while waiting:
        number = waiting.pop()
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        waiting += map(int, children)
        environment = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
        if f"RANK={rank}".encode() in environment and number != launcher:
            return number
    raise AssertionError("no such process")


def test_quickstart_ends_with_a_hint(tmp_path: Path, record: Record) -> None:
    errors = tmp_path / "stderr"
    with errors.open("wb") as output:
        few = ["data.synthetic.train=40", "data.synthetic.test=130"]
        process = start("quickstart", "--out", tmp_path / "run", *few, output=output)
        wait_for_lines(process, tmp_path / "run/evals/before_greedy/predictions.jsonl")
        process.send_signal(signal.SIGINT)
        process.wait()
    kept = whole_lines(tmp_path / "run/evals/before_greedy/predictions.jsonl")
    told = errors.read_text().splitlines()[-1]
    assert "--resume" in told
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    record("scheduler", "quickstart", "SIGINT in an evaluation", told, [], len(kept), "rows")
