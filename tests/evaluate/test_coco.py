"""COCO files: equal to pycocotools and to OVDEval's official script."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boxrl.cli import main
from boxrl.errors import DataError
from boxrl.evaluate.coco import evaluate_coco
from tests.support.coco_data import STATISTICS, pycocotools_statistics, random_coco

GOLDEN = Path(__file__).parents[1] / "golden"

DATASET = {
    "images": [{"id": 7, "width": 100, "height": 100}],
    "categories": [{"id": 3, "name": "cat"}],
    "annotations": [
        {"id": 0, "image_id": 7, "category_id": 3, "bbox": [0, 0, 50, 50], "area": 2500}
    ],
}
RESULTS = [{"image_id": 7, "category_id": 3, "bbox": [0, 0, 50, 50], "score": 0.9}]


def score(folder: Path, dataset: Any, results: Any, nms_ap: bool = False) -> dict[str, Any]:
    (folder / "a.json").write_text(json.dumps(dataset))
    (folder / "p.json").write_text(json.dumps(results))
    return evaluate_coco(folder / "a.json", folder / "p.json", nms_ap=nms_ap)


@pytest.mark.parametrize("seed", range(8))
def test_equals_pycocotools_on_random_data_with_crowd(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dataset, results = random_coco(rng, n_images=25, n_labels=3 + seed % 3, tied=seed % 2 == 0)
    expected = pycocotools_statistics(dataset, results)
    found = score(tmp_path, dataset, results)
    assert {name: found[name] for name in STATISTICS} == pytest.approx(expected, abs=1e-9)


def test_equals_pycocotools_where_a_box_lies_between_two_sizes(tmp_path: Path) -> None:
    """32 x 32 px is small and medium; x + 32 - x is 32 but for its last bits."""
    boxes = [[x / 7, x / 3, side, side] for x in range(1, 40) for side in (32, 96)]
    results = [RESULTS[0] | {"bbox": b, "score": k / 99} for k, b in enumerate(boxes)]
    dataset = copy.deepcopy(DATASET)
    known = dataset["annotations"][0] | {"iscrowd": 0}
    dataset["annotations"] = [
        known | {"id": side, "bbox": [2, 5, side, side], "area": side * side}
        for side in (30, 40, 100)
    ]
    results += [RESULTS[0] | {"bbox": row["bbox"], "score": 0.0} for row in dataset["annotations"]]
    found = score(tmp_path, dataset, results)
    expected = pycocotools_statistics(dataset, results)
    assert {name: found[name] for name in STATISTICS} == pytest.approx(expected, abs=1e-9)


def test_equals_pycocotools_on_real_annotations_and_detections() -> None:
    annotations = GOLDEN / "coco" / "coco_val2014_100.json"
    predictions = GOLDEN / "coco" / "coco_val2014_100_results.json"
    expected = pycocotools_statistics(
        json.loads(annotations.read_text()), json.loads(predictions.read_text())
    )
    found = evaluate_coco(annotations, predictions)
    assert {name: found[name] for name in STATISTICS} == pytest.approx(expected, abs=1e-9)
    assert found["mAP"] == pytest.approx(0.5045806987, abs=1e-9)


def test_nms_ap_equals_the_official_script(capsys: pytest.CaptureFixture[str]) -> None:
    folder = GOLDEN / "nms_ap"
    files = [f"--{name}={folder / name}.json" for name in ("annotations", "predictions")]
    assert main(["coco-eval", *files, "--nms-ap", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = json.loads((folder / "expected.json").read_text())
    for figures, wanted in ((found, "ap_stats"), (found["nms_ap"], "nms_ap_stats")):
        values = [figures[name] for name in STATISTICS]
        assert values == pytest.approx(expected[wanted], abs=1e-9)  # stated to nine digits
    assert (found["kept"], found["total"]) == (expected["kept"], expected["total"])


def test_a_target_of_id_zero_is_lost_only_where_the_official_script_is_asked_for(
    tmp_path: Path,
) -> None:
    assert score(tmp_path, DATASET, RESULTS)["mAP"] == pytest.approx(1.0)
    official = score(tmp_path, DATASET, RESULTS, nms_ap=True)
    assert official["mAP"] == official["nms_ap"]["mAP"] == 0.0
    assert "id 0" in official["protocol"]["id_zero"]


@pytest.mark.parametrize("seed", range(6))
def test_the_lost_target_of_id_zero_equals_pycocotools(tmp_path: Path, seed: int) -> None:
    dataset, results = random_coco(np.random.default_rng(seed), n_images=12, n_labels=2, tied=False)
    for row in dataset["annotations"]:
        row["id"] -= 1
    expected = pycocotools_statistics(dataset, results)
    found = score(tmp_path, dataset, results, nms_ap=True)
    assert {name: found[name] for name in STATISTICS} == pytest.approx(expected, abs=1e-9)


def test_ids_of_annotations_make_no_difference(tmp_path: Path) -> None:
    dataset, results = random_coco(np.random.default_rng(1), n_images=12, n_labels=2, tied=False)
    before = score(tmp_path, dataset, results)
    for row in dataset["annotations"]:
        row["id"] = 5
    assert score(tmp_path, dataset, results) == before


def test_whole_floats_are_ids(tmp_path: Path) -> None:
    """As pandas writes them, and as the readers of samples take them."""
    dataset, results = copy.deepcopy(DATASET), copy.deepcopy(RESULTS)
    dataset["images"][0]["id"] = 7.0
    dataset["annotations"][0]["category_id"] = 3.0
    results[0]["image_id"] = 7.0
    assert score(tmp_path, dataset, results) == score(tmp_path, DATASET, RESULTS)


def test_no_predictions_score_nothing(tmp_path: Path) -> None:
    found = score(tmp_path, DATASET, [], nms_ap=True)
    assert found["mAP"] == found["nms_ap"]["mAP"] == found["mAP_order_free"] == 0.0


BAD = [
    (("p", 0, "image_id", 8), "results[0]: image_id 8 is none of the annotations file's"),
    (("p", 0, "category_id", 4), "results[0]: category_id 4 is none of the annotations file's"),
    (("p", 0, "score", None), "results[0]: Object missing required field `score`"),
    (("p", 0, "score", float("nan")), "results[0].score: Expected `float`, got `null`"),
    (("p", 0, "bbox", [0, 0, float("inf"), 1]), "results[0].bbox[2]: Expected `float`, got"),
    (("p", 0, "image_id", 2**63), "results[0].image_id: Expected `int` <= 9223372036854775807"),
    (
        ("a", "annotations", 0, "area", float("nan")),
        "annotations[0].area: Expected `float`, got",
    ),
    (("p", 0, "bbox", [0, 0, 50]), "results[0].bbox: Expected `array` of length 4"),
    (("p", 0, "bbox", [50, 50, -50, -50]), "has a negative side"),
    (("p", 0, "image_id", "7"), "results[0].image_id: Expected `int`, got `str`"),
    (("p", 0, "image_id", 7.5), "results[0].image_id: Expected `int`, got `float`"),
    (("a", "annotations", {}), "annotations: Expected `array`, got `object`"),
    (("a", "annotations", [3]), "annotations[0]: Expected `object`, got `int`"),
    (("a", "categories", None), "the file: Object missing required field `categories`"),
    (("a", "images", 2 * DATASET["images"]), "images: duplicate id 7"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_files_are_named_by_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: tuple[Any, ...], message: str
) -> None:
    files: dict[str, Any] = {"a": copy.deepcopy(DATASET), "p": copy.deepcopy(RESULTS)}
    place = files
    for key in change[:-2]:
        place = place[key]
    if change[-1] is None:
        del place[change[-2]]
    else:
        place[change[-2]] = change[-1]
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    arguments = [f"--annotations={tmp_path}/a.json", f"--predictions={tmp_path}/p.json"]
    assert main(["coco-eval", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: cannot be read"):
        evaluate_coco(tmp_path / "none.json", tmp_path / "none.json")
