"""Learning curves as numbers: where a reward starts, takes off and ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from boxrl.metrics.convergence import take_off

FIRST_STEPS = 2
"""Steps that count as the start: sampled before training has changed anything much."""


def accuracy_reward(names: Sequence[str]) -> str | None:
    """The first reward that is not `format`: what the VLM-R1-OVD blog calls the accuracy reward."""
    return next((name for name in names if name != "format"), None)


def reward_curve(rows: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    """(step, mean of the reward over the step's completions) where it applied."""
    return [
        (row["step"], row["rewards"][name])
        for row in rows
        if row.get("rewards", {}).get(name) is not None
    ]


def learning_figures(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
    """Figures of the `format` and the accuracy curve of one run.

    Args:
        rows: of metrics.jsonl.
        names: of the recipe's rewards.

    Returns:
        `format.` and `accuracy.` with `start` (mean of the first two steps), `plateau` (mean of
        the last tenth of the steps) and `take_off` (see `metrics.convergence.take_off`); what is
        not defined is left out.
    """
    figures: dict[str, float] = {}
    for title, name in (("format", "format"), ("accuracy", accuracy_reward(names))):
        curve = reward_curve(rows, name) if name else []
        if not curve:
            continue
        steps, values = zip(*curve, strict=True)
        figures[f"{title}.start"] = fmean(values[:FIRST_STEPS])
        figures[f"{title}.plateau"] = fmean(values[-max(1, len(values) // 10) :])
        step = take_off(steps, values)
        if step is not None:
            figures[f"{title}.take_off"] = step
    return figures
