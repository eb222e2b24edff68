"""A run in the terminal while it trains."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from boxrl.data.files import is_number, is_whole, number_or_none
from boxrl.errors import DataError
from boxrl.guard.files import (
    MOST_BYTES,
    MOST_YAML_BYTES,
    check_regular,
    inside,
    parse_json_object,
    parse_yaml,
    read_text,
)
from boxrl.guard.texts import visible
from boxrl.report.reading import mapping
from boxrl.report.training import training_warnings
from boxrl.runs import find_run, read_facts

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40
"""Columns of a curve."""

TAIL_BYTES = 64 * 1024
SHOWN = (
    ("reward", "reward"),
    ("completion_length", "tokens"),
    ("clipped", "cut at the limit"),
    ("zero_variance", "groups alike"),
    ("entropy", "entropy"),
    ("kl", "KL"),
    ("loss", "loss"),
    ("grad_norm", "gradient norm"),
)
"""(key in metrics.jsonl, name) of the lines below the rewards."""


def watch(run_dir: Path, console: Console, every_s: float = 2.0) -> None:
    """Show the run until it ends or the user interrupts; once where there is no terminal.

    Raises:
        UsageError: there is no such folder, or no run in it.
    """
    shown = describe_progress(run_dir)
    if not console.is_terminal:
        console.print(shown)
        return
    with Live(shown, console=console, refresh_per_second=4) as live:
        while read_facts(run_dir / "run.json").get("status") == "running":
            time.sleep(every_s)
            live.update(describe_progress(run_dir))


def describe_progress(run_dir: Path) -> RenderableType:
    """What a run is doing: progress, curves, warnings, its newest completion.

    Raises:
        UsageError: there is no such folder, or no run in it.
    """
    find_run(run_dir).check_trained("boxrl watch")
    for name in ("run.json", "metrics.jsonl", "recipe.yaml", "completions.jsonl"):
        check_regular(inside(run_dir, run_dir / name))
    facts, steps = (
        read_facts(run_dir / "run.json"),
        _read_lines(run_dir / "metrics.jsonl", MOST_BYTES),
    )
    parts: list[RenderableType] = [_headline(facts, steps, _max_steps(run_dir / "recipe.yaml"))]
    if steps:
        parts.append(_curves(steps))
        parts += [Text(f"! {visible(line)}", style="yellow") for line in training_warnings(steps)]
    else:
        parts.append(Text("no step is logged yet", style="dim"))
    newest = _read_lines(run_dir / "completions.jsonl", TAIL_BYTES)
    if newest:
        parts.append(_completion(newest[-1]))
    return Group(*parts)


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """The values as one line of bars, lowest to highest; each bar is the mean of its stretch.

    >>> sparkline([0, 1, 2, 3], width=4)
    '▁▃▆█'
    """
    largest = max(map(abs, values)) or 1.0  # of which sums and differences stay finite
    values = [value / largest for value in values]
    width = min(width, len(values))
    edges = [place * len(values) // width for place in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    reach = (high - low) or 1.0
    return "".join(BARS[round((mean - low) / reach * (len(BARS) - 1))] for mean in means)


def _headline(facts: dict[str, Any], steps: Sequence[dict[str, Any]], total: int | None) -> Text:
    text = Text(visible(str(facts.get("name", ""))), style="bold")
    text.append(f"  {visible(str(facts.get('status', 'status unknown')))}", style="cyan")
    if steps:
        last = steps[-1]
        text.append(f"  step {last['step']}" + (f" of {total}" if total else ""))
        seconds = number_or_none(last.get("time_s"))
        if seconds is not None and last["step"]:
            text.append(f"  {_duration(seconds)} passed")
            if total and total > last["step"]:
                left = seconds / last["step"] * (total - last["step"])
                text.append(f"  {_duration(left)} left")
    return text


def _curves(steps: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    table.add_column("")
    table.add_column("first", justify="right")
    table.add_column("now", justify="right")
    table.add_column("")
    rewards = [mapping(row.get("rewards")) for row in steps]
    names = dict.fromkeys(name for row in rewards for name in row)
    series = [(visible(name), [row.get(name) for row in rewards]) for name in names]
    series += [(name, [row.get(key) for row in steps]) for key, name in SHOWN]
    for name, values in series:
        known = [value for value in map(number_or_none, values) if value is not None]
        if known and any(known):
            table.add_row(Text(name), f"{known[0]:.3g}", f"{known[-1]:.3g}", sparkline(known))
    return table


def _completion(row: dict[str, Any]) -> Text:
    rewards = mapping(row.get("rewards")).items()
    shown = "  ".join(f"{name} {value:.2f}" for name, value in rewards if is_number(value))
    head = f"\nsampled at step {row.get('step')}, {row.get('id')}:  {shown}\n"
    return Text(visible(head), style="dim").append(
        visible(str(row.get("completion", "")), 1000), style="default"
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _max_steps(recipe: Path) -> int | None:
    try:
        steps = parse_yaml(read_text(recipe, MOST_YAML_BYTES))["train"]["max_steps"]
    except (DataError, yaml.YAMLError, KeyError, TypeError):
        return None
    return steps if is_whole(steps, 1) else None


def _read_lines(path: Path, tail_bytes: int) -> list[dict[str, Any]]:
    """Whole lines of a file that is being written, as many as its last `tail_bytes` hold."""
    if not path.is_file():
        return []
    with path.open("rb") as handle:
        size = handle.seek(0, 2)
        start = max(0, size - tail_bytes)
        handle.seek(start)
        lines = handle.read().split(b"\n")[:-1]
    rows = []
    for line in lines[1:] if start else lines:
        try:
            rows.append(parse_json_object(line, str(path)))
        except DataError:
            continue  # the file is shown, not checked; boxrl report names a damaged line
    return [row for row in rows if is_whole(row.get("step"))]
