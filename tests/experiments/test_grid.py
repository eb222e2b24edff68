"""The grid: what is run, what is found finished, and what a killed grid goes on with."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from boxrl.errors import DataError
from boxrl.experiments import cells, grid, run
from boxrl.experiments.cells import Cell, build_cells
from boxrl.experiments.definition import load_experiment

from .files import EXPERIMENT, FakeCells, write_experiment


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "POLL_S", 0.01)


def run_it(
    folder: Path, fake: Any, overrides: tuple[str, ...] = (), text: str = EXPERIMENT, **more: Any
) -> dict[str, Any]:
    experiment = load_experiment(write_experiment(folder, text), overrides)
    return run.run_experiment(
        experiment, [0, 1], folder / "out", folder / "cache", launch=fake, workers=2, **more
    )


def test_every_arm_runs_under_every_seed_and_is_tested_on_the_same_scenes(tmp_path: Path) -> None:
    experiment = load_experiment(write_experiment(tmp_path))
    cells = build_cells(experiment, [0, 1], tmp_path / "cache")
    assert {(cell.arm, cell.seed) for cell in cells} == {
        (arm, seed) for arm in experiment.arms for seed in (0, 1)
    }
    assert len({cell.folder for cell in cells}) == 8
    assert len({cell.tests for cell in cells}) == 1


def test_a_dry_run_tells_what_is_left_and_runs_nothing(tmp_path: Path) -> None:
    experiment, cache = load_experiment(write_experiment(tmp_path)), tmp_path / "cache"
    before = run.expect(experiment, [0, 1], cache)
    assert (before["cells"], before["finished"], before["teach"]) == (8, 0, [])
    assert before["processor_minutes"] > 1
    assert not cache.exists()
    run_it(tmp_path, FakeCells())
    after = run.expect(experiment, [0, 1, 2], cache)
    assert (after["cells"], after["finished"]) == (12, 8)
    # Three trained arms of ten steps of 2 s are left, and four times two answers of .5 s.
    assert after["processor_minutes"] == pytest.approx((3 * 20 + 4 * (15 + 4 * 0.5)) / 60)
    taught = experiment.model_copy(update={"teaches": {str(tmp_path / "none"): "teach"}})
    assert run.expect(taught, [0], cache)["teach"] == [str(tmp_path / "none")]


def test_a_finished_grid_costs_nothing(tmp_path: Path) -> None:
    first, second = FakeCells(), FakeCells()
    outcome = run_it(tmp_path, first)
    assert len(first.started) == 8
    again = run_it(tmp_path, second)
    assert second.started == []
    assert again.pop("cells_run") == 0
    assert outcome.pop("cells_run") == 8
    assert again == outcome


def test_one_changed_key_reruns_just_its_cells(tmp_path: Path) -> None:
    run_it(tmp_path, FakeCells())
    fake = FakeCells()
    run_it(tmp_path, fake, ("arms.ap50.train.beta=0.1",))
    assert sorted(fake.started) == ["ap50 0", "ap50 1"]


def test_a_change_reaches_the_arms_that_start_from_it(tmp_path: Path) -> None:
    run_it(tmp_path, FakeCells())
    fake = FakeCells()
    run_it(tmp_path, fake, ("arms.ap.train.learning_rate=0.001",))
    assert sorted(fake.started) == ["ap 0", "ap 1", "later 0", "later 1"]


def test_a_verifier_of_other_weights_gives_other_cells(tmp_path: Path) -> None:
    verifier = tmp_path / "verifier"
    verifier.mkdir()
    asking = f"rewards: [verified], verifier: {{model: {verifier}}}"
    text = EXPERIMENT.replace("rewards: [format, ap]", asking)
    keys = []
    for weights in ("1", "2", "1"):
        (verifier / "model.safetensors").write_text(weights)
        cells._hash_folder.cache_clear()
        cells._hash_file.cache_clear()
        built = build_cells(load_experiment(write_experiment(tmp_path, text)), [0], tmp_path / "c")
        keys.append({cell.arm: cell.key for cell in built})
    assert keys[0] == keys[2]
    assert {arm for arm in keys[0] if keys[0][arm] != keys[1][arm]} == {"ap", "later"}


def test_another_test_trains_nothing_again(tmp_path: Path) -> None:
    fake = FakeCells()
    run_it(tmp_path, fake)
    cells = sorted(path.name for path in (tmp_path / "cache" / "cells").iterdir())
    run_it(tmp_path, fake, ("tests.in_domain.scenes=3",))
    assert sorted(path.name for path in (tmp_path / "cache" / "cells").iterdir()) == cells


def test_two_arms_of_one_recipe_share_their_cells(tmp_path: Path) -> None:
    fake = FakeCells()
    outcome = run_it(tmp_path, fake, ("arms.twin.rewards=[format, ap]",))
    assert len(fake.started) == 8
    twins = (outcome["cells"]["twin"]["0"], outcome["cells"]["ap"]["0"])
    assert twins[0] == twins[1]


def test_an_arm_waits_for_the_one_that_it_starts_from(tmp_path: Path) -> None:
    fake = FakeCells()
    run_it(tmp_path, fake)
    for seed in (0, 1):
        assert fake.started.index(f"ap {seed}") < fake.started.index(f"later {seed}")
    experiment = load_experiment(write_experiment(tmp_path))
    later = next(c for c in build_cells(experiment, [0], tmp_path / "cache") if c.arm == "later")
    assert later.start is not None
    assert later.recipe.model == str(later.start.recipe.out / "model")


def test_a_failed_cell_is_named_and_the_others_are_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", "1")
    fake = FakeCells()
    with pytest.raises(DataError) as caught:
        run_it(tmp_path, fake)
    assert "2 of 8 cells failed" in str(caught.value)
    assert "ap50, seed 0: boxrl: no luck" in str(caught.value)
    monkeypatch.delenv("FAIL")
    again = FakeCells()
    run_it(tmp_path, again)
    assert sorted(again.started) == ["ap50 0", "ap50 1"]


def test_what_starts_from_a_failed_cell_is_not_started(tmp_path: Path) -> None:
    fake = FakeCells()

    def refuse(cell: Cell) -> subprocess.Popen[bytes]:
        process = fake(cell)
        if cell.arm == "ap":
            process.wait()
            shutil.rmtree(cell.recipe.out)
        return process

    with pytest.raises(DataError, match="later, seed 0: arm ap failed before it"):
        run_it(tmp_path, refuse)
    assert not [name for name in fake.started if name.startswith("later")]


def test_a_stopped_grid_stops_its_processes_and_goes_on(tmp_path: Path) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def stop_at_the_third(cell: Cell) -> subprocess.Popen[bytes]:
        if len(started) == 2:
            raise KeyboardInterrupt
        # Like a real cell: it lives as long as its standard input is open.
        started.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE))
        return started[-1]

    experiment = load_experiment(write_experiment(tmp_path))
    cells = build_cells(experiment, [0], tmp_path / "cache")
    with pytest.raises(KeyboardInterrupt):
        grid.run_grid(cells, 3, stop_at_the_third)
    assert [process.returncode for process in started] == [0, 0]
    fake = FakeCells()
    grid.run_grid(cells, 2, fake)
    assert len(fake.started) == 4


def test_progress_counts_steps_and_batches_of_answers(tmp_path: Path) -> None:
    experiment = load_experiment(write_experiment(tmp_path))
    cell = next(c for c in build_cells(experiment, [0], tmp_path / "cache") if c.arm == "ap")
    assert grid.work_units(cell) == 10 + 2
    assert grid.progress(cell) == 0
    cell.recipe.out.mkdir(parents=True)
    (cell.recipe.out / "metrics.jsonl").write_text("{}\n{}\n")
    assert grid.progress(cell) == 2


def test_a_budget_is_kept_by_a_grid_that_goes_on(tmp_path: Path) -> None:
    run_it(tmp_path, FakeCells())  # its cells tell what a step costs: 2 s
    outcome = run_it(tmp_path, FakeCells(), budget=100.0)
    assert outcome["steps"] == {"ap": 5, "ap50": 5, "later": 5}
    assert outcome["seeds"] == [0, 1]
    assert outcome["gave_up"] == ["5 of 10 steps"]
    plan = (tmp_path / "out" / "plan.json").read_text()
    fake = FakeCells()
    run_it(tmp_path, fake, budget=100.0)
    assert fake.started == []
    assert (tmp_path / "out" / "plan.json").read_text() == plan
    assert json.loads(plan)["share"] == 0.5


def test_a_budget_without_finished_cells_measures_a_few_steps(tmp_path: Path) -> None:
    fake = FakeCells()
    outcome = run_it(tmp_path, fake, budget=3600.0)
    assert fake.started[0] == "ap 0"
    assert len(fake.started) == 9
    assert outcome["gave_up"] == []
