"""Several runs on one page, and folders that hold one evaluation only."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.data.files import write_json
from boxrl.data.samples import read_samples
from boxrl.errors import UsageError
from boxrl.prompts import render_target
from boxrl.report import build_comparison, build_report
from boxrl.report.reading import read_run
from tests.report.test_page import Page
from tests.support.report_runs import EVALS, FAMILY, build_run, write_evaluation


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs over the same samples; the second answers one evaluation without fault."""
    folder = tmp_path_factory.mktemp("runs")
    first = build_run(folder / "first", samples=10)
    second = shutil.copytree(first, folder / "second")
    samples = read_samples(second / "data" / "test.jsonl")
    write_evaluation(second, "before_sampled", samples, lambda s: render_target(s, FAMILY))
    for run in (first, second):
        facts = json.loads((run / "run.json").read_text())
        write_json(run / "run.json", facts | {"name": run.name})
    return [first, second]


def test_evaluations_of_one_name_stand_side_by_side(runs: list[Path], tmp_path: Path) -> None:
    build_comparison(runs, tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    titles = [one["title"] for one in page.payload["evaluations"]]
    assert titles[:2] == ["first: after, greedy", "second: after, greedy"]  # what was trained
    assert page.payload["views"] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert len(page.payload["samples"]) == 10
    assert all(
        one["rows"].keys() == {str(n) for n in range(10)} for one in page.payload["evaluations"]
    )
    assert "Reward f1" in page.text


def test_folders_of_one_evaluation_each_are_paired_whatever_their_names(
    runs: list[Path], tmp_path: Path
) -> None:
    build_comparison([runs[1] / "evals" / name for name in EVALS[:2]], tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert [one["title"] for one in page.payload["evaluations"]] == list(EVALS[:2])
    assert page.payload["views"] == [[0, 1]]
    assert f"{EVALS[0]} to {EVALS[1]}" in page.text and "by one only: " in page.text


def test_evaluations_of_one_name_are_named_by_their_runs(runs: list[Path], tmp_path: Path) -> None:
    folders = [run / "evals" / "after_greedy" for run in runs]
    build_comparison(folders, tmp_path / "report.html")
    titles = [one["title"] for one in Page(tmp_path / "report.html").payload["evaluations"]]
    assert titles == ["first", "second"]


def test_gains_and_losses_are_counted(runs: list[Path], tmp_path: Path) -> None:
    build_comparison(runs, tmp_path / "report.html")
    rows = read_run(runs[0]).evaluations["before_sampled"].rows
    faulty = sum(not row.is_faultless for row in rows)
    text = " ".join(Page(tmp_path / "report.html").text.split())
    assert faulty > 0
    assert f"by one only: {faulty} gained, 0 lost" in text
    assert "by one only: 0 gained, 0 lost" in text


def test_runs_over_different_samples_are_not_paired(runs: list[Path], tmp_path: Path) -> None:
    other = build_run(tmp_path / "other", samples=6)
    build_comparison([runs[0], other], tmp_path / "report.html")
    text = Page(tmp_path / "report.html").text
    assert text.count("samples cannot be paired") == 1
    assert "paired by sample" not in text
    assert "no difference told apart" not in text  # said of figures that nothing had compared
    assert "no paired interval, nothing told apart" in text


def test_compare_pairs_runs_and_writes_the_page(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    command = ["compare", *map(str, runs), "--resamples=20"]
    assert main([*command, "--out", str(page)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("10 samples; p of the sign test") == 4
    assert f"report: {page}" in printed
    assert "first and second" in page.read_text("utf-8")
    assert main([*command, "--json", "--out", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == set(EVALS)
    assert found["before_sampled"]["flipped"]["lost"] == []
    assert len(found["before_sampled"]["flipped"]["gained"]) > 0
    mean = found["before_sampled"]["metrics"]["mAP"]  # the page's were of another seed and number
    assert f"{mean['low']:+.3f} to {mean['high']:+.3f}" in Page(page).text


def test_a_forced_comparison_is_forced_on_the_page_too(runs: list[Path], tmp_path: Path) -> None:
    other = shutil.copytree(runs[1], tmp_path / "run") / "evals" / "before_sampled"
    metrics = json.loads((other / "metrics.json").read_text())
    metrics["protocol"] |= {"nms": 0.5}
    write_json(other / "metrics.json", metrics)
    command = ["compare", f"{runs[1] / 'evals' / other.name}", str(other), "--resamples=20"]
    command.append(f"--out={tmp_path / 'p'}")
    assert main(command) == 2
    assert main([*command, "--force"]) == 0
    text = Page(tmp_path / "p").text
    assert "protocol differs: nms is None and 0.5" in text
    assert "cannot be paired" not in text


def test_compare_of_three_runs_pairs_each_with_the_first(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three = [*map(str, runs), str(runs[0])]
    page = tmp_path / "page.html"
    assert main(["compare", *three, "--resamples=20", "--out", str(page)]) == 0
    assert capsys.readouterr().out.count("p of the sign test") == 8
    assert "3 runs" in page.read_text("utf-8")
    assert main(["compare", *three, "--json"]) == 2
    assert "compare takes two runs with --json, got 3" in capsys.readouterr().err
    assert main(["compare", three[0]]) == 2
    assert "compare takes at least two runs, got 1" in capsys.readouterr().err


def test_compare_of_runs_that_share_no_evaluation_names_both(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(runs[0] / "evals" / "after_greedy", other / "evals" / "val")
    assert main(["compare", str(runs[0]), str(other)]) == 2
    said = capsys.readouterr().err
    assert "share no evaluation" in said
    assert "after_greedy" in said and "and val" in said


def test_one_run_is_no_comparison(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least two"):
        build_comparison(runs[:1], tmp_path / "report.html")


def test_command_takes_several_runs(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert main(["report", *map(str, runs), "--out", str(out)]) == 0
    assert "first and second" in out.read_text("utf-8")


def test_folder_of_one_evaluation_is_a_run(runs: list[Path], tmp_path: Path) -> None:
    folder = shutil.copytree(runs[0] / "evals" / "after_greedy", tmp_path / "lone")
    meta = json.loads((folder / "predictions.meta.json").read_text())
    meta |= {key: str(runs[0] / meta[key]) for key in ("samples", "images")}
    write_json(folder / "predictions.meta.json", meta)
    build_report(folder, tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert [one["title"] for one in page.payload["evaluations"]] == ["lone"]
    assert all(url for url in page.payload["pictures"])
    assert "Not everything is here" not in page.text
    (folder / "predictions.jsonl").unlink()
    build_report(folder, tmp_path / "report.html")
    assert "predictions.jsonl is missing" in Page(tmp_path / "report.html").text
