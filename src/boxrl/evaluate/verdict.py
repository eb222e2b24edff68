"""What figures come to, in one sentence for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any, NamedTuple

from boxrl.errors import tally
from boxrl.evaluate.summary import METRICS, Metric, look_up

HEADLINES = ("mAP", "grounding_accuracy@0.5", "accuracy")
"""The first that the samples have is what a run is judged by."""

_NAMED = {metric.key: metric for metric in METRICS}


def change_verdict(difference: Mapping[str, Any]) -> str:
    """Whether the second of two runs is better, and by how much.

    Args:
        difference: of `compare`.

    Returns:
        One sentence; "" where the runs share no headline.
    """
    metric = _headline(difference["metrics"])
    if metric is None:
        return ""
    row = difference["metrics"][metric.key]
    span = metric.format_ends((row["low"], row["high"]), "+")
    if not span:
        said = "one image alone tells no difference apart"
    elif row["low"] > 0:
        said = "better"
    elif row["high"] < 0:
        said = "worse"
    else:
        said = "no difference told apart, the interval holds 0"
    flipped = difference["flipped"]
    return (
        f"{metric.name} {metric.format(row['a'])} -> {metric.format(row['b'])} "
        f"({metric.format(row['difference'], '+')}{span and f', 95 % {span}'}): {said}; "
        f"{tally(len(flipped['gained']), 'sample')} gained, {len(flipped['lost'])} lost"
    )


def evaluation_verdict(metrics: Mapping[str, Any]) -> str:
    """A run's headline figure, and whether it is told apart from answering blind.

    Args:
        metrics: of an evaluation.

    Returns:
        One sentence; "" where the samples have no headline.
    """
    metric = _headline(metrics)
    if metric is None:
        return ""
    ends = metrics["intervals"].get(metric.key)
    span = f" (95 % {metric.format_ends(ends)})" if ends else ""
    said = f"{metric.name} {metric.format(look_up(metrics, metric.key))}{span}"
    blind = metrics["blind"].get("beats_blind")
    if not blind:
        return said
    if blind["beats_blind"]:
        return f"{said}; better than answering blind"
    worse = blind["high"] < 0
    return f"{said}; {'worse than' if worse else 'not significantly better than'} answering blind"


BY_HEART = 0.98
"""Token accuracy from which answers are known by heart."""

POOR = 0.5
"""A headline figure below it is no success, whatever the data."""


class Learning(NamedTuple):
    """What a training came to on its own samples.

    Attributes:
        words: one sentence.
        goes_on: whether it was still learning when it ended, beyond the noise of its steps.
    """

    words: str
    goes_on: bool


LEAST_STEPS = 25
"""Shorter trainings say nothing of where they are going."""


def learning_verdict(steps: Sequence[Mapping[str, Any]]) -> Learning | None:
    """How far a training came on the samples that it was trained on.

    Args:
        steps: rows of metrics.jsonl, of every step or of some; the reward counts where there is
            one, else the loss.

    Returns:
        None where nothing was logged.
    """
    key = "reward" if any(row.get("reward") is not None for row in steps) else "loss"
    logged = [row for row in steps if row.get(key) is not None]
    values = [row[key] for row in logged]
    if not values:
        return None
    last_step = logged[-1].get("step", len(logged))
    rises, fifth = key == "reward", max(len(values) // 5, 1)
    first, last = fmean(values[:fifth]), fmean(values[-fifth:])
    words = f"on its own samples: {key} {first:.3f} -> {last:.3f} in {last_step} steps"
    return Learning(words, _goes_on([value if rises else -value for value in values], fifth))


def by_heart_verdict(steps: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any]) -> str:
    """Whether SFT learned its own answers and little that helps with others.

    Args:
        steps: rows of metrics.jsonl.
        metrics: of the held-out samples after it.

    Returns:
        One sentence; "" where it is not so, or nobody can tell.
    """
    known = [row["token_accuracy"] for row in steps if row.get("token_accuracy") is not None]
    metric = _headline(metrics)
    if not known or metric is None:
        return ""
    own, held_out = fmean(known[-max(len(known) // 5, 1) :]), look_up(metrics, metric.key)
    if own < BY_HEART or held_out is None or held_out >= POOR:
        return ""
    return (
        f"it knows its own answers by heart (token accuracy {own:.3f}) and not the held-out ones "
        f"({metric.name} {metric.format(held_out)}): more samples or a model that knows such "
        "images help, more steps do not"
    )


def _goes_on(values: Sequence[float], fifth: int) -> bool:
    """Whether the last fifth lies above the one before by two standard errors."""
    if len(values) < LEAST_STEPS:
        return False
    before, last = fmean(values[-2 * fifth : -fifth]), fmean(values[-fifth:])
    noise: float = fmean(abs(a - b) for a, b in pairwise(values[-2 * fifth :])) / math.sqrt(fifth)
    return last - before > 2 * noise


def _headline(metrics: Mapping[str, Any]) -> Metric | None:
    return next((_NAMED[key] for key in HEADLINES if metrics.get(key) is not None), None)
