"""Where half of a learning curve's rise is done."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxrl.metrics.convergence import half_rise, running_mean


def curve(flat: int, rising: int, noise: float = 0.0, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    values = [0.2] * flat + [0.2 + 0.5 * k / rising for k in range(1, rising + 1)] + [0.7] * 40
    return [value + rng.gauss(0, noise) for value in values]


@pytest.mark.parametrize("flat", [30, 65, 125])
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_half_of_a_slow_rise_is_its_middle(flat: int, noise: float) -> None:
    values = curve(flat, 40, noise)
    step = half_rise(range(1, len(values) + 1), values)
    assert step is not None
    assert abs(step - flat - 20) <= 5


@pytest.mark.parametrize("first", range(3, 41))
def test_a_jump_is_found_at_its_step_however_early(first: int) -> None:
    values = [0.4] * (first - 1) + [1.0] * (101 - first)
    step = half_rise(range(1, 101), values)
    assert step == first


def test_a_delay_of_two_steps_is_two_steps() -> None:
    values = [0.42, 0.4, 0.55, 0.7, 0.9, 0.97] + [0.98, 0.99] * 47
    first = half_rise(range(100), values)
    later = half_rise(range(100), [0.42, 0.4, *values][:100])
    assert first is not None and later == first + 2


@pytest.mark.parametrize(
    "values",
    [
        [0.5] * 100,  # constant
        [0.1, 0.9],  # two points
        curve(0, 40)[::-1],  # falls
        np.random.default_rng(1).random(200).tolist(),  # noise only
    ],
)
def test_no_half_where_nothing_rises(values: list[float]) -> None:
    assert half_rise(range(len(values)), values) is None


def test_a_rise_that_is_lost_again_does_not_count() -> None:
    values = [0.2] * 20 + [0.6] * 10 + curve(50, 30)
    step = half_rise(range(len(values)), values)
    assert step is not None and step > 60


@given(st.floats(0.01, 100), st.floats(-10, 10))
def test_half_a_rise_does_not_depend_on_units(scale: float, shift: float) -> None:
    values = curve(40, 40, 0.02)
    moved = [scale * value + shift for value in values]
    assert half_rise(range(len(values)), moved) == half_rise(range(len(values)), values)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.integers(0, 5))
def test_running_mean_is_the_mean_of_its_window(values: list[float], reach: int) -> None:
    means = running_mean(values, reach)
    for place, mean in enumerate(means):
        window = values[max(0, place - reach) : place + reach + 1]
        assert mean == pytest.approx(np.mean(window), abs=1e-9)
