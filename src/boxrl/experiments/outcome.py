"""Finished cells to an outcome: the table, and what became of each claim."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from boxrl.data.files import is_number
from boxrl.experiments.cells import Cell
from boxrl.experiments.definition import LEARNING, Claim, Column, Experiment, Figure
from boxrl.experiments.learning import accuracy_reward, learning_figures, reward_curve
from boxrl.experiments.statistics import (
    Mean,
    Verdict,
    at_a_bound,
    judge_difference,
    judge_likeness,
    mean_interval,
)
from boxrl.guard.files import read_json_object

Figures = dict[str, float]
Results = Mapping[str, Mapping[int, Mapping[str, Figures]]]
"""arm -> seed -> place -> figures; places are `TEST WAY` and LEARNING."""

LEFT_OUT = ("per_label", "per_size", "errors", "intervals", "protocol", "seconds")


def place(item: Figure) -> str:
    """Where a cell's results hold the figure."""
    return LEARNING if item.test == LEARNING else f"{item.test} {item.way}"


def read_cells(cells: Sequence[Cell]) -> dict[str, dict[int, dict[str, Figures]]]:
    """Every figure of every finished cell."""
    results: dict[str, dict[int, dict[str, Figures]]] = {}
    for cell in cells:
        found = results.setdefault(cell.arm, {}).setdefault(cell.seed, {})
        for test in cell.tests:
            path = cell.test_folder(test) / "metrics.json"
            metrics = read_json_object(path)
            kept = {key: value for key, value in metrics.items() if key not in LEFT_OUT}
            found[f"{test.name} {test.way}"] = flatten(kept)
        if cell.trained:
            found[LEARNING] = learning_figures(read_steps(cell), reward_names(cell))
    return results


def read_steps(cell: Cell) -> list[dict[str, Any]]:
    """Rows of the cell's training log."""
    path = cell.recipe.out / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def reward_names(cell: Cell) -> list[str]:
    """Names of the cell's rewards, in order."""
    return [entry.reward.name for entry in cell.recipe.rewards]


def flatten(metrics: Mapping[str, Any], before: str = "") -> Figures:
    """Nested figures under dotted names; what is no number is left out."""
    found: Figures = {}
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{before}{key}.")
        elif is_number(value):
            found[f"{before}{key}"] = value
    return found


def summarize_outcome(experiment: Experiment, results: Results) -> dict[str, Any]:
    """What an experiment found, as plain data.

    Args:
        experiment: its columns and claims.
        results: figures of the cells that are there.

    Returns:
        `columns` with mean and interval over seeds per arm, `claims` with their verdicts.
    """
    return {
        "columns": [_column(experiment, column, results) for column in experiment.columns],
        "claims": [_claim(experiment, claim, results) for claim in experiment.claims],
    }


def _values(results: Results, arm: str, item: Figure) -> dict[int, float]:
    """The figure by seed, where it is defined."""
    found = {
        seed: places.get(place(item), {}).get(item.figure)
        for seed, places in results.get(arm, {}).items()
    }
    return {seed: value for seed, value in found.items() if value is not None}


def _column(experiment: Experiment, column: Column, results: Results) -> dict[str, Any]:
    ours = {arm: _values(results, arm, column) for arm in experiment.arms}
    blind = _values(
        results,
        next(iter(experiment.arms)),
        column.model_copy(update={"figure": f"blind.{column.figure}"}),
    )
    asked_otherwise = column.model_copy(update={"way": "shuffled_labels"})
    # A learning curve is of one question a scene, and has no control.
    arms = experiment.arms if column.test != LEARNING else {}
    shuffled = {arm: _values(results, arm, asked_otherwise) for arm in arms}
    return {
        **column.model_dump(),
        "published": {
            arm: row[column.title]
            for arm, row in experiment.published.items()
            if column.title in row
        },
        "ours": {arm: _mean(list(values.values())) for arm, values in ours.items()},
        "blind": fmean(blind.values()) if blind else None,
        "shuffled_labels": {arm: fmean(v.values()) for arm, v in shuffled.items() if v},
    }


def _mean(values: Sequence[float], level: float = 0.95) -> dict[str, Any] | None:
    found = mean_interval(values, level)
    return None if found is None else {**found._asdict(), "values": list(values)}


