"""What a cell's process leaves behind: every way of answering, by the model that it is of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

from boxrl.experiments import work  # noqa: E402
from boxrl.experiments.cells import build_cells  # noqa: E402
from boxrl.experiments.definition import load_experiment  # noqa: E402

from .files import write_experiment  # noqa: E402

TEXT = """\
finding: "6.1"
title: Small
question: Does it run?
base:
  name: base
  method: sft
  model: tiny
  data: {synthetic: {train: 8}}
  train: {max_steps: 2, learning_rate: 1.0e-2, prompts_per_step: 4, max_completion_length: 24,
          average_last: 1.0}
  engine: {device: cpu, threads: 1, dtype: float32}
arms:
  untrained: {train: false}
  sft: {}
tests:
  scenes: {scenes: 4, ways: [greedy, averaged, drift]}
columns:
  - {title: drift, figure: drift, test: scenes, way: drift, percent: false}
"""


def test_ways_are_answered_by_the_last_weights_their_mean_and_against_the_start(
    tmp_path: Path,
) -> None:
    cells = build_cells(load_experiment(write_experiment(tmp_path, TEXT)), [0], tmp_path / "cache")
    found = {}
    for cell in cells:
        cell.folder.mkdir(parents=True, exist_ok=True)
        cell.write()
        assert work.main(cell.folder) == 0
        assert cell.is_done()
        assert cell.spent() > 0
        for test in cell.tests:
            metrics = json.loads((cell.test_folder(test) / "metrics.json").read_text())
            answers = cell.test_folder(test) / "predictions.jsonl"
            found[cell.arm, test.way] = metrics, answers.read_text() if answers.is_file() else ""
    assert found["untrained", "drift"][0]["drift"] == 0
    assert found["sft", "drift"][0]["drift"] > 1  # thousandths of a nat
    assert found["untrained", "averaged"][1] == found["untrained", "greedy"][1]
    assert (tmp_path / "cache" / "cells" / cells[1].key / "run" / "average").is_dir()
    assert found["sft", "averaged"][0]["n"] == 4
