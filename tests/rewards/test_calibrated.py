"""The reward of written scores: by hand, and that saying what is so earns most."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from boxrl.families import FAMILIES
from boxrl.parsing import parse
from boxrl.rewards.calibrated import calibrated
from boxrl.types import Completion, Detections, Object, Target

A, B, C = (0.0, 0.0, 40.0, 40.0), (50.0, 50.0, 90.0, 90.0), (0.0, 50.0, 40.0, 90.0)
TARGET = Target.from_objects([Object(A, "cat"), Object(B, "cat")])


def paid(
    *items: tuple[tuple[float, ...], float | None], target: Target = TARGET, **settings: Any
) -> float | None:
    rows = [
        {"bbox_2d": box, "label": "cat"} | ({} if score is None else {"score": score})
        for box, score in items
    ]
    text = f"<answer>{json.dumps(rows)}</answer>"
    completion = Completion(text, parse(text, FAMILIES["plain"], (100, 100)))
    return calibrated(completion, target, **settings)


@pytest.mark.parametrize(
    ("items", "value"),
    [
        (((A, None), (B, None)), 0.0),  # no score says nothing, and earns it
        (((A, 1), (C, None)), 0.5),
        (((A, 1.94), (B, 1)), 0.5),  # a number that is no share is no score
        (((A, -1), (B, 1)), 0.5),
        (((A, 1), (B, 1)), 1.0),
        (((A, 0.5), (B, 1)), (0.75 + 1) / 2),
        (((A, 1), (C, 1)), 0.0),  # what is gained by one is lost by the other
        (((A, 1), (C, 0.5)), (1 - 0.25) / 2),
        (((A, 1), (C, 0)), 0.5),  # a false box that says 0 is free
        (((A, 1), (A, 1), (B, 1)), (2 - 1) / 2),  # the second box on one target is false
        (((C, 1),), 0.0),
    ],
)
def test_hand_computed(items: tuple[tuple[tuple[float, ...], float | None]], value: float) -> None:
    assert paid(*items) == pytest.approx(value)


def test_without_targets_silence_earns_most() -> None:
    nothing = Target(Detections(np.zeros((0, 4)), ()))
    assert paid((A, 0.5), target=nothing) == pytest.approx(0.75)
    assert paid((A, 1), (B, 1), target=nothing) == 0.0
    text = "<answer>None</answer>"
    silent = Completion(text, parse(text, FAMILIES["plain"], (100, 100)))
    assert calibrated(silent, nothing) == 1.0
    assert calibrated(silent, TARGET) == 0.0
    assert calibrated(silent, Target(nothing.detections, answer="3")) is None


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_a_box_earns_most_where_it_says_how_likely_it_is_right(p: float) -> None:
    """Beside a sure box, so that nothing is cut at 0."""

    def mean(score: float) -> float:
        right, wrong = paid((A, 1), (B, score)), paid((A, 1), (C, score))
        assert right is not None
        assert wrong is not None
        return p * right + (1 - p) * wrong

    grid = [k / 20 for k in range(21)]
    best = max(grid, key=mean)
    assert best == pytest.approx(p, abs=0.05)
    assert mean(p) == pytest.approx(0.5 + p**2 / 2)


SHORT = (0.0, 0.0, 40.0, 32.0)
"""IoU .8 with A."""


@pytest.mark.parametrize(
    ("items", "value"),
    [
        (((A, 1), (B, None)), 0.5),
        (((SHORT, 0.8),), 0.8**2 / 2),
        (((SHORT, 1),), (2 * 0.8 - 1) / 2),
        (((SHORT, 0.8), (C, 0.5)), (0.8**2 - 0.25) / 2),
        (((SHORT, 1), (A, 1)), 0.0),  # one target, one box: the worse one is false
    ],
)
def test_by_hand_where_the_fit_is_what_a_box_is_worth(
    items: tuple[tuple[tuple[float, ...], float | None]], value: float
) -> None:
    assert paid(*items, worth="iou") == pytest.approx(value)


def test_a_box_earns_most_where_it_says_how_well_it_fits() -> None:
    def at(score: float) -> float:
        return paid((SHORT, score), worth="iou") or 0.0

    assert max((k / 20 for k in range(21)), key=at) == 0.8
    assert max((k / 20 for k in range(21)), key=lambda s: paid((SHORT, s)) or 0.0) == 1.0
