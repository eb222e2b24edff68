"""What a grid has cost, what it is short of, and what further seeds would decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from boxrl.experiments import grid
from boxrl.experiments.definition import load_experiment
from boxrl.experiments.markdown import next_hour, render_markdown
from boxrl.experiments.more_seeds import (
    missing_seeds,
    processor_hours,
    seeds_per_hour,
    would_decide,
)
from boxrl.experiments.run import run_experiment

from .files import EXPERIMENT, FakeCells, write_experiment


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("hours")
    text = EXPERIMENT.replace("arms:\n", "seeds: [0, 1, 2, 3, 4, 5, 6, 7]\narms:\n  twin: {}\n")
    text = text.replace("data: {", "rewards: [format, ap]\n  data: {")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "POLL_S", 0.01)
        experiment = load_experiment(write_experiment(folder, text))
        return run_experiment(
            experiment, [0, 1, 5], folder / "out", folder, workers=2, launch=FakeCells()
        )


def test_every_cell_keeps_its_processor_seconds_and_shared_ones_count_once(
    outcome: dict[str, Any],
) -> None:
    assert outcome["cells"]["ap"]["1"]["processor_seconds"] == 90  # of two processes
    assert outcome["cells"]["twin"]["1"]["cell"] == outcome["cells"]["ap"]["1"]["cell"]
    assert processor_hours(outcome) == pytest.approx(3 * 4 * 90 / 3600)
    assert seeds_per_hour(outcome) == 10


def test_a_grid_that_is_short_of_seeds_says_so(outcome: dict[str, Any]) -> None:
    assert missing_seeds(outcome) == [2, 3, 4, 6, 7]
    assert "**Short of seeds: 3 of 8.**" in render_markdown(outcome)
    whole = outcome | {"seeds_wanted": [0, 1, 5]}
    assert "Short of seeds" not in render_markdown(whole)


def claim(*values: float, **more: Any) -> dict[str, Any]:
    return {"status": "undecided", "difference": {"values": list(values)}, **more}


@pytest.mark.parametrize(
    ("open_claim", "more", "decided"),
    [
        # Mean 1.2, spread 1: 1.26 spreads are seen with 7 seeds, 1.16 with 8.
        (claim(0.2, 1.2, 2.2), 4, False),
        (claim(0.2, 1.2, 2.2), 5, True),
        (claim(-2.2, -1.2, -0.2), 5, True),
        # Mean 0, spread .1: 10 seeds find them alike within .1005, 11 within .095.
        (claim(-0.1, 0.0, 0.1, within=0.1), 7, False),
        (claim(-0.1, 0.0, 0.1, within=0.1), 8, True),
        (claim(1.0), 100, False),  # one seed tells no spread
        ({"status": "undecided", "difference": None}, 100, False),
        (claim(0.2, 1.2, 2.2) | {"status": "held"}, 5, False),
    ],
)
def test_further_seeds_decide_what_they_could_see(
    open_claim: dict[str, Any], more: int, decided: bool
) -> None:
    assert would_decide(open_claim, more) is decided


def test_the_next_hour_is_told_in_words(outcome: dict[str, Any]) -> None:
    words = next_hour(outcome)
    assert words.startswith("One more processor hour is 10 more seeds. If the differences")
    assert words in render_markdown(outcome)
    assert next_hour(outcome | {"claims": []}) == ""


def test_cells_of_other_code_are_never_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from boxrl.experiments import cells

    monkeypatch.setattr(grid, "POLL_S", 0.01)
    experiment = load_experiment(write_experiment(tmp_path))
    counts = []
    for version in ("one", "other"):
        monkeypatch.setattr(cells, "code_version", lambda module, v=version: v + module)
        fake = FakeCells()
        run_experiment(experiment, [0], tmp_path / "out", tmp_path, workers=2, launch=fake)
        counts.append(len(fake.started))
    assert counts == [4, 4]


def test_a_changed_prompt_file_is_another_cell(tmp_path: Path) -> None:
    from boxrl.experiments.cells import build_cells

    text = EXPERIMENT.replace("ap: {rewards: [format, ap]}", "ap: {prompt: mine.yaml}")
    keys = []
    for instruction in ("Answer in <answer> </answer>.", "Think. Then <answer> </answer>."):
        (tmp_path / "mine.yaml").write_text(f"instruction: {instruction}\n")
        built = build_cells(load_experiment(write_experiment(tmp_path, text)), [0], tmp_path)
        keys.append({cell.arm: cell.key for cell in built})
    assert keys[0]["ap"] != keys[1]["ap"]
    assert keys[0]["ap50"] == keys[1]["ap50"]
