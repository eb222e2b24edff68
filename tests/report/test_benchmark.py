"""The page of a benchmark leads with its table: this run, then what is published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.data.predictions import Prediction, PredictionsFile
from boxrl.errors import DataError
from boxrl.prompts import render_target
from boxrl.report.benchmark import read_benchmark
from boxrl.report.reading import read_run
from tests.data.formats.test_formats import d3_pickles
from tests.support.archives import write_json
from tests.support.evaluations import PLAIN


@pytest.fixture
def page(tmp_path: Path) -> str:
    from boxrl.benchmarks import build_benchmark
    from boxrl.benchmarks.samples import build_samples

    (tmp_path / "d3_pkl").mkdir()
    (tmp_path / "d3_images").mkdir()
    d3_pickles(tmp_path / "d3_pkl")
    file = PredictionsFile(tmp_path / "r.jsonl", {"family": "plain", "model": "<b>mine"})
    samples = build_samples(build_benchmark("d3"), tmp_path).samples
    file.append([Prediction(s.id, render_target(s, PLAIN), 9, "stop") for s in samples])
    call = ["benchmark", "run", "d3", f"--data-root={tmp_path}", f"--out={tmp_path / 'out'}"]
    assert main([*call, f"--predictions={tmp_path / 'r.jsonl'}", "--resamples=10"]) == 0
    return (tmp_path / "out" / "report.html").read_text("utf-8")


def test_the_headline_stands_first_beside_published_rows(page: str) -> None:
    start, end = page.index('<section id="benchmark">'), page.index('<section id="metrics">')
    assert start < end
    section = page[start:end]
    for words in ("FULL", "PRES", "ABS", "APE-L(D)", "intra, every score 1"):
        assert words in section
    assert "&lt;b&gt;mine" in section
    assert section.count("<td>100.0</td>") == 3  # one image has targets: no interval
    assert '<p class="headline">FULL 100.0, PRES 100.0, ABS 100.0</p>' in page


@pytest.mark.usefixtures("page")
def test_a_table_of_parts_that_were_evaluated_anew_is_left_out(tmp_path: Path) -> None:
    run = tmp_path / "out"
    assert read_run(run).benchmark is not None
    (metrics,) = run.glob("evals/*/metrics.json")
    write_json(metrics, json.loads(metrics.read_text()) | {"mAP": 0.25})
    found = read_run(run)
    assert found.benchmark is None
    assert "benchmark.json is of other figures than d3 has now" in str(found.missing)


@pytest.mark.parametrize(
    "table",
    [{}, {"columns": ["a"], "rows": [["x", "y"]]}, {"columns": [], "rows": []}, [1],
     {"columns": ["a"], "rows": [["x"]] * 500}],
)  # fmt: skip
def test_a_table_that_is_none_is_told(table: object, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run boxrl benchmark run again"):
        read_benchmark(write_json(tmp_path / "benchmark.json", {"table": table}))


def test_words_and_numbers_are_told_apart(tmp_path: Path) -> None:
    table = {"title": "t", "columns": ["model", "mAP", "remark"], "rows": [["m", 1.5, None]]}
    found = read_benchmark(write_json(tmp_path / "benchmark.json", {"table": table}))
    assert found is not None
    assert found.words == (True, False, True)
    empty = read_benchmark(write_json(tmp_path / "b.json", {"table": table | {"rows": []}}))
    assert empty is not None
    assert empty.words == (True, True, True)


def test_a_run_of_an_earlier_version_has_no_table(tmp_path: Path) -> None:
    assert read_benchmark(write_json(tmp_path / "benchmark.json", {"summary": {}})) is None
