"""Work that is killed and taken up again, and what of it is still there."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from boxrl.data.samples import read_samples, write_samples
from tests.faults.campaign import end, start, wait_for_lines, whole_lines
from tests.support.chat_server import Fault, random_faults


def many_samples(scenes: Path, folder: Path, copies: int) -> Path:
    """FOLDER/samples.jsonl with every scene several times, beside the images."""
    samples = read_samples(scenes / "samples.jsonl")
    many = [replace(sample, id=f"{sample.id}/{k}") for k in range(copies) for sample in samples]
    write_samples(folder / "samples.jsonl", many)
    (folder / "images").symlink_to(scenes / "images")
    return folder / "samples.jsonl"


def hostile(share: float, seed: int) -> Fault:
    """A share of the requests fails in some way, one in a hundred by hanging."""
    faults, rng = random_faults(share, seed), random.Random(seed)

    def fault(number: int, body: dict[str, Any]) -> str | None:
        return "hang" if rng.random() < 0.01 else faults(number, body)

    return fault


def kill_again_and_again(call: Sequence[object], file: Path, kills: int) -> list[list[str]]:
    """Kill the command that often, each time after it has written; lines on disk at each kill."""
    rng = random.Random(kills)
    seen = []
    for _ in range(kills):
        process = start(*call)
        before = len(whole_lines(file))
        while process.poll() is None and len(whole_lines(file)) <= before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        if process.poll() is None:
            end(process)
            seen.append(whole_lines(file))
        process.wait()
    return seen


def kill_at_step(call: Sequence[object], log: Path, step: int) -> list[dict[str, Any]]:
    """Kill a training once so many steps are logged; the rows on disk then."""
    process = start(*call)
    wait_for_lines(process, log, step)
    end(process)
    assert process.returncode == -signal.SIGKILL
    return rows(log)


def rows(log: Path) -> list[dict[str, Any]]:
    """Steps of a metrics.jsonl that may be being written."""
    return [json.loads(line) for line in whole_lines(log)]


def same_rows(got: list[dict[str, Any]], expected: list[dict[str, Any]]) -> list[int]:
    """Steps whose figures, time aside, are not the same to 1e-4."""
    by_step = {row["step"]: row for row in got}
    return [
        row["step"]
        for row in expected
        if row["step"] not in by_step
        or any(
            by_step[row["step"]].get(key) != pytest.approx(value, rel=1e-4, abs=1e-6)
            for key, value in row.items()
            if key != "time_s"
        )
    ]
