"""`boxrl.evaluate` in Python: what it takes, and what it says of the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import boxrl
from boxrl.errors import UsageError
from boxrl.prompts import render_target
from tests.support.evaluations import QWEN, A, sample

LARGE = replace(sample("1", (A, "cat")), width=1000, height=1000)


def test_the_frame_of_answers_in_memory_is_that_of_the_detector() -> None:
    """By its name alone a family has its released limits, whatever the model was loaded with."""
    small = replace(QWEN, max_pixels=200_000)
    texts = {"1": render_target(LARGE, small)}
    asked = (item for item in [LARGE])
    assert boxrl.evaluate(asked, texts, family=small, resamples=0).metrics["f1@0.5"] == 1
    assert boxrl.evaluate([LARGE], texts, family=QWEN.name, resamples=0).metrics["f1@0.5"] == 0


@pytest.mark.parametrize(
    ("samples", "answers", "message"),
    [
        ([LARGE], ["None"], "predictions: expected a path, or answers by sample id, got list"),
        ([LARGE], {"1": None}, "predictions.'1'.: expected the text of an answer, got NoneType"),
        ([{"id": "1"}], {"1": "None"}, "samples: expected boxrl.Sample, got dict"),
    ],
)
def test_what_is_neither_samples_nor_answers_is_named(
    samples: Any, answers: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        boxrl.evaluate(samples, answers, family="plain")
