"""Intervals of means over several sets: each set's images are drawn by themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from boxrl.benchmarks import build_benchmark
from boxrl.benchmarks.intervals import mean_intervals
from boxrl.benchmarks.ovdeval import nms_figures
from boxrl.benchmarks.record import Benchmark, Mean
from boxrl.evaluate import Evaluation, evaluate
from boxrl.evaluate.summary import box_table
from tests.support.evaluations import PLAIN, A, C, answer, prediction, sample


def part(right: int, wrong: int, name: str = "cat") -> Evaluation:
    """So many images whose one box is found, and so many with a box elsewhere."""
    samples = [sample(f"{k}", (A, "cat"), labels=("cat", "dog")) for k in range(right + wrong)]
    samples = [replace(s, image=f"{s.id}.png") for s in samples]
    answers = {
        s.id: prediction(s.id, answer((A if int(s.id) < right else C, name))) for s in samples
    }
    return evaluate(samples, answers, PLAIN, resamples=0)


def mean_of(**groups: tuple[str, ...]) -> Benchmark:
    means = {"all": Mean("mAP", tuple(groups.values()))}
    return replace(build_benchmark("odinw13"), means=means)


def test_sets_without_doubt_leave_none() -> None:
    found = mean_intervals(mean_of(a=("x",), b=("y",)), {"x": part(4, 0), "y": part(0, 4)}, 50)
    assert found == {"all": [0.5, 0.5]}


def test_a_mean_of_equal_sets_is_surer_than_each() -> None:
    """By the square root of their number, because nothing is drawn for two at once."""
    same = part(20, 20)
    names = tuple("abcdefghi")
    one, nine = (
        mean_intervals(mean_of(all=chosen), dict.fromkeys(chosen, same), 400)["all"]
        for chosen in (names[:1], names)
    )
    assert one[0] < nine[0] < nine[1] < one[1]
    assert (nine[1] - nine[0]) / (one[1] - one[0]) == pytest.approx(1 / 3, abs=0.08)


def test_groups_weigh_alike_however_many_sets_they_have() -> None:
    parts = {"x": part(4, 0), "y": part(4, 0), "z": part(0, 4)}
    assert mean_intervals(mean_of(a=("x", "y"), b=("z",)), parts, 20)["all"] == [0.5, 0.5]


def test_a_mean_whose_set_is_missing_has_none() -> None:
    assert mean_intervals(mean_of(a=("x", "y")), {"x": part(4, 0)}, 20) == {}
    assert mean_intervals(mean_of(a=("x",)), {"x": part(4, 0)}, 0) == {}


def test_nms_ap_is_drawn_after_boxes_are_thinned() -> None:
    ovdeval = build_benchmark("ovdeval")
    both = part(3, 0)
    twice = {row.id: prediction(row.id, answer((A, "cat"), (A, "dog"))) for row in both.rows}
    thinned = evaluate([row.sample for row in both.rows], twice, PLAIN, resamples=0)
    parts = {p.name: thinned for p in ovdeval.parts}
    assert nms_figures(box_table(thinned.rows))["NMS-AP"] == 0.0  # the dog stands last
    found = mean_intervals(ovdeval, parts, 20)
    assert found["five_aspect_mean.NMS-AP"] == [0.0, 0.0]
    assert found["aspects.negation.NMS-AP"] == [0.0, 0.0]
    assert np.allclose(found["five_aspect_mean.AP"], [1.0, 1.0])
