"""`boxrl.evaluate` in Python: what it takes, and what it says of the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import boxrl
from boxrl.errors import DataError, UsageError
from boxrl.families import FAMILIES
from boxrl.prompts import render_target
from boxrl.types import Object
from tests.support.evaluations import QWEN, A, prediction, sample

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


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 40, "height": 30}, "leaves the image of 40 x 30"),
        ({"objects": (Object((0.0, 0.0, 5000.0, 50.0), "cat"),)}, "leaves the image"),
        ({"objects": (Object((60.0, 60.0, 30.0, 30.0), "cat"),)}, "has flipped corners"),
        ({"labels": "cat"}, "labels must be a list of non-empty strings, got 'cat'"),
        ({"task": "detect"}, "task 'detect'; expected one of detection"),
        ({"meta": {"others": [{"bbox": [9, 9, 3, 3], "label": "dog"}]}}, "meta.others: bbox"),
    ],
)
def test_samples_made_in_python_are_checked_as_those_of_a_file(
    wrong: dict[str, Any], message: str
) -> None:
    """Else a size the other way round, or a task of another name, is a plausible number."""
    with pytest.raises(DataError, match=r"samples\[1\]: .*" + message):
        boxrl.evaluate(
            [sample("0", (A, "cat")), replace(sample("1", (A, "cat")), **wrong)],
            {"0": "None", "1": "None"},
            family="plain",
        )


def test_samples_made_in_python_may_hold_lists_and_arrays() -> None:
    made = replace(
        sample("1"), labels=["cat", "dog"], objects=[Object(np.array(A, np.float32), "cat")]
    )
    answers = {"1": render_target(sample("1", (A, "cat")), FAMILIES["plain"])}
    assert boxrl.evaluate([made], answers, family="plain", resamples=0).metrics["f1@0.5"] == 1


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"finish_reason": "eos"}, "finish_reason 'eos'; expected stop, length or error"),
        ({"n_tokens": float("nan")}, "n_tokens must be an integer"),
        ({"input_size_wh": (0, 9)}, "input_size_wh must be"),
        ({"id": "2"}, "is the prediction of another sample, '2'"),
    ],
)
def test_predictions_made_in_python_are_checked_as_those_of_a_file(
    made: dict[str, Any], message: str
) -> None:
    """Else what was cut counts as whole, and the answer to one sample as that to another."""
    answers = {"1": replace(prediction("1", "None"), **made)}
    with pytest.raises(DataError, match=rf"predictions\['1'\]: {message}"):
        boxrl.evaluate([LARGE], answers, family="plain")


def test_a_draw_of_a_sample_may_stand_for_its_answer() -> None:
    drawn = replace(prediction("1#3", "None"), n_tokens=np.int64(9))
    metrics = boxrl.evaluate([LARGE], {"1": drawn}, family="plain", resamples=0).metrics
    assert metrics["tokens"]["mean"] == 9


@pytest.mark.parametrize("seed", [None, -1, "1"])
def test_intervals_are_drawn_by_a_seed_that_repeats_them(seed: Any) -> None:
    with pytest.raises(UsageError, match="expected a whole number, 0 or more"):
        boxrl.evaluate([LARGE], {"1": "None"}, family="plain", seed=seed, resamples=5)
