"""D3 by description length and by boxes per image, against numbers computed by hand."""

from __future__ import annotations

from typing import Any

import pytest

from boxrl.benchmarks import build_benchmark
from boxrl.benchmarks.summary import summarize_benchmark
from boxrl.data.predictions import Prediction
from boxrl.evaluate import evaluate
from boxrl.families import FAMILIES
from boxrl.prompts import render_target
from boxrl.types import Object, Sample

DOG, HAT, LONG = "dog", "person without a hat", "a person who sits on the left of a red bench"
KINDS = ["presence", "absence", "presence"]
A, B, C = (10.0, 10.0, 30.0, 30.0), (40.0, 10.0, 60.0, 30.0), (70.0, 10.0, 90.0, 30.0)


def image(number: int, *objects: tuple[tuple[float, float, float, float], str]) -> Sample:
    found = tuple(Object(bbox, label) for bbox, label in objects)
    meta = {"part": "d3", "kinds": KINDS}
    labels = DOG, HAT, LONG
    return Sample(f"{number}", "x.jpg", 100, 50, "detection", labels, found, meta=meta)


TARGETS = [
    image(0, (A, DOG), (A, HAT)),
    image(1, (A, DOG), (B, DOG), (A, LONG)),
    image(2),
]
ANSWERS = [
    image(0, (A, DOG), (C, LONG)),  # the hat is missed; the long one is not there
    image(1, (A, DOG), (C, DOG), (A, LONG)),  # one of two dogs, and a false one
    image(2, (A, HAT), (B, HAT)),  # nothing is there
]


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    family = FAMILIES["plain"]
    predictions = {
        sample.id: Prediction(sample.id, render_target(sample, family), 9, "stop")
        for sample in ANSWERS
    }
    part = evaluate(TARGETS, predictions, family, resamples=0)
    return summarize_benchmark(build_benchmark("d3"), TARGETS, {"d3": part})


def test_kinds_are_means_over_their_descriptions(summary: dict[str, Any]) -> None:
    # dog: right, right, false of three targets: precision 1 up to recall 2/3, 67 of 101 points.
    # long: false (first image), right: precision 1/2 at every recall. hat: two false boxes.
    dog, long = 67 / 101, 0.5
    assert [summary[kind]["labels"] for kind in ("full", "pres", "abs")] == [3, 2, 1]
    assert summary["pres"]["mAP"] == pytest.approx((dog + long) / 2)
    assert summary["abs"]["mAP"] == 0.0
    assert summary["full"]["mAP"] == pytest.approx((dog + long) / 3)


def test_lengths_are_those_of_the_authors_script(summary: dict[str, Any]) -> None:
    words = summary["full"]["words"]
    assert {length: row["labels"] for length, row in words.items()} == {
        "1 to 3": 1, "4 to 6": 1, "7 to 9": 0, "10 and more": 1,
    }  # fmt: skip
    assert words["1 to 3"]["mAP"] == pytest.approx(67 / 101)
    assert words["4 to 6"]["mAP"] == 0.0
    assert words["7 to 9"]["mAP"] is None
    assert words["10 and more"]["mAP"] == pytest.approx(0.5)
    assert summary["abs"]["words"]["1 to 3"] == {"labels": 0, "mAP": None}


def test_pairs_of_one_box_count_are_scored_as_if_there_were_no_others(
    summary: dict[str, Any],
) -> None:
    boxes = summary["full"]["boxes"]
    # One box: dog and hat in image 0, long in image 1; its false box in image 0 is of a 0-pair.
    assert boxes["1"] == {"pairs": 3, "mAP": pytest.approx((1 + 0 + 1) / 3)}
    # Two boxes: dog in image 1, one of two found, ranked before the false one: 51 points.
    assert boxes["2"] == {"pairs": 1, "mAP": pytest.approx(51 / 101)}
    assert boxes["3"] == {"pairs": 0, "mAP": None}
    assert summary["pres"]["boxes"]["1"] == {"pairs": 2, "mAP": pytest.approx(1.0)}


def test_boxes_on_what_is_not_there_are_counted_per_question(summary: dict[str, Any]) -> None:
    # Asked and empty: long in image 0, hat in image 1, all three in image 2; three boxes on them.
    assert summary["full"]["boxes"]["0"] == {"pairs": 5, "boxes_per_pair": pytest.approx(3 / 5)}
    assert summary["abs"]["boxes"]["0"] == {"pairs": 2, "boxes_per_pair": pytest.approx(1.0)}
