"""Spaces, quotes, percent signs and scripts of all kinds in every path of a chain."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")

from boxrl.config import dump_recipe
from tests.faults.campaign import Record
from tests.faults.warm import Warm
from tests.support.recipes import tiny_recipe

pytestmark = pytest.mark.slow

NAMES = ("with space", "größe-日本語-🦊", "50% #1 [x] {y} 'q' \"p\" & $HOME ;", "-dash", "e\u0301")


@pytest.mark.parametrize("name", NAMES)
def test_the_chain_in_such_a_folder(
    name: str, scene_folder: Path, tmp_path: Path, warm: Warm, record: Record
) -> None:
    home = tmp_path / name
    shutil.copytree(scene_folder, home / "scenes")
    samples, images = home / "scenes/samples.jsonl", home / "scenes/images"
    (home / "recipe.yaml").write_text(dump_recipe(tiny_recipe(home / "scenes", home / "run")))
    predictions = home / "evals/p.jsonl"
    scored = ["--samples", samples, "--predictions", predictions]
    for call in (
        ["data", "lint", samples, "--images", images],
        ["data", "convert", "vlmr1", "--annotations", home / "export.jsonl", "--images", images,
         "--out", home / "again.jsonl"],
        ["train", home / "recipe.yaml", "train.max_steps=1"],
        ["predict", "--samples", samples, "--images", images, "--model", home / "run/model",
         "--max-new-tokens", 32, "--out", predictions],
        ["evaluate", *scored, "--resamples", 10, "--out", home / "evaluation"],
        ["compare", home / "evaluation", home / "evaluation", "--resamples", 10],
        ["report", home / "run"],
    ):  # fmt: skip
        if "vlmr1" in call:
            export = ["data", "export", "vlmr1", samples, "--out", home / "export.jsonl"]
            assert warm.run(*export).status == 0
        outcome = warm.run(*call)
        assert outcome.status == 0, (call, outcome.err[-2000:])
    assert (home / "run/report.html").is_file()
    assert json.loads((home / "evaluation/metrics.json").read_text())["n"] == 12
    verbs = "lint, convert, train, predict, evaluate, compare, report"
    record("paths", verbs, f"a folder named {name}", outcome.line, [], 7, "calls")