def _claim(experiment: Experiment, claim: Claim, results: Results) -> dict[str, Any]:
    a, b = (_sums(results, arms, claim) for arms in claim.sides)
    seeds = sorted(a.keys() & b.keys())
    differences = [a[seed] - b[seed] for seed in seeds]
    percent = _is_percent(experiment, claim)
    published = _published_difference(experiment, claim)
    room = not (seeds and percent and len(claim.sides[0]) == 1) or not at_a_bound(
        [a[seed] for seed in seeds], [b[seed] for seed in seeds]
    )
    if claim.within is not None:
        verdict = judge_likeness(differences, claim.within)
    else:
        ours = _in_our_unit(experiment, claim, published, [b[seed] for seed in seeds])
        verdict = judge_difference(differences, ours)
    decided = verdict.status in ("held", "failed") and claim.within is None
    if not room and not decided:
        verdict = Verdict("not tested", None, None)
    return {
        **claim.model_dump(exclude_none=True),
        **verdict._asdict(),
        "difference": _mean(differences, 0.95 if claim.within is None else 0.9),
        "published": published,
        "percent": percent,
    }


def _sums(results: Results, arms: Sequence[str], item: Figure) -> dict[int, float]:
    """The figure summed over arms, by seed, where every arm has it."""
    found = [_values(results, arm, item) for arm in arms]
    seeds = set.intersection(*(set(values) for values in found))
    return {seed: sum(values[seed] for values in found) for seed in seeds}


def _matching(experiment: Experiment, claim: Claim) -> Column | None:
    """The column that shows the claim's figure."""
    asked = (claim.figure, claim.test, claim.way)
    return next((c for c in experiment.columns if (c.figure, c.test, c.way) == asked), None)


def _published(experiment: Experiment, claim: Claim) -> tuple[list[float], list[float]] | None:
    """The blog's numbers of both sides; None where one is missing."""
    column = _matching(experiment, claim)
    if column is None:
        return None
    a, b = (
        [experiment.published.get(arm, {}).get(column.title) for arm in arms]
        for arms in claim.sides
    )
    known = [v for v in a if v is not None], [v for v in b if v is not None]
    return known if len(known[0] + known[1]) == len(a + b) else None


def _published_difference(experiment: Experiment, claim: Claim) -> float | None:
    if claim.published is not None:
        return claim.published
    found = _published(experiment, claim)
    return None if found is None else sum(found[0]) - sum(found[1])


def _in_our_unit(
    experiment: Experiment, claim: Claim, published: float | None, lower: Sequence[float]
) -> float | None:
    """The blog's difference on our scale, where the lower arm may stand elsewhere.

    A share: in points, or as large a part of what is left to gain, whichever is less. Lengths and
    steps: as large a part of ours as of the blog's.
    """
    found = _published(experiment, claim)
    if published is None or not lower:
        return None
    if not _is_percent(experiment, claim):
        return None if found is None else published / sum(found[1]) * fmean(lower)
    points = published / 100
    if found is None or len(found[1]) > 1:
        return points
    return min(points, published / (100 - found[1][0]) * (1 - fmean(lower)))


def _is_percent(experiment: Experiment, claim: Claim) -> bool:
    column = _matching(experiment, claim)
    if column is not None:
        return column.percent
    return not claim.figure.startswith("tokens.") and not claim.figure.endswith(".half_rise")


def mean_curves(cells: Sequence[Cell]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Arm -> `format` and `accuracy` -> (step, mean over the arm's seeds)."""
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for arm in dict.fromkeys(cell.arm for cell in cells):
        runs = [cell for cell in cells if cell.arm == arm and cell.trained]
        for title in ("format", "accuracy"):
            found = [_curve(cell, title) for cell in runs]
            steps = sorted(set.intersection(*(set(curve) for curve in found))) if found else []
            if steps:
                means = [(step, fmean(curve[step] for curve in found)) for step in steps]
                curves.setdefault(arm, {})[title] = means
    return curves


def _curve(cell: Cell, title: str) -> dict[int, float]:
    name = "format" if title == "format" else accuracy_reward(reward_names(cell))
    return dict(reward_curve(read_steps(cell), name)) if name else {}


def cost(cells: Sequence[Cell]) -> dict[str, float]:
    """Processor seconds over all cells, those that arms share counted once."""
    return {"processor": sum({cell.key: cell.spent() for cell in cells}.values())}


def stored_results(outcome: Mapping[str, Any]) -> Results:
    """The cells' figures that an outcome keeps, to judge it anew without running anything."""
    return {
        arm: {int(seed): cell for seed, cell in cells.items()}
        for arm, cells in outcome["cells"].items()
    }


def as_mean(content: Mapping[str, Any] | None) -> Mean | None:
    """The mean that `summarize_outcome` wrote."""
    if content is None:
        return None
    return Mean(content["mean"], content["low"], content["high"], content["n"])
