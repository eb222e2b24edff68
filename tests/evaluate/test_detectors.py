"""A detector's COCO results where a model's answers stand: evaluated, compared, in one table."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boxrl.cli import main
from boxrl.data.formats import READERS
from boxrl.data.samples import write_samples
from boxrl.errors import DataError
from boxrl.evaluate import evaluate
from boxrl.evaluate.detectors import read_answers, read_results
from boxrl.evaluate.files import settings_family
from boxrl.metrics.calibration import Judged, best_threshold
from boxrl.types import Sample
from tests.support.archives import coco_document, write_image, write_json
from tests.support.coco_data import pycocotools_statistics

RESULTS = [
    {"image_id": 1, "category_id": 18, "bbox": [10, 20, 100, 50], "score": 0.9},
    {"image_id": 1, "category_id": 18, "bbox": [300, 20, 100, 50], "score": 0.2},
    {"image_id": 1, "category_id": 1, "bbox": [0.5, 0.25, 30.1, 40.2], "score": 0.8},
    {"image_id": 2, "category_id": 44, "bbox": [50, 60, 10, 9], "score": 0.7},
]
"""Three of the four targets, and a false dog that is unsure."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_json(tmp_path / "annotations" / "instances_val2017.json", coco_document())
    write_json(tmp_path / "rf-detr.json", RESULTS)
    for image in coco_document()["images"]:
        size = image["width"], image["height"]
        write_image(tmp_path / "val2017" / image["file_name"], size)
    return tmp_path


def samples(root: Path) -> list[Sample]:
    file = root / "annotations" / "instances_val2017.json"
    found = READERS["coco"](file, root / "val2017", mode="all").rows
    return [row for row in found if isinstance(row, Sample)]


def metrics_and_ap(root: Path, results: list[dict[str, Any]]) -> tuple[dict[str, Any], float]:
    """What `evaluate` says of a detector's results, and the mAP of pycocotools."""
    write_json(root / "results.json", results)
    asked = samples(root)
    settings, predictions = read_answers(root / "results.json", asked)
    family = settings_family(settings, None, "x")
    metrics = evaluate(asked, predictions, family, confidence="written", resamples=0).metrics
    document = coco_document()
    for row in document["annotations"]:
        row.pop("segmentation", None)
    statistics: Any = pycocotools_statistics(document, results)
    values = statistics.values() if isinstance(statistics, dict) else statistics
    return metrics, next(iter(values))


def test_ap_is_pycocotools_s_and_f1_that_of_the_best_threshold(root: Path) -> None:
    metrics, ap = metrics_and_ap(root, RESULTS)
    assert metrics["mAP"] == pytest.approx(ap, abs=1e-9)
    # from .7 on: three boxes, all right, of four targets
    assert metrics["calibration"]["best"] == pytest.approx(
        {"threshold": 0.7, "precision": 1.0, "recall": 3 / 4, "f1": 6 / 7}
    )
    assert metrics["f1@0.5"] == pytest.approx(6 / 8)


def test_boxes_outside_of_the_image_cost_what_they_cost_in_pycocotools(root: Path) -> None:
    outside = {"image_id": 1, "category_id": 18, "bbox": [9000, 20, 100, 50], "score": 0.95}
    flat = {"image_id": 1, "category_id": 18, "bbox": [10, 20, 0, 50], "score": 0.94}
    metrics, ap = metrics_and_ap(root, [outside, flat, *RESULTS])
    assert metrics["mAP"] == pytest.approx(ap, abs=1e-9)
    assert metrics["f1@0.5"] == pytest.approx(6 / 10)


