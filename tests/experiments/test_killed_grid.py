"""A real grid of two cells, killed once: nothing outlives it, and it goes on."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .files import EXPERIMENT, write_experiment

pytestmark = pytest.mark.slow

SMALL = [
    "train.max_steps=6", "train.prompts_per_step=2", "train.num_generations=4",
    "train.max_completion_length=48", "train.save_steps=2", "data.synthetic.train=16",
]  # fmt: skip
PATIENCE_S = 300


def command(folder: Path) -> list[str]:
    arms = EXPERIMENT[EXPERIMENT.index("arms:") : EXPERIMENT.index("tests:")]
    claims = EXPERIMENT.index("published_from:")
    text = EXPERIMENT[:claims].replace(arms, "arms:\n  ap: {rewards: [format, ap]}\n")
    path = write_experiment(folder, text)
    places = ["--out", str(folder / "out"), "--cache", str(folder / "cache")]
    call = ["experiment", "run", str(path), "--seeds", "0,1", "--workers", "2", "--json"]
    return [sys.executable, "-m", "boxrl", *call, *places, *SMALL]


def logs(folder: Path) -> list[Path]:
    return sorted(folder.glob("cache/cells/*/run/metrics.jsonl"))


def test_a_killed_grid_leaves_no_process_and_goes_on(tmp_path: Path) -> None:
    killed = subprocess.Popen(command(tmp_path), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE_S
    while not any(path.read_bytes().count(b"\n") >= 3 for path in logs(tmp_path)):
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    cells = sorted((tmp_path / "cache" / "cells").iterdir())
    assert len(cells) == 2
    for cell in cells:
        with (cell / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # held as long as the cell's process lives
    trained = max(json.loads(path.read_text().splitlines()[-1])["step"] for path in logs(tmp_path))

    outcome = json.loads(subprocess.run(command(tmp_path), check=True, stdout=-1).stdout)
    assert 1 <= outcome["cells_run"] <= 2
    assert sorted((tmp_path / "cache" / "cells").iterdir()) == cells
    for path in logs(tmp_path):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert trained >= 3
    assert set(outcome["cells"]["ap"]) == {"0", "1"}
    assert outcome["columns"][0]["ours"]["ap"]["n"] == 2

    again = json.loads(subprocess.run(command(tmp_path), check=True, stdout=-1).stdout)
    assert again["cells_run"] == 0
    assert again["columns"] == outcome["columns"]
