"""One experiment from its file to its outcome."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from boxrl.data.files import write_json
from boxrl.experiments import grid, outcome
from boxrl.experiments.budget import Cost, Plan, arm_seconds, fit, measured_costs, workload
from boxrl.experiments.cells import Cell, build_cells
from boxrl.experiments.definition import TEXTS, Experiment, HeldOutTest, arm_recipe, is_trained
from boxrl.experiments.teaching import untaught
from boxrl.guard.files import read_json_object
from boxrl.runs import run_environment

CALIBRATION_STEPS = 4
CALIBRATION_SCENES = 64


def run_experiment(
    experiment: Experiment,
    seeds: Sequence[int],
    out: Path,
    cache_folder: Path,
    *,
    workers: int | None = None,
    budget: float | None = None,
    overrides: Sequence[str] = (),
    launch: grid.Launch = grid.launch_cell,
) -> dict[str, Any]:
    """Run what is missing of the grid, and write OUT/results.json.

    Args:
        experiment: what to run.
        seeds: every arm runs under each.
        out: folder of the outcome.
        cache_folder: of the cells; shared by all experiments.
        workers: cells side by side; one per core on a CPU by default.
        budget: seconds; None runs everything.
        overrides: what the command line changed, for the record.
        launch: starts a cell's process.

    Returns:
        What results.json holds.

    Raises:
        DataError: some cells failed; the others stand in the cache.
    """
    device = arm_recipe(experiment, next(iter(experiment.arms)), seeds[0]).engine.device
    workers = workers or grid.default_workers(device)
    plan = Plan(tuple(seeds), 1.0, 0.0)
    if budget is not None:
        plan = _kept_plan(experiment, seeds, budget, workers, out, cache_folder, launch)
    cells = build_cells(experiment, plan.seeds, cache_folder, plan.share)
    ran = grid.run_grid(cells, workers, launch)
    content = _outcome(experiment, cells) | {
        "seeds": list(plan.seeds),
        "gave_up": plan.gave_up(experiment, seeds),
        "budget_seconds": budget,
        "overrides": list(overrides),
        "workers": workers,
    }
    write_json(out / "results.json", content)
    return content | {"cells_run": ran}


def expect(experiment: Experiment, seeds: Sequence[int], cache_folder: Path) -> dict[str, Any]:
    """What `run_experiment` would do; nothing is run or taught.

    Args:
        experiment: what to run.
        seeds: every arm runs under each.
        cache_folder: of the cells, which also tell what steps cost here.

    Returns:
        `cells` in all, `finished` ones, models to `teach` first, and the `processor_minutes` that
        the cells should take, teaching left out. Without a cache, and before models are taught, no
        cell is known to be finished, nor to be one with another arm's.
    """
    teach, begun = untaught(experiment.teaches), (cache_folder / "cells").is_dir()
    cells = build_cells(experiment, seeds, cache_folder) if begun and not teach else []
    waiting = list({cell.folder: cell.arm for cell in cells if not cell.is_done()}.values())
    arms = waiting if cells else [arm for _ in seeds for arm in experiment.arms]
    costs = measured_costs(cache_folder)
    return {
        "cells": len(seeds) * len(experiment.arms),
        "finished": sum(cell.is_done() for cell in cells),
        "teach": teach,
        "processor_minutes": sum(arm_seconds(experiment, arm, 1.0, costs) for arm in arms) / 60,
    }


def _outcome(experiment: Experiment, cells: Sequence[Cell]) -> dict[str, Any]:
    results = outcome.read_cells(cells)
    environment = run_environment()
    return {
        **experiment.model_dump(include=set(TEXTS)),
        "seeds_wanted": experiment.seeds,
        "starts": experiment.starts,
        "boxrl": environment["boxrl"],
        "commit": environment["commit"],
        "versions": environment["versions"],
        "steps": {cell.arm: cell.recipe.train.max_steps for cell in cells if cell.trained},
        "tests": {name: test.model_dump(mode="json") for name, test in experiment.tests.items()},
        **outcome.summarize_outcome(experiment, results),
        "cells": {
            arm: {
                str(cell.seed): {
                    "cell": cell.key,
                    "processor_seconds": cell.spent(),
                    **results[arm][cell.seed],
                }
                for cell in cells
                if cell.arm == arm
            }
            for arm in results
        },
        "curves": outcome.mean_curves(cells),
        "seconds": outcome.cost(cells),
    }


def _kept_plan(
    experiment: Experiment,
    seeds: Sequence[int],
    budget: float,
    workers: int,
    out: Path,
    cache_folder: Path,
    launch: grid.Launch,
) -> Plan:
    """The plan that an earlier call of the same grid made, so that it goes on; else a new one."""
    path = out / "plan.json"
    text = json.dumps([experiment.model_dump(mode="json"), list(seeds), budget, workers])
    asked = hashlib.sha256(text.encode()).hexdigest()
    if path.is_file():
        kept = read_json_object(path)
        if kept["asked"] == asked:
            return Plan(tuple(kept["seeds"]), kept["share"], kept["seconds"])
    costs = _costs(experiment, seeds[0], workers, cache_folder, launch)
    plan = fit(experiment, seeds, budget, workers, costs)
    write_json(path, {"asked": asked, **plan._asdict()})
    lost = ", ".join(plan.gave_up(experiment, seeds)) or "everything"
    late = "" if plan.seconds <= budget else "; even that is more than the budget"
    print(  # noqa: T201
        f"budget {budget / 60:.0f} min: {lost}, about {plan.seconds / 60:.0f} min{late}",
        file=sys.stderr,
    )
    return plan


def _costs(
    experiment: Experiment, seed: int, workers: int, cache_folder: Path, launch: grid.Launch
) -> dict[Any, Cost]:
    """Costs by workload; what no finished cell tells is measured on a few steps."""
    known = measured_costs(cache_folder)
    arms = [arm for arm in experiment.arms if is_trained(experiment, arm)]
    missing: dict[Any, str] = {}
    for arm in arms:
        recipe = arm_recipe(experiment, arm, seed)
        if workload(recipe) not in known and "after" not in experiment.arms[arm]:
            missing.setdefault(workload(recipe), arm)
    cells: list[Cell] = []
    for arm in missing.values():
        steps = arm_recipe(experiment, arm, seed).train.max_steps
        short = experiment.model_copy(
            update={
                "arms": {arm: experiment.arms[arm]},
                "tests": {"calibration": HeldOutTest(scenes=CALIBRATION_SCENES)},
            }
        )
        cells += build_cells(short, [seed], cache_folder, CALIBRATION_STEPS / steps)
    grid.run_grid(cells, workers, launch)
    return {**measured_costs(cache_folder)}
