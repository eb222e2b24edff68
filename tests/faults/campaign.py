"""The real command line in child processes, and a record of what each fault did.

With BOXRL_FAULTS=FILE.jsonl every injected fault leaves a row there, from which
`perf/faults.py` makes docs/reliability.csv and the table of docs/reliability.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

# A shell starts jobs in the background with SIGINT ignored, and children inherit that.
MAIN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from boxrl.cli import main
sys.exit(main())
"""
# rusage of a child would also count its parent's memory, from before the exec.
PEAK = """
import atexit, re
def note_peak():
    with open("/proc/self/status") as status, open({path!r}, "w") as peak:
        peak.write(re.search(r"VmHWM:\\s+(\\d+)", status.read())[1])
atexit.register(note_peak)
"""
OUTPUT = 100_000
"""Bytes kept of what a child prints."""


@dataclass(frozen=True)
class Outcome:
    """How a child process ended.

    Attributes:
        status: exit status; -N for signal N.
        out, err: what it printed.
        peak_mb: its largest resident memory, where it ended by itself.
    """

    status: int
    out: str
    err: str
    peak_mb: float = 0.0

    @property
    def line(self) -> str:
        """What the user saw at last: the error, or the last line of the result."""
        told = [found.start() for found in re.finditer("^boxrl: ", self.err, re.MULTILINE)]
        if told:
            return " ".join(self.err[told[-1] :].split())
        lines = self.err.split("\n") + self.out.split("\n")
        return next((line.strip() for line in reversed(lines) if re.search(r"\w", line)), "")


def start(*arguments: object, output: IO[bytes] | int | None = None, **options: Any) -> Any:
    """A child that runs `boxrl ARGUMENTS`; other options are those of Popen.

    Args:
        arguments: of the command line.
        output: where it prints to; nowhere by default.
        options: also `variables`, added to its environment, and `first`, Python that runs before
            the command line.
    """
    first = options.pop("first", "")
    variables = options.pop("variables", {})
    target = subprocess.DEVNULL if output is None else output
    return subprocess.Popen(
        [sys.executable, "-c", f"{first}\n{MAIN}", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=options.pop("stdout", target),
        stderr=target,
        env=environment() | variables,
        **options,
    )


def run(*arguments: object, **options: Any) -> Outcome:
    """`boxrl ARGUMENTS` to its end; options are those of `start`."""
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        tempfile.NamedTemporaryFile() as peak,
    ):
        first = PEAK.format(path=peak.name) + options.pop("first", "")
        process = start(*arguments, output=err, stdout=out, first=first, **options)
        process.wait()
        told = int(read_output(peak) or 0) / 1024
        return Outcome(process.returncode, read_output(out), read_output(err), told)


def environment() -> dict[str, str]:
    """Of every child: one thread, and lines that do not wrap."""
    kept = {key: value for key, value in os.environ.items() if key != "BOXRL_FAULTS"}
    return kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "300"}


def read_output(file: IO[bytes]) -> str:
    """What a child printed into the file."""
    file.seek(0)
    return file.read(OUTPUT).decode("utf-8", "replace")


def limit(kind: int, size: int) -> Callable[[], None]:
    """For `preexec_fn`: a limit of the child, such as RLIMIT_AS, in bytes."""

    def apply() -> None:
        resource.setrlimit(kind, (size, size))

    return apply


def end(process: Any) -> None:
    """Kill -9, and wait for the end."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def wait_for_lines(process: Any, file: Path, count: int = 1) -> list[str]:
    """Wait until a running child has written so many lines; those there are then."""
    while len(lines := whole_lines(file)) < count:
        assert process.poll() is None, f"ended before {file.name} had {count} lines"
        time.sleep(0.01)
    return lines


def whole_lines(path: Path) -> list[str]:
    """Lines of a file that is being written, without one cut short."""
    content = path.read_text("utf-8") if path.exists() else ""
    return content[: content.rfind("\n") + 1].splitlines()


def snapshot(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones left out, with a digest of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Files that are gone or hold something else."""
    return [name for name, digest in before.items() if after.get(name) != digest]


def assert_told(outcome: Outcome, *words: str) -> None:
    """One line that begins with the command's name, holds the words, and no traceback."""
    assert "Traceback" not in outcome.err, outcome.err[-3000:]
    assert outcome.status in (1, 2), (outcome.status, outcome.err[-2000:])
    assert outcome.line.startswith("boxrl: "), outcome.err[-2000:]
    for word in words:
        assert word in outcome.line, outcome.line


@cache
def read_commit() -> str:
    """The checkout's commit, short."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()


class Record:
    """Rows of what was injected, what was lost and what the user saw."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = os.environ.get("BOXRL_FAULTS")

    def __call__(
        self,
        fault: str,
        verb: str,
        how: str,
        saw: str,
        lost: Sequence[object],
        of: int,
        unit: str,
        times: int = 1,
    ) -> None:
        """Note a fault, and fail where something was lost.

        Args:
            fault: its kind, a heading of the table.
            verb: what ran.
            how: what was done to it.
            saw: the line that the user saw.
            lost: what there was before and is no more.
            of: how many there were.
            unit: what they are: rows, files, steps.
            times: how often it was injected.
        """
        if self.path:
            row = {
                "fault": fault,
                "verb": verb,
                "how": how,
                "times": times,
                "saw": self._plain(saw),
                "lost": len(lost),
                "of": of,
                "unit": unit,
                "commit": read_commit(),
            }
            with Path(self.path).open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
        assert not lost, lost

    def _plain(self, text: str) -> str:
        """Without folders of this machine."""
        text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8000", text)
        return re.sub(r"/[^\s'\"]*/(test_[^/\s'\"]*|(site|scenes|large)\d+)/?", "", text)

    def refused(
        self, fault: str, how: str, arguments: Sequence[object], *words: str, **options: Any
    ) -> Outcome:
        """Run a call that must end in one line; every file of the folder must stay as it is."""
        before = snapshot(self.folder)
        outcome = run(*arguments, **options)
        assert_told(outcome, *words)
        lost = changed(before, snapshot(self.folder))
        verb = " ".join(str(a) for a in arguments[:2] if re.fullmatch("[a-z][a-z-]*", str(a)))
        self(fault, verb, how, outcome.line, lost, len(before), "files")
        return outcome
