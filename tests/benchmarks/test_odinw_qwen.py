"""ODinW-13 by Qwen's own protocol, against its script."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from boxrl.benchmarks import BENCHMARKS
from boxrl.benchmarks.odinw_qwen import average, qwen_figures, read_answer, summarize_qwen
from boxrl.data.predictions import Prediction
from boxrl.families import FAMILIES
from boxrl.types import Object, Sample

GOLDEN = Path(__file__).parents[1] / "golden" / "odinw_qwen"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
DOCUMENT = json.loads((GOLDEN / "annotations.json").read_text())
ROWS = [json.loads(line) for line in (GOLDEN / "answers.jsonl").read_text().splitlines()]
NAMES = [row["name"] for row in DOCUMENT["categories"]]


def read(row: dict[str, Any], relative: bool, text: str | None = None) -> Any:
    size, seen = (row["width"], row["height"]), tuple(row["resized_wh"])
    return read_answer(text or row["gen"], NAMES, size, None if relative else seen)


def samples() -> list[Sample]:
    names = {row["id"]: row["name"] for row in DOCUMENT["categories"]}
    found = []
    for image in DOCUMENT["images"]:
        mine = [row for row in DOCUMENT["annotations"] if row["image_id"] == image["id"]]
        boxes = [row["bbox"] for row in mine]
        objects = [
            Object((x, y, x + w, y + h), names[row["category_id"]], bool(row.get("iscrowd")))
            for (x, y, w, h), row in zip(boxes, mine, strict=True)
        ]
        found.append(
            Sample(
                f"{image['id']}", "x.jpg", image["width"], image["height"], "detection",
                tuple(NAMES), tuple(objects), meta={"areas": [row["area"] for row in mine]},
            )
        )  # fmt: skip
    return found


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['img_id']} {row['what']}")
def test_answers_are_read_as_the_script_reads_them(row: dict[str, Any], relative: bool) -> None:
    order = [name.lower() for name in NAMES]  # which is how the script regroups them for scoring
    expected = row[f"boxes_is_rel_{int(relative)}"]
    expected.sort(key=lambda box: order.index(box["label"].lower()))
    found = read(row, relative)
    assert [NAMES[place].lower() for place, _ in found] == [b["label"].lower() for b in expected]
    for (_, box), known in zip(found, expected, strict=True):
        assert box == pytest.approx(known["bbox"], abs=1e-9)


@pytest.mark.parametrize("relative", [True, False])
def test_figures_are_those_of_the_script(relative: bool) -> None:
    answers = {str(row["img_id"]): read(row, relative) for row in ROWS}
    items = samples()
    found = qwen_figures(items, [answers.get(item.id, []) for item in items], NAMES)
    expected = EXPECTED[f"is_rel_{int(relative)}"]
    assert found == pytest.approx(expected["Toy"], abs=1e-9)
    assert average({"Toy": found})["mAP"] == pytest.approx(expected["Average"], abs=1e-9)


@pytest.mark.parametrize("what", EXPECTED["stops_with"])
def test_what_would_stop_the_script_is_read_as_nothing(what: str) -> None:
    text = EXPECTED["stops_with"][what]["text"]
    assert read(ROWS[0], True, text) == []


def test_numbers_that_no_array_holds_are_read_as_nothing() -> None:
    text = f'[{{"bbox_2d": [1j, 2, 3, 4], "label": "{NAMES[0]}"}}]'
    assert read(ROWS[0], True, text) == []


def test_a_hundred_boxes_count_for_map_and_a_thousand_for_the_rest() -> None:
    target = Sample("1", "x.jpg", 640, 480, "detection", ("fish",),
                    (Object((300.0, 300.0, 350.0, 350.0), "fish"),))  # fmt: skip
    flood = [(0, (float(k), 0.0, k + 20.0, 20.0)) for k in range(150)]
    found = qwen_figures([target], [[*flood, (0, (300.0, 300.0, 350.0, 350.0))]], ["fish"])
    assert found == pytest.approx(EXPECTED["flood_150_then_right"]["Toy"], abs=1e-9)


def test_a_mean_that_needs_a_missing_set_stays_empty() -> None:
    """With --allow-missing a mean over two sets stood beside the published ones over thirteen."""
    fish = Object((300.0, 300.0, 350.0, 350.0), "fish")
    asked = {"labels": ("fish",), "objects": (fish,), "meta": {"part": "pothole"}}
    item = Sample("1", "x.jpg", 640, 480, "detection", **asked)
    answers = {"1": Prediction("1", "[]", 1, "stop")}
    found = summarize_qwen(BENCHMARKS["odinw13"], [item], answers, FAMILIES["qwen3-vl"])
    assert found["sets"]["pothole"]["mAP"] == 0
    assert found["mean"] == {"mAP": None}


def test_hostile_answers_are_read_as_nothing() -> None:
    for text in ("[" * 200_000, "9" * 10_000, "{" * 5000, "-" * 100_000 + "1", "\0"):
        assert read(ROWS[0], True, text) == []
