"""Budgets: what fits, and what is given up first."""

from __future__ import annotations

from pathlib import Path

import pytest

from boxrl.errors import UsageError
from boxrl.experiments.budget import START_S, Cost, fit, parse_duration
from boxrl.experiments.definition import Experiment, load_experiment

from .files import write_experiment

COSTS = {("grpo", "tiny", 64): Cost(step=2.0, answer=0.5)}
SEED_S = 4 * (START_S + 4 * 0.5)
"""One seed without its steps: four arms that start and answer two scenes in two ways."""


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return load_experiment(write_experiment(tmp_path))


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("20m", 1200), ("1.5h", 5400)])
def test_a_time_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["20", "0m", "m", "-3m", "20 m", "1e3s"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a time such as 90s"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "seeds", "share"),
    [
        (3 * (SEED_S + 3 * 20) / 2, 3, 1.0),  # everything, to the second
        (3 * (SEED_S + 3 * 20) / 2 - 1, 3, 0.75),  # first steps go
        (3 * (SEED_S + 3 * 10) / 2, 3, 0.5),
        (2 * (SEED_S + 3 * 20) / 2, 2, 1.0),  # then a seed, and the steps come back
        (2 * (SEED_S + 3 * 10) / 2, 2, 0.5),
        ((SEED_S + 3 * 20) / 2, 1, 1.0),
        ((SEED_S + 3 * 8) / 2, 1, 0.35),
        (1.0, 1, 0.1),  # nothing fits: the least there is
    ],
)
def test_steps_go_down_to_half_then_seeds_then_more_steps(
    experiment: Experiment, seconds: float, seeds: int, share: float
) -> None:
    plan = fit(experiment, [7, 8, 9], seconds, 2, COSTS)
    assert (plan.seeds, plan.share) == ((7, 8, 9)[:seeds], share)


def test_a_larger_budget_never_gives_less(experiment: Experiment) -> None:
    plans = [fit(experiment, [0, 1, 2], seconds, 2, COSTS) for seconds in range(30, 300, 5)]
    assert [len(plan.seeds) for plan in plans] == sorted(len(plan.seeds) for plan in plans)
    for plan, seconds in zip(plans, range(30, 300, 5), strict=True):
        assert plan.seconds <= seconds or plan.share == 0.1


def test_what_is_given_up_is_said(experiment: Experiment) -> None:
    plan = fit(experiment, [0, 1, 2], 2 * (SEED_S + 3 * 10) / 2, 2, COSTS)
    assert plan.gave_up(experiment, [0, 1, 2]) == ["2 of 3 seeds", "5 of 10 steps"]
    whole = fit(experiment, [0, 1, 2], 1e6, 2, COSTS)
    assert whole.gave_up(experiment, [0, 1, 2]) == []
