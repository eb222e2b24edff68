"""Curves below a notebook's cell that grow while a run trains; elsewhere nothing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from markupsafe import Markup

from boxrl.data.files import read_jsonl
from boxrl.errors import DataError, tally
from boxrl.report.training import training_curves

EVERY_S = 1.0
"""Seconds between two looks at the log."""

SHOWN = 4
"""Charts of a run that a cell shows; the report has them all."""

STYLE = """<style>
.boxrl-curves { display: flex; flex-wrap: wrap; gap: 8px; color: #666 }
.boxrl-curves figure { margin: 0; width: 380px }
.boxrl-curves text { fill: currentColor; font: 11px sans-serif }
.boxrl-curves .grid { stroke: #8884 } .boxrl-curves .axis { stroke: #888 }
.boxrl-curves .curve { fill: none; stroke: var(--c); stroke-width: 2 }
.boxrl-curves .raw { fill: none; stroke: var(--c); stroke-width: 1; opacity: .3 }
.boxrl-curves .mark { stroke: var(--c, #888); stroke-dasharray: 3 3 }
.boxrl-curves i { font-style: normal; color: var(--c); margin-right: 8px }
.boxrl-curves .s0 { --c: #2a78d6 } .boxrl-curves .s1 { --c: #1baf7a }
.boxrl-curves .s2 { --c: #d97706 } .boxrl-curves .s3 { --c: #9b5de5 }
.boxrl-curves .s4 { --c: #d6447a } .boxrl-curves .s5 { --c: #6b7280 }
</style>"""


def curves(steps: Sequence[dict[str, Any]]) -> Markup:
    """The first charts of a run: rewards, lengths; one sentence while there are no two steps.

    Args:
        steps: rows of metrics.jsonl.
    """
    charts = training_curves(steps)[:SHOWN]
    if not charts:
        return Markup("<p>{} so far; curves begin with the second</p>").format(
            tally(len(steps), "step")
        )
    figure = Markup("<figure><figcaption>{} {}</figcaption>{}</figure>")
    legend = Markup('<i class="s{}">&#9632; {}</i>')
    figures = Markup("").join(
        figure.format(
            chart.title,
            Markup("").join(legend.format(colour, name) for colour, name in chart.legend),
            chart.svg,
        )
        for chart in charts
    )
    style = Markup(STYLE)  # boxrl's own  # nosec B704
    return Markup('{}<div class="boxrl-curves">{}</div>').format(style, figures)


@contextmanager
def live_curves(log: Path) -> Iterator[None]:
    """Show the run's curves below the cell while the block runs, and as they are at its end.

    Args:
        log: the run's metrics.jsonl, which need not be there yet.
    """
    handle = _open_display()
    if handle is None:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_follow, args=(handle, log, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _show(handle, log)


def _open_display() -> Any:
    """A place below the cell that can be written again; None outside of a notebook."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython
    from IPython.display import display

    show: Any = display  # which says nothing of its types
    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    return show({"text/plain": "training"}, raw=True, display_id=True)


def _follow(handle: Any, log: Path, ended: threading.Event) -> None:
    shown = -1
    while not ended.wait(EVERY_S):
        size = log.stat().st_size if log.is_file() else 0
        if size != shown:
            _show(handle, log)
            shown = size


def _show(handle: Any, log: Path) -> None:
    try:
        steps = [row for _, row in read_jsonl(log)] if log.is_file() else []
    except DataError:
        return  # a row that is being written; the next look finds it whole
    said = f"training: {tally(len(steps), 'step')}"
    handle.update({"text/html": str(curves(steps)), "text/plain": said}, raw=True)
