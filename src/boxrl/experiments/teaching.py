"""Start models that an experiment teaches before its first cell, once."""

from __future__ import annotations

import fcntl
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from boxrl.errors import DataError

TEACHERS = ("teach", "teach_image_first", "teach_reading", "teach_scores", "teach_verify")
"""Modules of `boxrl.engines.tiny` that make models."""


def check_teaching(command: str) -> str:
    """The command, where it begins with one of `TEACHERS`.

    Raises:
        ValueError: it begins with anything else.
    """
    words = shlex.split(command)
    if not words or words[0] not in TEACHERS:
        raise ValueError(f"{command!r} teaches no model; expected one of {', '.join(TEACHERS)}")
    return command


def untaught(teaches: Mapping[str, str]) -> list[str]:
    """Folders of models that are still to be taught.

    Args:
        teaches: model folder -> a teacher with its options.
    """
    return [folder for folder in teaches if not Path(folder).is_dir()]


def teach_missing(teaches: Mapping[str, str]) -> None:
    """Teach every model that has no folder yet, side by side; what they say goes to stderr.

    Law: a folder stands whole or not at all.

    Args:
        teaches: as of `untaught`.

    Raises:
        DataError: a teacher failed.
    """
    if not untaught(teaches):
        return
    lock = Path(next(iter(teaches))).parent / ".teaching"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # another grid may want the same models
        running = {folder: _start(folder, teaches[folder]) for folder in untaught(teaches)}
        failed = [folder for folder, process in running.items() if process.wait()]
        for folder in set(running) - set(failed):
            _unfinished(folder).rename(folder)
    if failed:
        raise DataError(f"{failed[0]}: {teaches[failed[0]]} failed; what it said stands above")


def _start(folder: str, command: str) -> subprocess.Popen[bytes]:
    teacher, *options = shlex.split(check_teaching(command))
    out = _unfinished(folder)
    shutil.rmtree(out, ignore_errors=True)
    words = [f"boxrl.engines.tiny.{teacher}", *options, "--out", str(out)]
    print(f"teaching {folder}: python -m {' '.join(words)}", file=sys.stderr)  # noqa: T201
    return subprocess.Popen([sys.executable, "-m", *words], stdout=sys.stderr)


def _unfinished(folder: str) -> Path:
    path = Path(folder)
    return path.with_name(f".{path.name}.unfinished")
