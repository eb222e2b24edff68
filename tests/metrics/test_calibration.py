"""Calibration against the reference implementations, and its laws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from boxrl.evaluate.coco_files import read_annotations, read_coco_results
from boxrl.metrics.average_precision import Predictions, Targets, select
from boxrl.metrics.calibration import (
    Judged,
    brier_score,
    detection_ece,
    judge_boxes,
    localization_aware_ace,
    localization_aware_ece,
    localization_recall_precision,
    reliability,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "calibration"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())


def judged(iou_threshold: float, crowds: bool = True) -> Judged:
    data = read_annotations(GOLDEN / "annotations.json")
    preds = read_coco_results(GOLDEN / "predictions.json", data)
    targets = data.targets if crowds else select(data.targets, ~data.targets.crowd)
    return judge_boxes(targets, preds, len(data.labels), iou_threshold)


def test_detection_ece_is_the_reference_s() -> None:
    found = judged(0.5)
    expected = EXPECTED["D-ECE (pooled, 10 bins, IoU .5)"]
    assert detection_ece(found) == pytest.approx(expected, abs=1e-9)
    assert detection_ece(found) == pytest.approx(EXPECTED["uq-detr 0.1.1 dece greedy 10 bins"])
    for row, known in zip(reliability(found), EXPECTED["D-ECE bins"], strict=True):
        assert row["n"] == known["n"]
        assert row["confidence"] == pytest.approx(known["mean_score"], abs=1e-6)
        assert row["precision"] == pytest.approx(known["precision"], abs=1e-6)
    brier = EXPECTED["Brier score of the same flags"]
    assert brier_score(found) == pytest.approx(brier, abs=1e-9)


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5])
def test_localization_aware_errors_are_the_reference_s(threshold: float) -> None:
    found = judged(threshold)
    laece = EXPECTED[f"LaECE (per class, 25 bins, IoU {threshold})"]
    laace = EXPECTED[f"LaACE (per class, no bins, IoU {threshold})"]
    assert localization_aware_ece(found) == pytest.approx(laece, abs=1e-9)
    # the reference's LaACE, unlike its LaECE, counts boxes in crowd regions as false
    without = judged(threshold, crowds=False)
    assert localization_aware_ace(without) == pytest.approx(laace, abs=1e-9)
    if threshold == 0:
        exact = EXPECTED["true positives at IoU 0 whose IoU is exactly 0"]
        assert int((found.found == 0).sum()) == exact


@pytest.mark.parametrize(
    ("threshold", "key"), [(0.5, "LRP at IoU .5, no score threshold"), (0.0, "LRP at IoU 0")]
)
def test_lrp_is_the_reference_s(threshold: float, key: str) -> None:
    found = localization_recall_precision(judged(threshold))
    assert found == pytest.approx(EXPECTED[key]["lrp"], abs=1e-9)


def table(confidence: list[float], hits: list[bool]) -> Judged:
    found = np.where(hits, 1.0, np.nan)
    n = len(hits)
    return Judged(np.array(confidence), np.zeros(n, dtype=int), found, np.array([n]), 0.5)


def test_a_confidence_that_says_how_often_it_is_right_has_no_error() -> None:
    assert detection_ece(table([0.75] * 4, [True, True, True, False])) == pytest.approx(0)
    assert detection_ece(table([1.0] * 4, [True, False, False, False])) == pytest.approx(0.75)
    assert localization_recall_precision(table([1.0] * 2, [True, True])) == 0.0


def test_nothing_found_has_no_calibration() -> None:
    none = table([], [])
    assert detection_ece(none) is brier_score(none) is None
    assert localization_aware_ece(none) is localization_recall_precision(none) is None


def test_a_box_in_a_crowd_region_is_left_out() -> None:
    boxes = np.array([[0.0, 0, 10, 10]])
    where = np.array([0])
    targets = Targets(where, where, boxes * 10, np.array([True]), np.array([1e4]))
    assert not len(judge_boxes(targets, Predictions(where, where, boxes, np.ones(1)), 1).found)
