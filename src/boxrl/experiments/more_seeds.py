"""What a grid has cost, and what further seeds would decide."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any

from boxrl.experiments.statistics import least_margin, least_visible

Outcome = Mapping[str, Any]


def processor_hours(outcome: Outcome) -> float:
    """Hours of one core that the outcome's cells took, those that arms share counted once."""
    return float(sum(outcome["seconds"].values())) / 3600


def seeds_per_hour(outcome: Outcome) -> int:
    """Whole seeds of every arm that one more processor hour gives; at least one is counted."""
    hours = processor_hours(outcome)
    return max(1, int(len(outcome["seeds"]) / hours)) if hours else 1


def missing_seeds(outcome: Outcome) -> list[int]:
    """Seeds that the experiment's file names and the outcome lacks."""
    wanted = outcome.get("seeds_wanted", outcome["seeds"])
    return [seed for seed in wanted if seed not in outcome["seeds"]]


def would_decide(claim: Mapping[str, Any], more: int) -> bool:
    """Whether that many further seeds decide an open claim in 80 of 100 cases.

    Args:
        claim: of an outcome; the true difference is taken to be the one found, and the spread
            over seeds to stay.
        more: further seeds.
    """
    values = claim["difference"]["values"] if claim["difference"] else []
    if claim["status"] != "undecided" or len(values) < 2 or stdev(values) == 0:
        return False
    mean, spread, n = fmean(values), stdev(values), len(values) + more
    if "within" in claim:
        return least_margin(mean, spread, n) <= float(claim["within"])
    return least_visible(spread, n) <= abs(mean)
