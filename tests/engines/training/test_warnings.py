"""What is watched in a run, and when it is told."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

from boxrl.data.samples import parse_line, render_sample
from boxrl.engines.training.warnings import describe_answers, warnings
from boxrl.families import FAMILIES, Family, read_family
from boxrl.generation.model_folders import model_folder
from boxrl.rewards import adapters, build_reward
from boxrl.rewards.trl import TRLReward
from boxrl.types import Object, Sample

CAT = '{"bbox_2d": [0, 0, 50, 50], "label": "cat"}'
DOG = '{"bbox_2d": [10, 10, 60, 60], "label": "dog"}'
SAMPLE = Sample(
    "a", "a.png", 100, 100, "detection", ("cat",),
    (Object((0, 0, 50, 50), "cat"), Object((1, 1, 9, 9), "cat", iscrowd=True)),
)  # fmt: skip


def answer(*items: str) -> str:
    return f"<answer>[{', '.join(items)}]</answer>"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([answer(CAT)], (1, 0, 0, 1, 0)),
        ([answer(CAT, CAT, CAT, DOG)], (4, 1 / 4, 2 / 4, 1, 0)),
        ([answer(CAT, DOG), "nothing to read"], (1, 1 / 2, 0, 1 / 2, 0)),
        ([answer(CAT), f"<answer>[{CAT}}}{{b</answer>"], (1, 0, 0, 1, 1 / 2)),
        ([answer(CAT), answer(CAT)], (1, 0, 0, 1, 0)),  # the same box in two is no duplicate
    ],
)
def test_answers_are_described(texts: list[str], expected: tuple[float, ...]) -> None:
    found = describe_answers(texts, [SAMPLE] * len(texts), FAMILIES["plain"])
    assert not found.pop("other_frame", 0.0)
    names = ("boxes_per_target", "invented_labels", "duplicates", "readable", "partial")
    assert found == pytest.approx(dict(zip(names, expected, strict=True)))


def test_figures_without_a_denominator_are_left_out() -> None:
    negative = Sample("a", "a.png", 100, 100, "detection", ("cat",))
    found = describe_answers(["<answer>None</answer>"], [negative], FAMILIES["plain"])
    assert found == {"readable": 1.0, "partial": 0.0}


HEALTHY = {
    "reward": 0.5, "zero_variance": 0.1, "completion_length": 60, "clipped": 0.0, "kl": 0.01,
    "boxes_per_target": 1.1, "invented_labels": 0.02, "partial": 0.05,
}  # fmt: skip


def log(n: int = 50, **now: float) -> list[dict[str, Any]]:
    """A run that is healthy for 20 steps, and then what `now` says."""
    return [HEALTHY | (now if step >= 20 else {}) for step in range(n)]


@pytest.mark.parametrize(
    ("share", "norm", "told"), [(0.002, 0.5, True), (0.99, 0.5, False), (0.0, 0.0, False)]
)
def test_weights_that_stay_are_told_soon(share: float, norm: float, told: bool) -> None:
    rows = [HEALTHY | {"weights_changed": share, "grad_norm": norm}] * 5
    assert ("weights_stay" in warnings(rows, 1024)) == told
    assert not warnings(rows[:4], 1024)


def test_a_healthy_run_is_told_nothing() -> None:
    assert warnings(log(), 1024) == {}


@pytest.mark.parametrize(
    ("kind", "now", "words"),
    [
        ("variance_gone", {"zero_variance": 0.9}, "90% of the groups"),
        ("lengths_exploding", {"completion_length": 700}, "700 tokens (at first 60)"),
        ("lengths_exploding", {"clipped": 0.6}, "60% are cut at 1024"),
        ("kl_exploding", {"kl": 3.0}, "KL to the reference is 3.00"),
        ("boxes_multiplying", {"boxes_per_target": 4.0}, "4.0 boxes are written"),
        ("labels_invented", {"invented_labels": 0.3}, "30% of the boxes"),
        ("answers_breaking", {"partial": 0.4}, "40% of the answers can be read in part only"),
    ],
)
def test_what_goes_wrong_is_told_in_words(kind: str, now: dict[str, float], words: str) -> None:
    found = warnings(log(**now), 1024)
    assert list(found) == [kind]
    assert words in found[kind]
    assert warnings(log(n=39, **now), 1024) == {}


@pytest.mark.parametrize("now", [{"partial": 0.15}, {"partial": 0.4, "clipped": 0.4}])
def test_few_broken_answers_and_cut_ones_are_not_said_to_break(now: dict[str, float]) -> None:
    assert "answers_breaking" not in warnings(log(**now), 1024)


def test_a_flat_reward_is_told_and_a_rising_one_is_not() -> None:
    flat = [HEALTHY | {"reward": 0.5 + 0.01 * (step % 2)} for step in range(120)]
    rising = [HEALTHY | {"reward": 0.5 + 0.002 * step} for step in range(120)]
    assert "reward_flat" in warnings(flat, 1024)
    assert "reward_flat" not in warnings(rising, 1024)


@pytest.mark.parametrize("family", [FAMILIES["plain"], read_family(model_folder("tiny"))])
def test_answers_are_read_once_for_rewards_and_warnings(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    parse = adapters.parse
    monkeypatch.setattr(
        adapters, "parse", lambda text, *a, **k: read.append(text) or parse(text, *a, **k)
    )
    adapters.parse_once.cache_clear()
    texts, line = ["<answer>None</answer>", "nothing"], render_sample(SAMPLE)
    for name in ("f1", "ap"):
        reward = TRLReward(build_reward(name), family)
        reward(completions=texts, sample=[line] * 2, completion_ids=[[1]] * 2)
    describe_answers(texts, [parse_line(line)] * 2, family)
    assert sorted(read) == sorted(texts)
    assert parse_line(line) is parse_line(line)


def test_boxes_of_another_frame_are_told_of_after_a_few_steps() -> None:
    right = {"reward": 0.5, "other_frame": 0.0}
    wrong = {"reward": 0.0, "other_frame": 0.9}
    assert warnings([wrong] * 4, 100) == {}
    assert (
        "90% of the boxes look written in another frame"
        in warnings([wrong] * 5, 100)["other_frame"]
    )
    assert warnings([right] * 30, 100) == {}
    shares = answer(*['{"bbox_2d": [0.1, 0.1, 0.5, 0.6], "label": "cat"}'] * 5)
    assert describe_answers([shares], [SAMPLE], FAMILIES["plain"])["other_frame"] == 1.0


def test_answers_that_nobody_can_read_are_told_of_after_a_few_steps() -> None:
    silent = {"reward": 0.0, "readable": 0.0, "clipped": 0.0}
    assert warnings([silent] * 4, 100) == {}
    assert "no answer of the last 5 steps" in warnings([silent] * 5, 100)["nothing_read"]
    cut = warnings([silent | {"clipped": 1.0}] * 5, 100)["nothing_read"]
    assert "cut at 100 tokens" in cut
    assert warnings([silent, *[silent | {"readable": 0.1}] * 5], 100) == {}


@pytest.mark.parametrize(
    ("rewards", "told"),
    [
        ({"format": 0.0, "f1": 0.5}, ["stuck/format"]),
        ({"format": 1.0, "cosine": -0.5}, ["stuck/cosine", "stuck/format"]),
        ({"repetition": 0.0, "f1": 0.5, "my_own": 0.0}, []),
    ],
)
def test_a_reward_that_is_the_same_for_every_completion_is_told(
    rewards: dict[str, float], told: list[str]
) -> None:
    rows = [{"reward": 0.1, "rewards": rewards} for _ in range(20)]
    assert sorted(warnings(rows, 100)) == told
    assert warnings(rows[:19], 100) == {}
    assert warnings([*rows, {"rewards": dict.fromkeys(rewards, 0.25)}], 100) == {}
