"""What answers cost: tokens, seconds and, where a price is given, money."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from boxrl.data.files import number_or_none
from boxrl.data.predictions import Prediction
from boxrl.metrics.detection import mean_or_none

PER = 1000
"""Answers that seconds and prices are told of: one takes too little of either to be read."""

Price = tuple[float, float]
"""Of a million prompt tokens, and of a million completion tokens."""


def cost(
    answers: Sequence[Prediction], settings: Mapping[str, Any], price: Price | None = None
) -> dict[str, float | None]:
    """Means over the answers that did not end in error; None where somebody did not count.

    Args:
        answers: of one run.
        settings: their predictions.meta.json, whose `timing` says how long how many took.
        price: what tokens cost.

    Returns:
        `prompt_tokens` and `completion_tokens`, hidden ones among them, per answer; `seconds` of
        wall time and `price` per 1,000 answers.
    """
    rows = [row for row in answers if row.finish_reason != "error"]
    prompt = mean_or_none([row.n_prompt_tokens for row in rows])
    completion = mean_or_none([_written(row) for row in rows])
    money = None
    if price and prompt is not None and completion is not None:
        money = PER * (prompt * price[0] + completion * price[1]) / 1e6
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "seconds": _seconds(settings.get("timing")),
        "price": money,
    }


def mean_cost(evaluations: Iterable[Mapping[str, Any]]) -> dict[str, float | None]:
    """The cost of several evaluations, per answer as that of one.

    Args:
        evaluations: their metrics.
    """
    found = [(metrics["n"], metrics.get("cost") or {}) for metrics in evaluations]
    total = sum(n for n, _ in found)
    means: dict[str, float | None] = {}
    for key in ("prompt_tokens", "completion_tokens", "seconds", "price"):
        values = [None if costs.get(key) is None else n * costs[key] for n, costs in found]
        mean = mean_or_none(values)
        means[key] = None if mean is None else mean * len(values) / total
    return means


def _written(row: Prediction) -> int | None:
    """Tokens that are paid for as completion."""
    return None if row.n_tokens is None else row.n_tokens + (row.n_hidden_tokens or 0)


def _seconds(timing: Any) -> float | None:
    """Seconds per 1,000 answers; None where nobody measured."""
    if not isinstance(timing, Mapping):
        return None
    seconds, answers = (number_or_none(timing.get(key)) for key in ("seconds", "answers"))
    if seconds is None or not answers or seconds < 0 or answers < 0:
        return None
    return PER * seconds / answers
