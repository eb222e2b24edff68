"""docs/findings.md says what the outcomes beside it say, to the figure."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import pytest
from scipy import stats

from boxrl.experiments.definition import Claim, experiments_folder, load_experiment

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "perf" / "findings.py"


@pytest.fixture(scope="module")
def findings() -> ModuleType:
    spec = importlib.util.spec_from_file_location("findings", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_figure_of_the_page_is_typed_by_hand(findings: ModuleType) -> None:
    assert findings.PAGE.read_text("utf-8") == findings.render_page()


def test_what_rewards_select_for_is_a_table_per_policy(findings: ModuleType) -> None:
    def trait(mean: float) -> dict[str, float]:
        return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "n": 300}

    rows = {"flat_groups": 0.254, "traits": {name: trait(0.0312) for name in findings.TRAITS}}
    rows["traits"]["recall"] = None
    probe = {"commit": "abc", "scenes": 300, "draws": 8}
    text = findings.render_probe(
        probe | {"policies": {"start": {"rewards": {"f1": rows, "sum": rows}}}}
    )
    assert text.startswith(
        "## What rewards select for\n\nNo training: 8 completions to each of 300"
    )
    assert (
        "| f1 | 25 % | +0.03 [+0.02, +0.04] | +0.03 [+0.02, +0.04] | +3.1 [+2.1, +4.1] | - | "
        "+3.1 [+2.1, +4.1] |\n"
    ) in text
    assert "| sum |" not in text


def test_every_picture_of_the_page_is_there(findings: ModuleType) -> None:
    outcomes, _ = findings.read_outcomes()
    links = [link for item in outcomes for link in findings.picture_links(item).values()]
    assert all((findings.PAGE.parent / link).is_file() for link in links)


def test_a_grid_at_full_scale_has_its_price(findings: ModuleType) -> None:
    # 500 steps of 25 s on 8 GPUs are 27.8 GPU hours; of 30 s, 33.3.
    assert findings.gpu_hours(3) == "83 to 100 GPU hours"


def test_the_first_screen_repeats_rows_of_the_table(findings: ModuleType) -> None:
    page = findings.PAGE.read_text("utf-8")
    screen = page.partition("## In eight lines")[2].partition("## How to read")[0]
    lines = [line for line in screen.splitlines() if line[:1].isdigit()]
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(lines) == 8
    for line in lines:
        intervals = re.findall(r"[+-][\d.]+ \[[^]]+\]", line)
        (section,) = re.findall(r"\[(\d\.\d [^]]+)\]\(#", line)
        assert f"\n## {section}\n" in page
        assert intervals
        assert all(any(interval in row for row in rows) for interval in intervals)


def test_a_line_of_the_first_screen_never_outlives_its_verdict(findings: ModuleType) -> None:
    outcomes, _ = findings.read_outcomes()
    for outcome in outcomes:
        if outcome["name"] == "cosine":
            for claim in outcome["claims"]:
                claim["status"] = "undecided"
    with pytest.raises(SystemExit, match="line 3 of SCREEN takes cosine, 'Beside AP, cosine raise"):
        findings.render_screen(outcomes)


def test_an_outcome_of_another_grid_stays_off_the_page(
    findings: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "RESULTS", tmp_path / "kept")
    experiment = load_experiment(experiments_folder() / "kl.yaml", check_files=False)
    tests = {name: test.model_dump(mode="json") for name, test in experiment.tests.items()}
    good = {"name": "kl", "overrides": [], "gave_up": [], "tests": tests,
            "cells": {arm: {} for arm in experiment.arms}}  # fmt: skip
    (tmp_path / "kl").mkdir()

    def keep(**changed: Any) -> None:
        (tmp_path / "kl" / "results.json").write_text(json.dumps(good | changed))
        findings.keep_results([tmp_path / "kl"])

    other = {**tests, "in_domain": {**tests["in_domain"], "scenes": 300}}
    for changed, reason in (
        ({"tests": other}, "is of another test set"),
        ({"overrides": ["train.max_steps=5"]}, r"was run with train\.max_steps=5"),
        ({"gave_up": ["50 of 100 steps"]}, "under a budget, with 50 of 100 steps"),
        ({"cells": {"beta 0": {}}}, "has other arms"),
    ):
        with pytest.raises(SystemExit, match=reason):
            keep(**changed)
    assert not list((tmp_path / "kept").iterdir())
    keep()
    assert (tmp_path / "kept" / "kl.json").is_file()


def claims_of(name: str) -> list[Claim]:
    return load_experiment(experiments_folder() / f"{name}.yaml", check_files=False).claims


def differences(cells: dict[str, Any], claim: Claim) -> list[float]:
    """Recomputed from the stored figures alone, seed by seed."""
    where = "learning" if claim.test == "learning" else f"{claim.test} {claim.way}"
    signed = [(arm, 1) for arm in claim.sides[0]] + [(arm, -1) for arm in claim.sides[1]]
    seeds = set.intersection(*(set(cells[arm]) for arm, _ in signed))
    found = []
    for seed in sorted(seeds, key=int):
        values = [(cells[arm][seed].get(where, {}).get(claim.figure), s) for arm, s in signed]
        if all(value is not None for value, _ in values):
            found.append(sum(sign * value for value, sign in values))
    return found


def p_value(values: list[float], within: float | None, failed: bool) -> float:
    if within is None:
        return float(stats.ttest_1samp(values, 0).pvalue)
    if failed:
        return float(stats.ttest_1samp(values, math.copysign(within, fmean(values))).pvalue)
    above = stats.ttest_1samp(values, -within, alternative="greater").pvalue
    return float(max(above, stats.ttest_1samp(values, within, alternative="less").pvalue))


def is_share(name: str, claim: Claim) -> bool:
    """Whether the page shows the claim's figure times 100."""
    columns = load_experiment(experiments_folder() / f"{name}.yaml", check_files=False).columns
    asked = (claim.figure, claim.test, claim.way)
    shown = [c.percent for c in columns if (c.figure, c.test, c.way) == asked]
    return shown[0] if shown else not claim.figure.startswith("tokens.")


def test_every_difference_interval_and_p_of_the_page_follows_from_the_stored_cells() -> None:
    rows = [line.split(" | ") for line in (ROOT / "docs/findings.md").read_text().splitlines()]
    shown = {(row[0].split()[-1], row[1]): row for row in rows if len(row) == 7}
    checked = 0
    for path in sorted((ROOT / "docs" / "findings").glob("*.json")):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        for claim in claims_of(path.stem):
            row, values = shown[path.stem, claim.says], differences(cells, claim)
            if len(values) < 2:
                assert "is not defined" in row[3]
                continue
            scale = 100 if is_share(path.stem, claim) else 1
            level = 0.95 if claim.within is None else 0.9
            low, high = (
                stats.t.interval(level, len(values) - 1, fmean(values), stats.sem(values))
                if len(set(values)) > 1
                else (fmean(values),) * 2
            )
            text = f": {scale * fmean(values):+.1f} [{scale * low:+.1f}, {scale * high:+.1f}] over"
            assert re.sub(r"-(0\.0)", r"+\1", text) in re.sub(r"-(0\.0)", r"+\1", row[3])
            if row[4] != "-":
                p = p_value(values, claim.within, row[2] == "**failed**")
                assert row[4] == ("<.001" if p < 0.001 else f"{p:.3f}".lstrip("0"))
                checked += 1
    assert checked >= 50
