"""The table that `boxrl benchmark run` prints of a benchmark's own figures."""

from __future__ import annotations

import pytest

from boxrl.benchmarks import build_benchmark
from boxrl.benchmarks.outcome import Outcome
from boxrl.cli.benchmark import figure_words, figures_grid, print_benchmark
from boxrl.evaluate import evaluate
from tests.support.evaluations import PLAIN, A, prediction, sample


def test_parts_of_equal_figures_are_columns() -> None:
    figures = [("full", "mAP", 0.5), ("full boxes 0", "pairs", 3),
               ("abs", "mAP", 0.75), ("abs boxes 0", "pairs", None)]  # fmt: skip
    assert figures_grid(figures) == (
        ["full", "abs"], [("mAP", [0.5, 0.75]), ("boxes 0 pairs", [3, None])],
    )  # fmt: skip


def test_figures_that_every_row_has_are_columns() -> None:
    figures = [("files color", "AP", 0.5), ("files color", "NMS-AP", 0.25),
               ("mean", "AP", 0.75), ("mean", "NMS-AP", 1.0)]  # fmt: skip
    assert figures_grid(figures) == (
        ["AP", "NMS-AP"], [("files color", [0.5, 0.25]), ("mean", [0.75, 1.0])],
    )  # fmt: skip


def test_other_figures_have_a_row_each() -> None:
    figures = [("accuracy", "val", 0.5), ("accuracy", "testA", 0.25), ("mean", "accuracy", 0.375)]
    assert figures_grid(figures) == (
        ["figure", "value"],
        [("accuracy", ["val", 0.5]), ("accuracy", ["testA", 0.25]), ("mean", ["accuracy", 0.375])],
    )


def test_rates_are_percentages_and_numbers_per_something_are_not() -> None:
    assert figure_words("mAP", 0.5) == "50.0"
    assert figure_words("0 boxes_per_pair", 0.6) == "0.60"
    assert figure_words("pairs", 12) == "12"
    assert figure_words("pairs", 0) == "0"  # which was shown as unknown
    assert figure_words("mAP", None) == figure_words("mAP_s", -1.0) == "-"


def test_what_makes_a_part_doubtful_stands_under_the_table_of_several(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It stood on the page alone: a wrong frame gave figures beside the published ones."""
    asked = [sample("1", (A, "cat"))]
    silent = evaluate(asked, {"1": prediction("1", "")}, PLAIN, resamples=0)
    gold = evaluate(asked, {"1": prediction("1", "None")}, PLAIN, resamples=0)
    refcoco = build_benchmark("refcoco")
    print_benchmark(Outcome(refcoco, {"mean": {"f1": 0.5}}, {"val": silent, "testA": gold}, {}))
    assert "hint: val: 1 of 1 completions hold no answer" in capsys.readouterr().out