def test_boxes_of_a_label_that_is_only_a_crowd_region_cost_what_they_cost_in_pycocotools(
    root: Path,
) -> None:
    """Of a person's image without a person but in a crowd, all of a detector's vanished."""
    document = coco_document()
    next(row for row in document["annotations"] if row["id"] == 3)["iscrowd"] = 1
    crowd = {"bbox": [0, 0, 640, 480], "image_id": 2, "category_id": 18, "iscrowd": 1}
    person = {"bbox": [0, 0, 20, 20], "image_id": 2, "category_id": 1}
    document["annotations"] += [
        row | {"id": 20 + k, "area": row["bbox"][2] * row["bbox"][3]}
        for k, row in enumerate([crowd, {**person, "iscrowd": 0}])
    ]
    for row in document["annotations"]:
        row.pop("segmentation", None)
    write_json(root / "annotations" / "instances_val2017.json", document)
    results = [
        {"image_id": 1, "category_id": 1, "bbox": [400, 350, 90, 90], "score": 0.95},  # outside
        {"image_id": 1, "category_id": 1, "bbox": [120, 120, 50, 50], "score": 0.94},  # inside
        {**person, "score": 0.5},
        *RESULTS,
    ]
    write_json(root / "results.json", results)
    asked = samples(root)
    settings, predictions = read_answers(root / "results.json", asked)
    family = settings_family(settings, None, "x")
    metrics = evaluate(asked, predictions, family, confidence="written", resamples=0).metrics
    found = {name: metrics[name] for name in ("mAP", "AP50", "AP75")}
    expected = pycocotools_statistics(document, results)
    assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-9)


def test_evaluate_takes_results_and_the_folder_is_like_any_other(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_samples(root / "s.jsonl", samples(root))
    call = ["evaluate", f"--samples={root / 's.jsonl'}", f"--predictions={root / 'rf-detr.json'}"]
    assert main([*call, f"--out={root / 'e'}", "--json", "--resamples=0"]) == 0
    assert json.loads(capsys.readouterr().out)["protocol"]["model"] == "rf-detr"
    assert main(["compare", str(root / "e"), str(root / "e"), "--resamples=5"]) == 0
    assert main(["report", str(root / "e"), f"--out={root / 'r.html'}"]) == 0


def test_a_benchmark_shows_detectors_as_rows_of_its_table(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    call = ["benchmark", "run", "coco", "--model=tiny", f"--data-root={root}", "--resamples=5"]
    call += [f"--out={root / 'out'}", "--predict-options=--max-new-tokens 8"]
    assert main([*call, f"--detector={root / 'rf-detr.json'}", "--format=csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["model"] for row in rows[:3]] == ["tiny", "rf-detr", "Qwen2.5-VL-3B"]
    assert float(rows[1]["F1 @0.5"]) == pytest.approx(600 / 7)
    assert float(rows[1]["AP50"]) == pytest.approx(100 * (51 / 101 + 1 + 1) / 3)
    assert rows[2]["F1 @0.5"] == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 99}, "image_id 99 is none of the samples'"),
        ({"score": 7.0}, "expected a number from 0 to 1"),
        ({"bbox": [1, 2, -3, 4]}, "has a negative width or height"),
        ({"category_id": 0}, "category_id 0 is none of the samples'.* counts categories from 0"),
    ],
)
def test_results_that_do_not_belong_to_the_samples_are_refused(
    change: dict[str, Any], message: str, root: Path
) -> None:
    write_json(root / "p.json", [RESULTS[0] | change])
    with pytest.raises(DataError, match=message):
        read_results(root / "p.json", samples(root))


def test_results_of_the_whole_set_are_taken_for_a_part_of_it(root: Path) -> None:
    file = root / "annotations" / "instances_val2017.json"
    rows = READERS["coco"](file, root / "val2017", mode="positive").rows
    part = [row for row in rows if isinstance(row, Sample) and row.meta["image_id"] == 1]
    found = read_results(root / "rf-detr.json", part)
    assert found.keys() == {row.id for row in part}
    write_json(root / "other.json", [RESULTS[0] | {"image_id": 99}])
    with pytest.raises(DataError, match="image_id 99 is none of the samples'"):
        read_results(root / "other.json", part)


def test_samples_without_ids_cannot_be_placed(root: Path) -> None:
    bare = [Sample("1", "a.jpg", 9, 9, "detection", ("dog",))]
    with pytest.raises(DataError, match="does not say its category ids"):
        read_results(root / "rf-detr.json", bare)


def test_without_boxes_there_is_no_threshold() -> None:
    none = np.zeros(0)
    assert best_threshold(Judged(none, none.astype(int), none, np.array([3]), 0.5)) is None
