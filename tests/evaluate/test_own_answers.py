"""A model's own answers as samples that teach it to state scores."""

from __future__ import annotations

import pytest

from boxrl.evaluate import evaluate
from boxrl.evaluate.own_answers import scored_samples
from boxrl.parsing import parse
from boxrl.parsing.scores import written_scores
from boxrl.prompts import PROMPTS, render_target
from tests.support.evaluations import PLAIN, A, C, answer, prediction, sample

SAMPLES = [sample("1", (A, "cat")), sample("2", (A, "cat")), sample("3"), sample("4", (A, "cat"))]
HALF = [A[0], A[1], A[2], A[3] * 0.8]
ANSWERS = {
    "1": prediction("1", answer((HALF, "cat"), (C, "dog"), (A, "dog"))),
    "2": prediction("2", "no idea"),
    "3": prediction("3", "<answer>None</answer>"),
    "4": prediction("4", answer((A, "cat"), (A, "cat"))),
}


def test_a_right_box_is_worth_its_iou_and_a_false_one_nothing() -> None:
    found = scored_samples(SAMPLES, evaluate(SAMPLES, ANSWERS, PLAIN, resamples=0))
    assert [item.id for item in found] == ["1", "3", "4"]  # an answer that nobody can read is none
    assert [item.meta["scores"] for item in found] == [[0.8, 0.0, 0.0], [], [1.0, 0.0]]
    assert [item.bbox for item in found[0].objects] == [tuple(HALF), tuple(C), tuple(A)]


def test_the_gold_answer_states_them_and_is_read_back() -> None:
    [first, *_] = scored_samples(SAMPLES, evaluate(SAMPLES, ANSWERS, PLAIN, resamples=0))
    text = render_target(first, PLAIN, prompt=PROMPTS["scored"])
    assert '"label": "cat", "score": 0.80}' in text
    parsed = parse(text, PLAIN, first.size_wh)
    assert written_scores(parsed) == pytest.approx((0.8, 0.0, 0.0))
