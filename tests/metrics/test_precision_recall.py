"""Resampled AP is COCO's AP: at the data set itself, and of a data set with images repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boxrl.evaluate.coco_files import read_annotations, read_coco_results
from boxrl.metrics import average_precision
from boxrl.metrics.average_precision import (
    Predictions,
    Targets,
    match_boxes,
    precision_by_recall,
)
from boxrl.metrics.intervals import interval, resample, resample_ratio
from boxrl.metrics.order_free import order_free_precision
from boxrl.metrics.precision_recall import Curves, match_records
from tests.support.coco_data import pycocotools_evaluation, pycocotools_statistics, random_coco


def tables(folder: Path, dataset: Any, results: Any) -> tuple[Targets, Predictions, int, int]:
    """Targets, predictions, number of images and of labels."""
    (folder / "a.json").write_text(json.dumps(dataset))
    (folder / "p.json").write_text(json.dumps(results))
    data = read_annotations(folder / "a.json")
    preds = read_coco_results(folder / "p.json", data)
    return data.targets, preds, len(data.image_ids), len(data.labels)


def curves(targets: Targets, preds: Predictions, n_images: int, n_labels: int) -> Curves:
    return Curves(match_records(match_boxes(targets, preds, n_images, n_labels)))


@pytest.mark.parametrize("seed", range(6))
def test_every_image_once_is_coco(tmp_path: Path, seed: int) -> None:
    dataset, results = random_coco(np.random.default_rng(seed), 20, 4, tied=seed % 2 == 0)
    expected = pycocotools_statistics(dataset, results)
    once = curves(*tables(tmp_path, dataset, results))
    precision = once.precision(np.ones(20, dtype=int))
    found = [precision.mean(), precision[0], precision[5]]
    assert found == pytest.approx([expected[k] for k in ("mAP", "AP50", "AP75")], abs=1e-12)
    recall = once.recall(np.ones(20, dtype=int)).mean()
    assert recall == pytest.approx(expected["AR100"], abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_curves_by_label_are_pycocotools_to_the_last_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(average_precision, "LABELS_AT_ONCE", 3)
    dataset, results = random_coco(np.random.default_rng(seed), 20, 5, tied=seed % 2 == 0)
    dataset["categories"].append({"id": 6, "name": "nowhere"})
    precision = pycocotools_evaluation(dataset, results).eval["precision"][0, :, :, 0, -1]
    found = precision_by_recall(*tables(tmp_path, dataset, results))
    assert found.shape == (6, 101)
    np.testing.assert_array_equal(found, np.where(precision < 0, np.nan, precision).T)
    assert np.isnan(found[5]).all() and 0 < found[:5].mean() < 1


@pytest.mark.parametrize("seed", range(4))
def test_left_out_and_repeated_images_are_coco_on_such_a_data_set(
    tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    dataset, results = random_coco(rng, 15, 3, tied=False)
    for place, row in enumerate(rng.permutation(len(results)).tolist()):
        results[row]["score"] = (place + 1) / len(results)  # no ties: copies stay neighbours
    weights = rng.integers(0, 4, 15)
    repeated: dict[str, Any] = {**dataset, "images": [], "annotations": []}
    found: list[dict[str, Any]] = []
    for image, weight in enumerate(weights.tolist(), start=1):
        for _ in range(weight):
            copy = len(repeated["images"]) + 1
            repeated["images"].append({"id": copy})
            for row in dataset["annotations"]:
                if row["image_id"] == image:
                    new = {"id": len(repeated["annotations"]) + 1, "image_id": copy}
                    repeated["annotations"].append(row | new)
            found += [row | {"image_id": copy} for row in results if row["image_id"] == image]
    expected = pycocotools_statistics(repeated, found)
    precision = curves(*tables(tmp_path, dataset, results)).precision(weights)
    assert precision.mean() == pytest.approx(expected["mAP"], abs=1e-9)
    assert precision[0] == pytest.approx(expected["AP50"], abs=1e-9)


def test_labels_evaluated_in_parts_score_as_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, results = random_coco(np.random.default_rng(0), 15, 7, tied=False)
    table = tables(tmp_path, dataset, results)
    at_once = average_precision.statistics_by_label(*table)
    monkeypatch.setattr(average_precision, "LABELS_AT_ONCE", 3)
    in_parts = average_precision.statistics_by_label(*table)
    np.testing.assert_allclose(at_once, in_parts, atol=1e-12)  # NaN in the same places
    assert np.nanmax(at_once) > 0


def test_a_resample_without_targets_has_no_ap(tmp_path: Path) -> None:
    dataset, results = random_coco(np.random.default_rng(0), 5, 2, tied=True)
    nothing = curves(*tables(tmp_path, dataset, results)).precision(np.zeros(5, dtype=int))
    assert np.isnan(nothing).all()


@pytest.mark.parametrize("seed", range(6))
def test_order_free_ap_ignores_the_order_of_equal_confidences(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dataset, results = random_coco(rng, 15, 3, tied=seed % 2 == 0)
    values = []
    for _ in range(5):
        targets, preds, _, n_labels = tables(tmp_path, dataset, results)
        values.append(order_free_precision(targets, preds, n_labels))
        rng.shuffle(results)
        rng.shuffle(dataset["annotations"])
    assert values == pytest.approx([values[0]] * 5, abs=1e-12)
    assert 0 < (values[0] or 0) < 1


def test_order_free_ap_of_equal_confidences_is_precision_times_recall_points(
    tmp_path: Path,
) -> None:
    box, far = [0, 0, 50, 50], [200, 200, 50, 50]
    annotations = [
        {"id": k, "image_id": 1, "category_id": 1, "bbox": b, "area": 2500, "iscrowd": 0}
        for k, b in enumerate((box, far, [400, 0, 50, 50]), start=1)
    ]
    dataset = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": annotations,
    }
    found = [box, far, [0, 300, 50, 50], [100, 300, 50, 50]]
    results = [{"image_id": 1, "category_id": 1, "bbox": b, "score": 1.0} for b in found]
    targets, preds, _, n_labels = tables(tmp_path, dataset, results)
    # precision 2/4; recall 2/3 reaches the points 0, .01, ... .66
    assert order_free_precision(targets, preds, n_labels) == pytest.approx(0.5 * 67 / 101)


def test_order_free_ap_equals_coco_where_confidences_differ_and_boxes_lie_apart(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(3)
    dataset, results = random_coco(rng, 30, 2, tied=False)
    for place, row in enumerate(results):
        row["score"] = (place + 1) / len(results)
    for number, row in enumerate(dataset["annotations"]):  # no two targets of a label near
        row["category_id"], row["iscrowd"] = number + 1, 0
    labels = [{"id": k + 1, "name": str(k)} for k in range(len(dataset["annotations"]))]
    dataset["categories"] = labels
    for row in results:
        row["category_id"] = 1 + row["category_id"] % 5
    targets, preds, _, n_labels = tables(tmp_path, dataset, results)
    expected = pycocotools_statistics(dataset, results)["mAP"]
    assert order_free_precision(targets, preds, n_labels) == pytest.approx(expected, abs=1e-9)


def test_resamples_are_data_sets_of_the_same_size_and_repeat_with_the_seed() -> None:
    draws = resample(7, 50, seed=3)
    assert draws.shape == (50, 7)
    assert (draws.sum(axis=1) == 7).all()
    assert (draws == resample(7, 50, seed=3)).all()
    assert (draws != resample(7, 50, seed=4)).any()


def test_a_resampled_ratio_is_the_ratio_of_the_drawn_images() -> None:
    draws = np.array([[1, 1, 0], [2, 0, 0], [0, 0, 2]])
    values = resample_ratio(draws, np.array([1.0, 0.0, 0.0]), np.array([4.0, 4.0, 0.0]))
    assert values[:2].tolist() == [0.125, 0.25]
    assert np.isnan(values[2])


def test_a_figure_of_one_image_has_no_interval() -> None:
    """One negative among twenty images: accuracy 1, "95 % 1.000 to 1.000", and better."""
    draws = resample(20, 50, 0)
    assert interval(resample_ratio(draws, np.eye(20)[3], np.eye(20)[3])) is None
    assert interval(resample_ratio(draws, np.eye(20)[3], np.eye(20)[3] + np.eye(20)[4])) is not None


def test_the_interval_covers_the_mean_of_a_known_distribution_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        values = (rng.random(60) < 0.4).astype(float)
        ends = interval(resample_ratio(resample(60, 300, trial), values, np.ones(60)))
        assert ends is not None
        covered += ends.low <= 0.4 <= ends.high
    assert 0.90 <= covered / 200 <= 0.98


def test_no_interval_without_values() -> None:
    assert interval(np.array([np.nan, np.nan])) is None
