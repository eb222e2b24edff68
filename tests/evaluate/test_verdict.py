"""One sentence on what figures come to."""

from __future__ import annotations

from typing import Any

import pytest

from boxrl.evaluate import compare, evaluate
from boxrl.evaluate.verdict import (
    by_heart_verdict,
    change_verdict,
    evaluation_verdict,
    learning_verdict,
)
from tests.support.evaluations import PLAIN, A, answer, prediction, sample


def difference(low: float, high: float, key: str = "mAP") -> dict[str, Any]:
    row = {"a": 0.4, "b": 0.5, "difference": 0.1, "low": low, "high": high}
    return {"metrics": {key: row}, "flipped": {"gained": ["1", "2"], "lost": ["3"]}}


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.05, 0.15, "better; 2 samples gained, 1 lost"),
        (-0.2, -0.1, "worse; 2 samples gained, 1 lost"),
        (-0.1, 0.3, "no difference told apart, the interval holds 0; 2 samples"),
        (0.0, 0.3, "no difference told apart"),
    ],
)
def test_a_change_is_better_worse_or_not_told_apart(low: float, high: float, said: str) -> None:
    words = change_verdict(difference(low, high))
    assert words.startswith(f"mAP 0.400 -> 0.500 (+0.100, 95 % {low:+.3f} to {high:+.3f}): {said}")


def test_one_image_tells_no_difference_apart() -> None:
    one, other = (
        evaluate([sample("1", (A, "cat"))], {"1": prediction("1", said)}, PLAIN, resamples=0)
        for said in (answer(), answer((A, "cat")))
    )
    found = compare(one, other, resamples=20)
    row = found["metrics"]["mAP"]
    assert row["difference"] == pytest.approx(1)
    assert (row["low"], row["high"], row["better"]) == (None, None, 1)
    assert change_verdict(found).startswith(
        "mAP 0.000 -> 1.000 (+1.000): one image alone tells no difference apart; 1 sample gained"
    )


def test_questions_without_boxes_have_a_headline_of_their_own() -> None:
    assert change_verdict(difference(0.05, 0.15, "accuracy")).startswith("accuracy 0.400 ->")
    assert change_verdict(difference(0.05, 0.15, "tokens.mean")) == ""


@pytest.mark.parametrize(
    ("blind", "said"),
    [
        ({"beats_blind": True, "high": 0.3}, "; better than answering blind"),
        ({"beats_blind": False, "high": 0.3}, "; not significantly better than answering blind"),
        ({"beats_blind": False, "high": -0.1}, "; worse than answering blind"),
        (None, ""),
    ],
)
def test_a_run_is_held_against_answering_blind(blind: Any, said: str) -> None:
    metrics = {"mAP": 0.4, "intervals": {"mAP": [0.3, 0.5]}, "blind": {"beats_blind": blind}}
    assert evaluation_verdict(metrics) == f"mAP 0.400 (95 % 0.300 to 0.500){said}"


def test_a_training_says_how_far_it_came_and_whether_it_went_on() -> None:
    noise = [0.02 * (-1) ** step for step in range(40)]
    falling = [{"loss": 4 - 0.05 * step + noise[step]} for step in range(40)]
    ended = [{"loss": max(4 - 0.2 * step, 2) + noise[step]} for step in range(40)]
    found = learning_verdict(falling)
    assert found is not None and found.goes_on
    assert found.words == "on its own samples: loss 3.825 -> 2.225 in 40 steps"
    for steps in (ended, falling[:10]):  # noise is no fall, and few steps say nothing
        found = learning_verdict(steps)
        assert found is not None and not found.goes_on
    rising = [{"loss": 0.0, "reward": 0.01 * step} for step in range(40)]
    assert learning_verdict(rising) == (
        "on its own samples: reward 0.035 -> 0.355 in 40 steps",
        True,
    )
    some = learning_verdict([row | {"step": 10 * k} for k, row in enumerate(rising, start=1)])
    assert some is not None and some.words.endswith("in 400 steps")  # logged at every tenth
    assert learning_verdict([]) is None
    assert learning_verdict([{"loss": 1.0}]) is not None


def test_answers_known_by_heart_are_told_where_others_are_missed() -> None:
    by_heart = [{"loss": 0.03, "token_accuracy": 0.5}] * 9 + [{"token_accuracy": 0.99}] * 3
    said = by_heart_verdict(by_heart, {"mAP": 0.02})
    assert said.startswith("it knows its own answers by heart (token accuracy 0.990) and not")
    assert "(mAP 0.020)" in said
    assert by_heart_verdict(by_heart, {"mAP": 0.8}) == ""
    assert by_heart_verdict(by_heart[:9], {"mAP": 0.02}) == ""
    assert by_heart_verdict([{"reward": 1.0}], {"mAP": 0.02}) == ""
