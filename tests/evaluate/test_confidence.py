"""What ranks boxes: five rules, and the calibration of those that say something."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from boxrl.errors import DataError, UsageError
from boxrl.evaluate import evaluate
from boxrl.families import FAMILIES
from tests.support.evaluations import PLAIN, A, B, C, prediction, sample


def scored(*items: tuple[list[float], float | None]) -> str:
    rows = [
        {"bbox_2d": box, "label": "cat"} | ({} if score is None else {"score": score})
        for box, score in items
    ]
    return f"<answer>{json.dumps(rows)}</answer>"


SAMPLE = sample("1", (A, "cat"), labels=("cat",))
WRONG_FIRST = prediction("1", scored((C, 0.1), (A, 0.9)))


def run(rule: Any, row: Any = WRONG_FIRST) -> Any:
    return evaluate([SAMPLE], {"1": row}, PLAIN, confidence=rule, resamples=0)


@pytest.mark.parametrize(
    ("rule", "row", "ap", "confidences"),
    [
        ("constant", WRONG_FIRST, 0.5, [1.0, 1.0]),  # the false box stands first
        ("order", WRONG_FIRST, 0.5, [1.0, 0.5]),
        ("written", WRONG_FIRST, 1.0, [0.1, 0.9]),
        ("verify", replace(WRONG_FIRST, box_verify=(0.2, 0.7)), 1.0, [0.2, 0.7]),
        ("written", prediction("1", scored((C, 0.4), (A, None))), 1.0, [0.4, 0.5]),
    ],
)
def test_rules_rank_boxes(rule: str, row: Any, ap: float, confidences: list[float]) -> None:
    found = run(rule, row)
    assert found.metrics["AP50"] == pytest.approx(ap)
    assert [box.confidence for box in found.rows[0].predictions] == pytest.approx(confidences)


OUTSIDE = [9000.0, 5.0, 9001.0, 9.0]


@pytest.mark.parametrize(
    ("rule", "more", "confidences"),
    [
        ("constant", {}, [1.0, 1.0]),
        ("written", {}, [0.8, 0.9]),
        ("verify", {"box_verify": (0.7,)}, [0.0, 0.7]),  # nobody could look at the first
        ("logprob", {"box_logprobs": (0.0,)}, [0.0, 1.0]),
    ],
)
def test_a_box_outside_of_the_image_is_wrong_under_every_rule(
    rule: str, more: dict[str, Any], confidences: list[float]
) -> None:
    row = replace(prediction("1", scored((OUTSIDE, 0.8), (A, 0.9))), **more)
    found = run(rule, row)
    assert [box.confidence for box in found.rows[0].predictions] == confidences
    assert [box.kind for box in found.rows[0].predictions] == ["background", "right"]
    assert found.metrics["precision@0.5"] == 0.5


def test_a_box_outside_of_the_image_is_no_answer_that_nothing_is_there() -> None:
    nothing = sample("1", labels=("cat",))
    row = prediction("1", scored((OUTSIDE, None)))
    found = evaluate([nothing], {"1": row}, PLAIN, resamples=0)
    assert found.metrics["negatives"]["accuracy"] == 0
    assert found.rows[0].f1 == 0


@pytest.mark.parametrize("score", ['"0.9"', "90", '"90%"'])
def test_scores_that_are_no_shares_rank_nothing(score: str) -> None:
    odd = f'{{"bbox_2d": {A}, "label": "cat", "score": {score}}}'
    with pytest.raises(UsageError, match="none of the 1 boxes states a score that is a number"):
        run("written", prediction("1", f"<answer>[{odd}]</answer>"))
    right = f'{{"bbox_2d": {C}, "label": "cat", "score": 0.9}}'
    found = run("written", prediction("1", f"<answer>[{odd}, {right}]</answer>"))
    assert "1 of 2 boxes state no score that is a number from 0 to 1" in str(found.metrics["hints"])


def test_scores_rank_where_tolerant_reading_finds_them_and_nothing_where_no_box_stands() -> None:
    text = str([{"bbox_2d": A, "label": "cat", "score": 0.3}])  # as Python quotes it
    row = prediction("1", f"<answer>{text}</answer>")
    found = evaluate(
        [SAMPLE], {"1": row}, PLAIN, confidence="written", reading="tolerant", resamples=0
    )
    assert [box.confidence for box in found.rows[0].predictions] == [0.3]
    assert run("written", prediction("1", "<answer>None</answer>")).metrics["mAP"] == 0


def test_calibration_stands_beside_confidences_that_say_something() -> None:
    assert "calibration" not in run("constant").metrics
    found = run("written").metrics["calibration"]
    assert found["D-ECE"] == pytest.approx((0.1 + 0.1) / 2)
    assert found["Brier"] == pytest.approx((0.1**2 + 0.1**2) / 2)
    assert [row["n"] for row in found["bins"]] == [1, 0, 0, 0, 0, 0, 0, 0, 1, 0]


def test_boxes_of_labels_that_nothing_asks_for_are_wrong_in_calibration_as_in_precision() -> None:
    """They were left out: F1 at the best threshold was 1, of all boxes 2/3."""
    invented = f'{{"bbox_2d": {C}, "label": "zebra", "score": 0.9}}'
    cat = f'{{"bbox_2d": {A}, "label": "cat", "score": 0.8}}'
    metrics = run("written", prediction("1", f"<answer>[{invented}, {cat}]</answer>")).metrics
    best = metrics["calibration"]["best"]
    assert (best["threshold"], best["precision"], best["f1"]) == (0.8, 0.5, metrics["f1@0.5"])
    assert metrics["calibration"]["D-ECE"] == pytest.approx(0.9 / 2 + 0.2 / 2)


@pytest.mark.parametrize(
    ("rule", "row", "error", "message"),
    [
        ("verify", WRONG_FIRST, DataError, "no box_verify for 2 boxes.*run boxrl verify"),
        ("verify", replace(WRONG_FIRST, box_verify=(0.5,)), DataError, "1 box_verify for 2 boxes"),
        ("logprob", WRONG_FIRST, DataError, "no box_logprobs for 2 boxes"),
        ("written", prediction("1", scored((A, None))), UsageError, "--prompt scored"),
    ],
)
def test_what_a_rule_lacks_is_told(rule: str, row: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        run(rule, row)


def test_a_family_without_json_writes_no_scores() -> None:
    with pytest.raises(UsageError, match="does not write boxes as JSON"):
        evaluate([SAMPLE], {"1": WRONG_FIRST}, FAMILIES["internvl"], confidence="written")


def test_nms_keeps_the_box_that_the_rule_holds_for_surest() -> None:
    near = [A[0] + 1, A[1], A[2], A[3]]
    row = prediction("1", scored((near, 0.2), (A, 0.9), (B, 0.3)))
    found = evaluate([SAMPLE], {"1": row}, PLAIN, confidence="written", nms=0.5, resamples=0)
    assert [box.bbox for box in found.rows[0].predictions] == [tuple(A), tuple(B)]


def test_the_report_draws_precision_over_confidence_where_confidences_differ() -> None:
    from boxrl.report.answers import tabulate_answers

    drawn = tabulate_answers("x", run("written").rows, 10)
    assert drawn.reliability is not None
    assert str(drawn.reliability).count("<circle") == 2
    assert "Detection ECE 0.100" in drawn.calibration
    assert tabulate_answers("x", run("constant").rows, 10).reliability is None
