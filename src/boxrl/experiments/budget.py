"""Seeds and steps that fit into a given time, and what is given up for it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from boxrl.config import Recipe
from boxrl.errors import UsageError
from boxrl.experiments.definition import Experiment, arm_recipe, is_trained
from boxrl.guard.files import parse_yaml, read_json_object

SHARES = (1.0, 0.75, 0.5, 0.35, 0.25, 0.15, 0.1)
"""Shares of the recipes' steps that a plan may take."""

ENOUGH = 0.5
"""From this share of the steps down, fewer seeds are given up before more steps."""

START_S = 15.0
"""Starting a process, loading libraries and model."""

ROW_S, ANSWER_S = 0.01, 0.008
"""Of a training step, by rows, and of an answer, where nothing was measured: of the tiny VLM."""


class Cost(NamedTuple):
    """Seconds on one worker."""

    step: float
    answer: float


class Plan(NamedTuple):
    """What is run: seeds, share of the recipes' steps, and how long it should take."""

    seeds: tuple[int, ...]
    share: float
    seconds: float

    def gave_up(self, experiment: Experiment, seeds: Sequence[int]) -> list[str]:
        """What the budget cost, in words; empty where everything fits."""
        lost = []
        if len(self.seeds) < len(seeds):
            lost.append(f"{len(self.seeds)} of {len(seeds)} seeds")
        if self.share < 1:
            trained = [arm for arm in experiment.arms if is_trained(experiment, arm)]
            whole = max(arm_recipe(experiment, arm, 0).train.max_steps for arm in trained)
            lost.append(f"{round(self.share * whole)} of {whole} steps")
        return lost


def parse_duration(text: str) -> float:
    """Seconds of a time such as 90s, 20m or 1.5h.

    Raises:
        UsageError: anything else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found or not float(found[1]):
        raise UsageError(f"--budget {text}: expected a time such as 90s, 20m or 1.5h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def workload(recipe: Recipe) -> tuple[str, str, int]:
    """Runs of equal workload take equally long per step."""
    rows = recipe.train.prompts_per_step
    if recipe.method == "grpo":
        rows *= recipe.train.num_generations
    return recipe.method, recipe.model, rows


def measured_costs(cache_folder: Path) -> dict[tuple[str, str, int], Cost]:
    """Median cost by workload over the cells that stand finished in the cache."""
    found: dict[tuple[str, str, int], list[Cost]] = {}
    for path in sorted(cache_folder.glob("cells/*/cell.json")):
        cell = read_json_object(path)
        log = path.parent / "run" / "metrics.jsonl"
        tests = [read_json_object(file) for file in path.parent.glob("tests/*/metrics.json")]
        if not cell["trained"] or not log.is_file() or not tests:
            continue
        recipe = Recipe.model_validate(parse_yaml(cell["recipe"]))
        times = [json.loads(line)["time_s"] for line in log.read_text("utf-8").splitlines()]
        if len(times) < 2:
            continue
        step = (times[-1] - times[0]) / (len(times) - 1)
        answer = sum(t["seconds"] for t in tests) / max(1, sum(t["n"] for t in tests))
        found.setdefault(workload(recipe), []).append(Cost(step, answer))
    return {
        key: Cost(*(median(column) for column in zip(*costs, strict=True)))
        for key, costs in found.items()
    }


def fit(
    experiment: Experiment,
    seeds: Sequence[int],
    seconds: float,
    workers: int,
    costs: Mapping[tuple[str, str, int], Cost],
) -> Plan:
    """The largest grid that fits.

    First steps are given up, down to half of each recipe's; then seeds; then more steps.

    Args:
        experiment: what to run.
        seeds: those wanted; the first ones are kept.
        seconds: the time there is.
        workers: cells side by side.
        costs: by workload; must hold those of every trained arm.

    Returns:
        A plan; where not even one seed with the fewest steps fits, that one, with its time.
    """
    order = [(len(seeds), share) for share in SHARES if share >= ENOUGH]
    order += [(n, share) for n in range(len(seeds) - 1, 0, -1) for share in (1.0, 0.75, ENOUGH)]
    order += [(1, share) for share in SHARES if share < ENOUGH]
    plan = Plan(tuple(seeds), 1.0, 0.0)
    for n, share in order:
        needed = n * _seed_seconds(experiment, share, costs) / workers
        plan = Plan(tuple(seeds[:n]), share, needed)
        if needed <= seconds:
            break
    return plan


def _seed_seconds(
    experiment: Experiment, share: float, costs: Mapping[tuple[str, str, int], Cost]
) -> float:
    """All arms of one seed, one after the other."""
    return sum(arm_seconds(experiment, arm, share, costs) for arm in experiment.arms)


def arm_seconds(
    experiment: Experiment, arm: str, share: float, costs: Mapping[tuple[str, str, int], Cost]
) -> float:
    """What a cell of the arm takes on one worker.

    Args:
        experiment: whose arm it is.
        arm: its name.
        share: of the recipe's own number of steps.
        costs: by workload; what is not among them is taken for the tiny VLM's.
    """
    answers = sum(len(test.ways) * test.scenes for test in experiment.tests.values())
    slowest = max((cost.answer for cost in costs.values()), default=ANSWER_S)
    total = START_S + answers * slowest
    if is_trained(experiment, arm):
        recipe = arm_recipe(experiment, arm, 0, share, check_files=False)
        known = workload(recipe)
        typical = Cost(known[-1] * ROW_S, ANSWER_S)
        total += recipe.train.max_steps * costs.get(known, typical).step
    return total
