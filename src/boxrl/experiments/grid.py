"""Cells side by side, each in a process of its own, with time left, and stopped without loss."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from boxrl.errors import DataError
from boxrl.experiments.cells import Cell
from boxrl.experiments.work import BATCH
from boxrl.progress import Bar, progress_bars

POLL_S = 0.5
STOP_S = 120.0
"""How long a process may take to finish its step and write a checkpoint."""

Launch = Callable[[Cell], "subprocess.Popen[bytes]"]
"""Starts the process of a cell whose cell.json is written."""


def launch_cell(cell: Cell) -> subprocess.Popen[bytes]:
    """The cell's process: one thread, in a session of its own, output to log.txt.

    Ctrl-C reaches only the grid, which then closes the process's standard input; so does its
    death. Either way the process stops by itself and writes a checkpoint.
    """
    one_thread = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    with (cell.folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "boxrl.experiments.work", str(cell.folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={
                **os.environ,
                **one_thread,
                "HF_HUB_OFFLINE": "1",
                "TOKENIZERS_PARALLELISM": "false",
            },
        )


def default_workers(device: str) -> int:
    """Cells side by side: one per core on a CPU, one on a GPU."""
    if device != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_grid(cells: Sequence[Cell], workers: int, launch_cell: Launch = launch_cell) -> int:
    """Run every cell that is not finished.

    Law: killed at any moment and called again, it goes on; with nothing to do it starts nothing.

    Args:
        cells: a cell behind the one that it starts from.
        workers: processes side by side.
        launch_cell: starts a cell's process.

    Returns:
        How many cells were run.

    Raises:
        DataError: some cells failed; the others were run.
        KeyboardInterrupt: the grid was stopped, and its processes with it.
    """
    waiting = _unfinished(cells)
    done, failed = 0, dict[str, str]()
    with progress_bars() as start_bar, _running() as running:
        total = start_bar("cells", len(waiting), 0)
        while waiting or running:
            for item in [item for item in running if item.process.poll() is not None]:
                running.remove(item)
                item.finish(total)
                done += 1
                if item.process.returncode or not item.cell.is_done():
                    failed[item.cell.key] = item.failure()
            waiting = _start_ready(waiting, running, failed, workers, start_bar, launch_cell)
            for item in running:
                item.bar.reach(progress(item.cell))
            time.sleep(POLL_S)
    if failed:
        raise DataError(
            f"{len(failed)} of {len(cells)} cells failed:\n  " + "\n  ".join(failed.values())
        )
    return done


@dataclass(slots=True)
class _Running:
    cell: Cell
    process: subprocess.Popen[bytes]
    bar: Bar
    began: float

    def finish(self, total: Bar) -> None:
        """Say that the cell has ended."""
        self.let_go()
        total.advance()
        self.bar.close()
        seconds = time.monotonic() - self.began
        total.say(f"{self.cell.arm}, seed {self.cell.seed}: {seconds:.0f} s, {self.cell.key}", "")

    def let_go(self) -> None:
        """Close the process's standard input: it stops where it still runs."""
        if self.process.stdin:
            self.process.stdin.close()

    def failure(self) -> str:
        """The last line of the log, for people."""
        path = self.cell.folder / "log.txt"
        lines = path.read_text("utf-8", errors="replace").split("\n") if path.is_file() else []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
        return f"{self.cell.arm}, seed {self.cell.seed}: {last[:300]} (all of it: {path})"


def _unfinished(cells: Sequence[Cell]) -> list[Cell]:
    """Cells with something left to do, each folder once."""
    return list({cell.folder: cell for cell in cells if not cell.is_done()}.values())


def _start_ready(
    waiting: list[Cell],
    running: list[_Running],
    failed: dict[str, str],
    workers: int,
    start_bar: Callable[[str, int, int], Bar],
    launch_cell: Launch,
) -> list[Cell]:
    """Start cells as long as a worker is free; returns those that still wait."""
    left = []
    for cell in waiting:
        start = cell.start
        if start is not None and start.key in failed:
            failed[cell.key] = f"{cell.arm}, seed {cell.seed}: arm {start.arm} failed before it"
        elif len(running) < workers and (start is None or start.is_trained()):
            cell.write()
            bar = start_bar(f"{cell.arm} · {cell.seed}", work_units(cell), progress(cell))
            running.append(_Running(cell, launch_cell(cell), bar, time.monotonic()))
        else:
            left.append(cell)
    return left


@contextmanager
def _running() -> Iterator[list[_Running]]:
    """The running processes; whatever happens, none of them outlives the block."""
    running: list[_Running] = []
    try:
        yield running
    finally:
        for item in running:
            item.let_go()
        for item in running:
            try:
                item.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                item.process.kill()


def work_units(cell: Cell) -> int:
    """Steps, and batches of held-out answers, which take about as long."""
    return cell.recipe.train.max_steps * cell.trained + sum(
        -(-_count_lines(test.samples) // BATCH) for test in cell.tests
    )


def progress(cell: Cell) -> int:
    """Units of work that have reached the disk."""
    answers = (cell.test_folder(test) / "predictions.jsonl" for test in cell.tests)
    return _count_lines(cell.recipe.out / "metrics.jsonl") + sum(
        -(-_count_lines(path) // BATCH) for path in answers
    )


def _count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0
