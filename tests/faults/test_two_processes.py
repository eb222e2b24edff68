"""Two processes on one output: the second is told at once, and the first is not disturbed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from boxrl.config import dump_recipe
from tests.faults.campaign import (
    Record,
    assert_told,
    changed,
    end,
    run,
    snapshot,
    start,
    wait_for_lines,
    whole_lines,
)
from tests.faults.kills import many_samples
from tests.faults.site import build_site
from tests.faults.writers import VERBS, writers
from tests.support.chat_server import chat_server
from tests.support.recipes import tiny_recipe

pytestmark = pytest.mark.slow

FAULT = "two processes on one output"
HOLD = """
import sys
from pathlib import Path
from boxrl.data.files import write_atomic
with write_atomic(Path(sys.argv[1])) as handle:
    print("held", flush=True)
    sys.stdin.read()
    handle.write("the first process's\\n")
"""


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_that_writes_files(
    verb: str, scene_folder: Path, tmp_path: Path, record: Record
) -> None:
    site = build_site(tmp_path / "site", scene_folder)
    call, file = writers(site, tmp_path / "out")[verb]
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "out" / file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert held.stdout is not None
    assert held.stdout.readline() == b"held\n"
    how = "while another process writes the same file"
    outcome = record.refused(FAULT, how, call, "another process is writing it")
    assert outcome.status == 2
    held.communicate()
    assert (tmp_path / "out" / file).read_text() == "the first process's\n"


def test_predict(scene_folder: Path, tmp_path: Path, record: Record) -> None:
    samples = many_samples(scene_folder, tmp_path, 8)
    with chat_server(delay_s=0.1) as server:
        call: list[object] = ["predict", "--engine", "openai", "--model", "m", "--family", "plain",
                "--samples", samples, "--images", tmp_path / "images", "--concurrency", 2,
                "--base-url", server.url, "--out"]  # fmt: skip
        out = tmp_path / "p.jsonl"
        first = start(*call, out)
        wait_for_lines(first, out)
        told = run(*call, out)
        assert first.wait() == 0
        assert run(*call, tmp_path / "alone.jsonl").status == 0
    assert_told(told, "another process is writing it")
    assert told.status == 2
    kept = out.read_text().splitlines()
    lost = [row for row in whole_lines(tmp_path / "alone.jsonl") if row not in kept]
    record(FAULT, "predict", "a second predict", told.line, lost, len(kept), "rows")
    assert len(kept) == len(set(kept)) == 96


def test_train(scene_folder: Path, tmp_path: Path, record: Record) -> None:
    recipe = tiny_recipe(scene_folder, tmp_path / "run", max_steps=500, prompts_per_step=2)
    written = tmp_path / "recipe.yaml"
    written.write_text(dump_recipe(recipe))
    first = start("train", written)
    log = tmp_path / "run" / "metrics.jsonl"
    steps = wait_for_lines(first, log)
    told = {how: run("train", written, *how.split()) for how in ("", "--resume")}
    wait_for_lines(first, log, len(whole_lines(log)) + 1)  # it goes on
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 130
    kept = whole_lines(log)
    lost = [row for row in steps if row not in kept]
    for how, outcome in told.items():
        assert_told(outcome, "another process is writing it" if how else "running")
        how = f"a second train {how}".strip()
        record(FAULT, "train", how, outcome.line, lost, len(kept), "steps")
    assert [json.loads(row)["step"] for row in kept] == list(range(1, len(kept) + 1))
    assert (tmp_path / "run" / "checkpoints" / f"checkpoint-{len(kept)}").is_dir()


def test_a_lock_of_a_killed_process_is_free(
    scene_folder: Path, tmp_path: Path, record: Record
) -> None:
    samples = many_samples(scene_folder, tmp_path, 2)
    with chat_server(delay_s=0.1) as server:
        call: list[object] = ["predict", "--engine", "openai", "--model", "m", "--family", "plain",
                "--samples", samples, "--images", tmp_path / "images", "--concurrency", 2,
                "--base-url", server.url, "--out", tmp_path / "p.jsonl"]  # fmt: skip
        process = start(*call)
        wait_for_lines(process, tmp_path / "p.jsonl")
        end(process)
        before = snapshot(tmp_path)
        assert list(tmp_path.glob(".*.lock"))
        outcome = run(*call)
    assert outcome.status == 0
    files = {n: d for n, d in before.items() if not n.startswith("p.")}
    lost = changed(files, snapshot(tmp_path))
    how = "after a kill -9 of the first"
    record(FAULT, "predict", how, outcome.line, lost, len(files), "files")
    assert not list(tmp_path.glob(".*.lock"))
