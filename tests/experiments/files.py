"""A small experiment file, and a stand-in for the process of a cell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from boxrl.experiments.cells import Cell

EXPERIMENT = """\
finding: "4.1"
title: Rewards
question: Which reward?
base:
  name: base
  method: grpo
  model: tiny
  data: {synthetic: {train: 2}}
  train: {max_steps: 10}
  engine: {device: cpu, threads: 1}
arms:
  untrained: {train: false}
  ap: {rewards: [format, ap]}
  ap50: {rewards: [format, ap50], train.beta: 0.04}
  later: {after: ap, rewards: [format, f1]}
tests:
  in_domain: {scenes: 2, ways: [greedy, sampled]}
columns:
  - {title: mAP, figure: mAP, test: in_domain}
  - {title: tokens, figure: tokens.mean, test: in_domain, percent: false}
  - {title: format takes off, figure: format.half_rise, test: learning, percent: false}
published_from: the VLM-R1-OVD blog, one run each.
published:
  ap: {mAP: 27.4}
  ap50: {mAP: 27.1}
claims:
  - {says: "AP beats AP50.", figure: mAP, test: in_domain, higher: ap, lower: ap50}
  - {says: "AP50 is longer.", figure: tokens.mean, test: in_domain, higher: ap50, lower: ap}
  - {says: "AP equals later.", figure: mAP, test: in_domain, same: [ap, later], within: 0.01}
"""

WORK = """
import json, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
cell = json.loads((folder / "cell.json").read_text())
if "ap50" in cell["recipe"] and os.environ.get("FAIL"):
    sys.exit("boxrl: no luck")
steps = int(cell["recipe"].split("max_steps: ")[1].split()[0])
seed = int(cell["recipe"].split("seed: ")[1].split()[0])
good = 0.4 if "ap50" in cell["recipe"] else 0.5
if cell["trained"]:
    run = folder / "run"
    run.mkdir(exist_ok=True)
    rows = [
        {"step": s, "time_s": 2.0 * s, "rewards": {"format": float(s > 5), "ap": 0.5}}
        for s in range(1, steps + 1)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
    (run / "run.json").write_text(json.dumps({"status": "done"}))
for test in cell["tests"]:
    path = pathlib.Path(test["folder"])
    path.mkdir(parents=True, exist_ok=True)
    figures = {
        "n": 2, "mAP": good + seed / 100, "tokens": {"mean": 20.0 + seed * good}, "seconds": 1.0,
        "blind": {"mAP": 0.3}, "protocol": {"prompt": "standard"},
    }
    (path / "metrics.json").write_text(json.dumps(figures))
(folder / "spent.jsonl").write_text('{"cpu": 60.0}\\n{"cpu": 30.0}\\n')
"""
"""What a cell's process leaves behind: mAP .5, .4 with ap50, and .01 more with every seed."""


class FakeCells:
    """Starts `WORK` in place of training, and remembers the cells."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def __call__(self, cell: Cell) -> subprocess.Popen[bytes]:
        self.started.append(f"{cell.arm} {cell.seed}")
        with (cell.folder / "log.txt").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-S", "-c", WORK, str(cell.folder)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )


def write_experiment(folder: Path, text: str = EXPERIMENT) -> Path:
    path = folder / "small.yaml"
    path.write_text(text)
    return path
