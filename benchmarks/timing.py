"""Calls that take turns: a busy minute falls on all of them alike; medians, quartiles, ratios."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from statistics import median, quantiles
from typing import Any

Calls = Mapping[str, Callable[[], object]]


def take_turns(calls: Calls, repeats: int) -> dict[str, list[float]]:
    """Wall seconds of every call in every round; odd rounds run in the opposite order."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats):
        for name in list(calls)[:: 1 if turn % 2 == 0 else -1]:
            began = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def summarize(seconds: dict[str, list[float]], ours: str) -> list[dict[str, Any]]:
    """One row per call: milliseconds as [lower quartile, median, upper quartile], and the ratio.

    `times_ours` is the median over rounds of the call's time over that of `ours` in the same
    round, so that it holds where the machine slowed down between rounds.
    """
    return [
        {
            "what": name,
            "ms": [round(value * 1e3, 3) for value in _quartiles(times)],
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


def print_rows(rows: list[dict[str, Any]], as_json: bool, **more: Any) -> None:
    """The rows as one JSON object, or as a Markdown table with `more` in a line below it."""
    if as_json:
        print(json.dumps({"rows": rows} | more))
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    print("| " + " | ".join(_title(key) for key in columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(_cell(row.get(key, "")) for key in columns) + " |")
    if more:
        print("\n" + "; ".join(f"{_title(key)}: {_cell(value)}" for key, value in more.items()))


def _title(key: str) -> str:
    return {"ms": "ms: median (quartiles)", "times_ours": "times boxrl's"}.get(
        key, key.replace("_", " ")
    )


def _cell(value: Any) -> str:
    if isinstance(value, list) and len(value) == 3:
        low, middle, high = (
            f"{number:.3g}" if number < 100 else f"{number:.0f}" for number in value
        )
        return f"{middle} ({low} to {high})"
    return str(value)
