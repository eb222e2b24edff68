"""Calls that take turns: a busy minute falls on all of them alike; medians, quartiles, ratios."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from statistics import median, quantiles
from typing import Any

Calls = Mapping[str, Callable[[], object]]
Clock = Callable[[], float]
"""Seconds: `time.perf_counter`, or `time.process_time` for work of this process on one core, which
others on the machine then hardly disturb."""


def take_turns(
    calls: Calls, repeats: int, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of every call in every round; odd rounds run in the opposite order."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats):
        for name in list(calls)[:: 1 if turn % 2 == 0 else -1]:
            began = clock()
            calls[name]()
            seconds[name].append(clock() - began)
    return seconds


def summarize(seconds: dict[str, list[float]], ours: str) -> list[dict[str, Any]]:
    """One row per call: milliseconds as [lower quartile, median, upper quartile], and the ratio.

    `times_ours` is the median over rounds of the call's time over that of `ours` in the same
    round, so that it holds where the machine slowed down between rounds.
    """
    return [
        {
            "what": name,
            "ms": spread([1e3 * value for value in times], 3),
            "times_ours": round(
                median(t / o for t, o in zip(times, seconds[ours], strict=True)), 2
            ),
        }
        for name, times in seconds.items()
    ]


def _quartiles(times: list[float]) -> tuple[float, float, float]:
    if len(times) == 1:
        return times[0], times[0], times[0]
    low, middle, high = quantiles(times, n=4, method="inclusive")
    return low, middle, high


def compare(calls: Calls, repeats: int, clock: Clock = time.perf_counter) -> dict[str, Any]:
    """One row of a call named `boxrl` and one peer of it, taking turns.

    `PEER ms` and `boxrl ms` as `summarize` has them; `times as fast` is [lower quartile, median,
    upper quartile] of the peer's time over boxrl's in the same round.
    """
    seconds = take_turns(calls, repeats, clock)
    (peer,) = seconds.keys() - {"boxrl"}
    ratios = [t / o for t, o in zip(seconds[peer], seconds["boxrl"], strict=True)]
    times = {row["what"]: row["ms"] for row in summarize(seconds, "boxrl")}
    return {
        f"{peer} ms": times[peer],
        "boxrl ms": times["boxrl"],
        "times as fast": spread(ratios),
    }


def spread(values: list[float], digits: int = 2) -> list[float]:
    """[lower quartile, median, upper quartile]."""
    return [round(value, digits) for value in _quartiles(values)]


def print_rows(rows: list[dict[str, Any]], as_json: bool, **more: Any) -> None:
    """The rows as one JSON object, or as a Markdown table with `more` in a line below it."""
    print_tables({"rows": rows}, as_json, **more)


def print_tables(tables: Mapping[str, list[dict[str, Any]]], as_json: bool, **more: Any) -> None:
    """Several tables, under their names unless it is the only one; else as `print_rows`."""
    if as_json:
        print(json.dumps(dict(tables) | more))
        return
    for name, rows in tables.items():
        if len(tables) > 1:
            print(f"{name}:\n")
        columns = list(dict.fromkeys(key for row in rows for key in row))
        print("| " + " | ".join(_title(key) for key in columns) + " |")
        print("|" + "---|" * len(columns))
        for row in rows:
            print("| " + " | ".join(_cell(row.get(key, "")) for key in columns) + " |")
        print()
    if more:
        print("; ".join(f"{_title(key)}: {_cell(value)}" for key, value in more.items()))


def _title(key: str) -> str:
    return {"ms": "ms: median (quartiles)", "times_ours": "times boxrl's"}.get(key, key)


def _cell(value: Any) -> str:
    if isinstance(value, list) and len(value) == 3:
        low, middle, high = map(_number, value)
        return middle if low == high else f"{middle} ({low} to {high})"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "nothing"
    return f"{value:.1e}" if isinstance(value, float) and 0 < value < 1e-3 else str(value)


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
