"""A control is the same run but for what it hides; else nothing is said of the two."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from boxrl.errors import DataError, UsageError
from boxrl.evaluate import Evaluation, evaluate
from boxrl.evaluate.controls import compare_controls
from tests.support.evaluations import (
    PLAIN,
    QWEN,
    SCENES,
    A,
    answer,
    prediction,
    sample,
    spoil,
)

ANSWERS = spoil(SCENES, 0.5, 1)


def run(answers: Any = ANSWERS, **settings: Any) -> Evaluation:
    asked = {"prompt": "standard", "family": QWEN.name} | settings
    return evaluate(SCENES, answers, QWEN, settings=asked, errors="skip", resamples=20)


def test_a_control_that_left_out_other_samples_is_refused() -> None:
    """Images were drawn for either side by itself: 40 equal answers, one failed, gave +-0.2."""
    broken = {SCENES[3].id: replace(ANSWERS[SCENES[3].id], finish_reason="error", error="x")}
    both = ANSWERS | broken
    (same,) = compare_controls(run(both), [run(both, control="blank_image")], 0, 20)
    assert (same["beats_blind"]["low"], same["beats_blind"]["high"]) == (0, 0)
    message = f"control blank_image: 1 samples ended in error on one side only .*{SCENES[3].id}"
    with pytest.raises(DataError, match=message):
        compare_controls(run(), [run(both, control="blank_image")], 0, 20)


def test_a_control_of_another_protocol_is_refused() -> None:
    with pytest.raises(UsageError, match="prompt: 'standard' and 'rec'"):
        compare_controls(run(), [run(prompt="rec", control="shuffled_labels")], 0, 20)


def test_grounding_under_other_words_is_not_worse_than_blind() -> None:
    """`man` for `the man in red`, always on the spot, was worse than answering blind."""
    asked = [
        sample(f"{k}", (A, "the man in red"), labels=("the man in red",), task="grounding")
        for k in range(4)
    ]
    said = {item.id: prediction(item.id, answer((A, "man"))) for item in asked}
    metrics = evaluate(asked, said, PLAIN, resamples=20).metrics
    verdict = metrics["blind"]["beats_blind"]
    assert (metrics["grounding_accuracy@0.5"], metrics["f1"]) == (1.0, 0.0)
    assert (verdict["metric"], verdict["difference"]) == ("grounding_accuracy@0.5", 0.0)
    assert [hint.partition(" (")[0] for hint in metrics["hints"]] == [
        "4 boxes of grounding answers bear another label than the expression"
    ]
