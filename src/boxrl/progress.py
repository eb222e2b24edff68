"""Progress of long work on stderr, with time left."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text


class _Rate(ProgressColumn):
    """Units per second since the start."""

    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text(
            f"{rate:.1f}/s" if rate and rate >= 0.95 else f"{1 / rate:.1f} s/it" if rate else ""
        )


class _Note(ProgressColumn):
    """The newest figures, cut where the line ends."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["note"], no_wrap=True, overflow="ellipsis")


class Bar:
    """One bar: `advance` it, `note` the newest figures beside it."""

    def __init__(self, progress: Progress, description: str, total: int, done: int) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, completed=done, note="")

    def advance(self, count: int = 1) -> None:
        """Count finished units."""
        self._progress.advance(self._task, count)

    def reach(self, done: int) -> None:
        """Set how many units are finished."""
        self._progress.update(self._task, completed=done)

    def close(self) -> None:
        """Take the bar off the terminal."""
        self._progress.remove_task(self._task)

    def note(self, text: str) -> None:
        """Show `text` behind the bar."""
        self._progress.update(self._task, note=text)

    def say(self, text: str, style: str = "yellow") -> None:
        """Print a line that stays, above the bar; yellow for warnings."""
        self._progress.console.print(text, style=style, markup=False, highlight=False)


@contextmanager
def progress_bar(
    description: str, total: int, done: int = 0, *, shown: bool = True
) -> Iterator[Bar]:
    """A bar on stderr: done of total, rate, time passed, time left.

    Args:
        description: what is being done.
        total: units of work.
        done: units finished by an earlier run.
        shown: False draws none, in a process beside one that does.
    """
    with _progress(shown) as progress:
        yield Bar(progress, description, total, done)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], Bar]]:
    """Several bars on stderr, for work that runs side by side.

    Yields:
        Starts a bar; arguments as `progress_bar`.
    """
    with _progress() as progress:
        yield lambda description, total, done: Bar(progress, description, total, done)


def _progress(shown: bool = True) -> Progress:
    # In a notebook rich draws with widgets, and warns at every bar where there are none.
    widgets = None if importlib.util.find_spec("ipywidgets") else False
    console = Console(stderr=True, force_jupyter=widgets)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        _Rate(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TextColumn("left", table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        _Note(),
        console=console,
        auto_refresh=console.is_terminal or console.is_jupyter,  # a file gets the last state alone
        speed_estimate_period=120,
        disable=not shown,
    )
