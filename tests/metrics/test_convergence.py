"""Take-off of learning curves."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxrl.metrics.convergence import running_mean, take_off


def curve(flat: int, rising: int, noise: float = 0.0, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    values = [0.2] * flat + [0.2 + 0.5 * k / rising for k in range(1, rising + 1)] + [0.7] * 40
    return [value + rng.gauss(0, noise) for value in values]


@pytest.mark.parametrize("flat", [30, 65, 125])
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_take_off_is_where_a_flat_curve_begins_to_rise(flat: int, noise: float) -> None:
    values = curve(flat, 40, noise)
    step = take_off(range(1, len(values) + 1), values)
    assert step is not None
    assert abs(step - flat) <= 15


@pytest.mark.parametrize(
    "values",
    [
        [0.5] * 100,  # constant
        [0.1, 0.9],  # two points
        curve(0, 40)[::-1],  # falls
        np.random.default_rng(1).random(200).tolist(),  # noise only
    ],
)
def test_no_take_off_where_nothing_rises(values: list[float]) -> None:
    assert take_off(range(len(values)), values) is None


def test_a_rise_that_is_lost_again_does_not_count() -> None:
    values = [0.2] * 20 + [0.6] * 10 + curve(50, 30)
    step = take_off(range(len(values)), values)
    assert step is not None and step > 60


@given(st.floats(0.01, 100), st.floats(-10, 10))
def test_take_off_does_not_depend_on_units(scale: float, shift: float) -> None:
    values = curve(40, 40, 0.02)
    moved = [scale * value + shift for value in values]
    assert take_off(range(len(values)), moved) == take_off(range(len(values)), values)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.integers(0, 5))
def test_running_mean_is_the_mean_of_its_window(values: list[float], reach: int) -> None:
    means = running_mean(values, reach)
    for place, mean in enumerate(means):
        window = values[max(0, place - reach) : place + reach + 1]
        assert mean == pytest.approx(np.mean(window), abs=1e-9)
