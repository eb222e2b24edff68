"""Habits of answers, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from boxrl.evaluate.behaviour import describe_behaviour
from boxrl.metrics.behaviour import find_habits
from boxrl.metrics.detection import Counts
from boxrl.types import NOTHING, Detections
from tests.support.evaluations import A, B, C, answer, prediction, run, sample

WHOLE = [0.0, 0.0, 100.0, 99.0]


def test_hand_computed_shares() -> None:
    near = [A[0], A[1], A[2], A[3] - 1]
    said = [
        (sample("1", (A, "cat"), labels=("cat", "dog")),
         answer((A, "cat"), (A, "cat"), (A, "cat"), (near, "cat"), (B, "dog"))),
        (sample("2", (C, "cat"), labels=("cat",)), answer((WHOLE, "cat"), (C, "cat"))),
    ]  # fmt: skip
    metrics = run([(one, prediction(one.id, text)) for one, text in said]).metrics
    found = metrics["behaviour"]
    assert found["exact_duplicates"] == 2 / 7
    assert found["near_duplicates"] == 1 / 7
    assert found["whole_image"] == 1 / 7
    assert found["repeating"] == 1 / 2  # the first box three times in a row
    assert found["absent_named"] == 1.0  # the dog
    assert found["f1@0.5_without"] == 1.0
    assert metrics["f1@0.5"] == pytest.approx(4 / 9)
    words = describe_behaviour(found)
    assert words.startswith("28.6% of the boxes are exact duplicates; 14.3% near duplicates")
    assert words.endswith("F1 @0.5 without such boxes 1.000")


def test_a_target_as_large_as_the_image_is_no_fault() -> None:
    whole = Detections(np.array([WHOLE]), ("cat",))
    found = find_habits(whole, whole, ("cat",), (100, 100), [True])
    assert (found.whole, found.without) == (0, Counts(1, 0, 0))


def test_labels_of_which_more_may_be_there_are_not_absent() -> None:
    one = Detections(np.array([A]), ("cat",))
    assert find_habits(one, NOTHING, ("cat",), (100, 100), [False]).absent_named == 1
    assert find_habits(one, NOTHING, ("cat",), (100, 100), [False], ("Cat",)).absent_asked == 0


def test_nothing_has_no_habits() -> None:
    metrics = run([(sample("1", (A, "cat")), prediction("1", "<answer>None</answer>"))]).metrics
    assert metrics["behaviour"]["exact_duplicates"] is None
    assert metrics["behaviour"]["repeating"] == 0


def test_several_draws_say_how_they_behave_beside_the_best_of_them() -> None:
    from boxrl.evaluate.pass_at_k import evaluate_draws
    from tests.support.evaluations import PLAIN

    asked = sample("1", (A, "cat"), labels=("cat",))
    texts = answer((A, "cat")), answer((A, "cat"), (A, "cat"))
    draws = {f"1#{k}": prediction(f"1#{k}", text) for k, text in enumerate(texts)}
    figures = evaluate_draws([asked], draws, PLAIN)
    assert figures["pass@k"]["2"] == 1.0
    assert figures["behaviour"]["exact_duplicates"] == 1 / 3
