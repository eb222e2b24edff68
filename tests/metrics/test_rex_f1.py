"""Rex-Omni's F1 against its own scripts, and the plain counts beside it."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hotcoco import mask

from boxrl.boxes import xywh_to_xyxy
from boxrl.metrics.average_precision import Predictions, Targets, select
from boxrl.metrics.rex_f1 import (
    THRESHOLDS,
    Matches,
    Scores,
    image_f1,
    macro_f1,
    match_unranked,
    micro_f1,
    published_f1,
    score_image,
    score_points,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "rexomni"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (GOLDEN / name).read_text().splitlines()]


def coco_tables() -> tuple[Targets, Predictions, int, int]:
    """The annotations file and the answers, names as Rex-Omni's conversion compares them."""
    document = json.loads((GOLDEN / "coco_gt.json").read_text())
    images = {row["file_name"]: place for place, row in enumerate(document["images"])}
    image_ids = [row["id"] for row in document["images"]]
    categories = [row["id"] for row in document["categories"]]
    names = [row["name"].lower().replace("_", " ") for row in document["categories"]]
    annotations = document["annotations"]
    targets = Targets(
        np.array([image_ids.index(row["image_id"]) for row in annotations]),
        np.array([categories.index(row["category_id"]) for row in annotations]),
        xywh_to_xyxy(np.array([row["bbox"] for row in annotations], dtype=float)),
        np.array([bool(row.get("iscrowd")) for row in annotations]),
        np.array([row["area"] for row in annotations], dtype=float),
    )
    found = [
        (images[Path(row["image_path"]).name], names.index(name.lower().replace("_", " ")), box)
        for row in rows("coco_answer.jsonl")
        for name, boxes in row["extracted_predictions"].items()
        for box in boxes
        if name.lower().replace("_", " ") in names and box is not None and len(box) == 4
    ]
    found.sort(key=lambda item: item[0])
    preds = Predictions(
        np.array([image for image, _, _ in found]),
        np.array([label for _, label, _ in found]),
        np.array([box for _, _, box in found], dtype=float),
        np.ones(len(found)),
    )
    return targets, preds, len(images), len(names)


def positive_only(targets: Targets, preds: Predictions) -> Predictions:
    pairs = set(zip(targets.image.tolist(), targets.label.tolist(), strict=True))
    annotated = set(targets.image.tolist())
    kept = [
        image not in annotated or (image, label) in pairs
        for image, label in zip(preds.image.tolist(), preds.label.tolist(), strict=True)
    ]
    return select(preds, np.array(kept))


def equal(found: Scores, expected: dict[str, float]) -> None:
    for key in ("precision", "recall", "f1"):
        assert getattr(found, key) == pytest.approx(expected[key], abs=1e-9), key


def test_the_published_figures_are_those_of_its_script() -> None:
    targets, preds, n_images, n_labels = coco_tables()
    kept = positive_only(targets, preds)
    found = published_f1(match_unranked(targets, kept, n_images, n_labels, max_boxes=100))
    assert found
    for name, expected in EXPECTED["coco"]["official"].items():
        equal(found[name], expected)


@pytest.mark.parametrize("which", ["plain_positive_only", "plain_all_predictions"])
def test_the_plain_figures_are_those_of_a_count(which: str) -> None:
    targets, preds, n_images, n_labels = coco_tables()
    if which == "plain_positive_only":
        preds = positive_only(targets, preds)
    assert len(preds.image) == EXPECTED["coco"][which]["boxes_kept"]
    matches = match_unranked(targets, preds, n_images, n_labels)
    for name in ("0.5", "0.95", "mean"):
        equal(macro_f1(matches)[name], EXPECTED["coco"][which]["macro_plain"][name])
        equal(micro_f1(matches)[name], EXPECTED["coco"][which]["micro_plain"][name])


def without_none(row: dict[str, Any]) -> dict[str, Any]:
    found = row["extracted_predictions"]
    return {name: [box for box in boxes if box is not None] for name, boxes in found.items()}


@pytest.mark.parametrize("key", sorted(EXPECTED["other"]))
def test_the_other_sets_are_scored_as_its_script_does(key: str) -> None:
    groups = defaultdict(list)
    for row in rows("other_answer.jsonl"):
        groups[f"{row['task_name']}_{row['dataset_name']}"].append(row)
    scores = []
    for row in groups[key]:
        task = row["task_name"]
        if task == "referring_object_detection" and row["extracted_predictions"] != without_none(
            row
        ):
            continue  # the script loses such a sample
        if task == "pointing":
            masks = {
                name: [mask.decode({**one, "counts": one["counts"].encode()}) for one in some]
                for name, some in row["gt"].items()
            }
            scores.append([score_points(masks, row["extracted_predictions"])] * len(THRESHOLDS))
        elif task in ("hallucination", "gui"):
            right = float(says_nothing(row) if task == "hallucination" else hits(row))
            scores.append([Scores.of(right, right)] * len(THRESHOLDS))
        else:
            scores.append(score_image(row["gt"], without_none(row), task))
    expected = EXPECTED["other"][key]
    assert len(scores) == expected["n_scored"]
    for name, found in image_f1(scores).items():
        equal(found, expected[name])


def says_nothing(row: dict[str, Any]) -> bool:
    return not any(row["extracted_predictions"].values())


def hits(row: dict[str, Any]) -> bool:
    x1, y1, x2, y2 = row["gt"]
    places = [place for some in row["extracted_predictions"].values() for place in some]
    centres = [((p[0] + p[-2]) / 2, (p[1] + p[-1]) / 2) for p in places]
    return any(x1 <= x <= x2 and y1 <= y <= y2 for x, y in centres)


def test_false_boxes_behind_the_last_right_one_cost_the_published_figure_nothing() -> None:
    hit = np.array([[True, False, False]] * 10)
    matches = Matches(np.zeros(3, dtype=int), hit, np.zeros_like(hit), np.array([1]))
    found = published_f1(matches)
    assert found
    assert found["0.5"].precision == pytest.approx(1.0)
    assert micro_f1(matches)["0.5"].precision == pytest.approx(1 / 3)


def test_a_first_label_without_a_right_box_has_no_published_figure() -> None:
    hit = np.array([[False, True]] * 10)
    matches = Matches(np.array([0, 1]), hit, np.zeros_like(hit), np.array([1, 1]))
    assert published_f1(matches) is None
    assert macro_f1(matches)["mean"] == Scores.of(0.5, 0.5)


def test_nothing_asked_and_nothing_found() -> None:
    assert score_image({}, {}, "dense_object_detection")[0] == Scores(1.0, 1.0, 1.0)
    assert score_image({}, {"a": [[0, 0, 1, 1]]}, "x")[0] == Scores(0.0, 0.0, 0.0)
    assert image_f1([])["mean"] == Scores(0.0, 0.0, 0.0)
    none = Matches(np.zeros(0, dtype=int), np.zeros((10, 0), dtype=bool),
                   np.zeros((10, 0), dtype=bool), np.zeros(0, dtype=int))  # fmt: skip
    assert macro_f1(none)["mean"] == micro_f1(none)["mean"] == Scores(0.0, 0.0, 0.0)
