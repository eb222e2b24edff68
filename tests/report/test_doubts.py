"""What makes figures doubtful stands beside them: another frame, answers that were not read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from boxrl.data.samples import read_samples
from boxrl.prompts import render_target
from boxrl.report import build_comparison
from boxrl.types import Sample
from tests.report.test_page import Page, report
from tests.support.report_runs import FAMILY, build_run, write_evaluation

QUESTION = "is this the right family, with the right pixel limits?"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("run"), samples=12)


def in_shares(sample: Sample) -> str:
    """The right boxes as shares of the image, which family qwen2.5-vl does not write."""
    size = (*sample.size_wh, *sample.size_wh)
    items = [
        {"bbox_2d": [v / s for v, s in zip(o.bbox, size, strict=True)], "label": o.label}
        for o in sample.objects
    ]
    return f"<think>a</think><answer>{json.dumps(items)}</answer>"


def with_answers(run: Path, copy: Path, answers: dict) -> Path:
    shutil.copytree(run, copy)
    samples = read_samples(copy / "data" / "test.jsonl")
    for name, answer in answers.items():
        write_evaluation(copy, name, samples, answer)
    return copy


def gold(sample: Sample) -> str:
    return render_target(sample, FAMILY)


def test_hints_of_another_frame_stand_under_the_figures_of_their_evaluation(
    run: Path, tmp_path: Path
) -> None:
    assert QUESTION not in report(run, tmp_path / "right.html").text
    one = with_answers(run, tmp_path / "one", {"after_greedy": in_shares})
    page = report(one, tmp_path / "one.html")
    hints = json.loads((one / "evals/after_greedy/metrics.json").read_text())["hints"]
    assert hints
    for hint in hints:
        assert page.text.count(f"after: {hint}") == 1
    alarms = [a for tag, a in page.elements if tag == "p" and a.get("class") == "note alarm"]
    assert len(alarms) >= len(hints)
    assert page.text.index(hints[0]) < page.text.index("Small numbers are 95 %")  # by the table


def test_a_hint_of_both_evaluations_is_told_once(run: Path, tmp_path: Path) -> None:
    answers = {"before_greedy": in_shares, "after_greedy": in_shares}
    page = report(with_answers(run, tmp_path / "both", answers), tmp_path / "both.html")
    assert page.text.count("before, after: 100% of the boxes have no coordinate above 1") == 1


def test_a_comparison_names_the_run(run: Path, tmp_path: Path) -> None:
    wrong = with_answers(run, tmp_path / "wrong", {"after_greedy": in_shares})
    build_comparison([run, wrong], tmp_path / "compared.html")
    assert (
        Page(tmp_path / "compared.html").text.count(
            "wrong: 100% of the boxes have no coordinate above 1"
        )
        == 1
    )


def test_answers_that_were_not_read_are_counted_with_their_reasons(
    run: Path, tmp_path: Path
) -> None:
    said = {
        "0": "<answer>a cat</answer>",
        "1": "<think>perhaps",
        "2": "None",
        "3": '<answer>[{"bbox_2d": [1, 2, 30, 40], "label": "cat"}, 5]</answer>',
    }
    first = {s.id: str(k) for k, s in enumerate(read_samples(run / "data/test.jsonl"))}
    answers = {"after_greedy": lambda s: said.get(first[s.id], gold(s))}
    page = report(with_answers(run, tmp_path / "run", answers), tmp_path / "page.html")
    words = (
        "1 not read: no JSON; 1 not read: open thought; 1 item of answers could not be used; "
        "2 of 12 stand in no answer tags."
    )
    assert page.text.count(words) == 1
