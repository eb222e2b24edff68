"""Rewards and metrics work where Python has nothing of POSIX, as on Windows."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import boxrl.metrics
import boxrl.rewards

WITHOUT_POSIX = """
import os, sys
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "fork", "getuid", "sched_getaffinity"):
    delattr(os, name)
"""
MODULES = [f"{package.__name__}.{module.name}" for package in (boxrl.rewards, boxrl.metrics)
           for module in pkgutil.iter_modules(package.__path__)]  # fmt: skip


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX + code], capture_output=True, text=True
    )


@pytest.mark.parametrize("module", MODULES)
def test_every_module_of_rewards_and_metrics_imports_without_posix(module: str) -> None:
    result = run(f"import {module}")
    assert result.returncode == 0, result.stderr


def test_rewards_score_without_posix() -> None:
    result = run(
        "from boxrl.rewards import score\n"
        'answer = \'<answer>[{"bbox_2d": [0, 0, 10, 10], "label": "cat"}]</answer>\'\n'
        "print(score([answer], [[{'bbox': [0, 0, 10, 20], 'label': 'cat'}]], ['iou', 'f1']))"
    )
    assert result.stdout == "{'iou': [0.5], 'f1': [0.1]}\n", result.stderr


def test_writing_a_file_without_posix_is_refused_in_one_line(tmp_path: Path) -> None:
    row = '{"id": "1", "completion": "<answer>[]</answer>", "objects": []}\n'
    (tmp_path / "c.jsonl").write_text(row)
    call = ["score", "--completions", f"{tmp_path / 'c.jsonl'}", "--rewards", "f1"]
    result = run(f"from boxrl.cli import main\nsys.exit(main({call!r}))")
    assert result.returncode == 0, result.stderr
    call += ["--out", f"{tmp_path / 'out.jsonl'}"]
    result = run(f"from boxrl.cli import main\nsys.exit(main({call!r}))")
    assert result.returncode == 2
    assert result.stderr.endswith("out.jsonl: boxrl writes files on Linux and macOS only\n")
