"""The battery of probes: what each reward pays, and what it must not."""

import pytest

from boxrl.rewards import REWARDS, build_reward, build_rewards
from boxrl.rewards.probes import PROBES, run_probes
from boxrl.types import Object, Sample

CAT = Object((100, 100, 300, 260), "cat")
ONE = Sample("one", "1.jpg", 640, 480, "detection", ("cat", "dog"), (CAT,))
NONE = Sample("none", "2.jpg", 640, 480, "detection", ("cat",))
TWO = Sample(
    "two", "3.jpg", 640, 480, "grounding", ("cat", "dog"), (CAT, Object((400, 20, 500, 99), "dog"))
)
COUNTING = Sample("n", "4.jpg", 9, 9, "counting", ("cat",), question="How many?", answer="1")


def mean(reward: str, probe: str, *samples: Sample) -> float | None:
    results = run_probes(samples or (ONE,), [build_reward(reward)])
    return results["rewards"][reward]["probes"][probe]["mean"]


@pytest.mark.parametrize(
    ("probe", "ap", "od_length", "weighted_sum", "f1"),
    [
        ("gold", 1.0, 1.0, 1.0, 1.0),
        ("gold, recased", 1.0, 1.0, 1.0, 1.0),
        ("junk last", 1.0, 1 / 31, 0.7 + 0.3 * (1 - 30 / 31 / 2), 2 / 32),
        ("junk first", 1 / 31, 1 / 31**2, 0.7 + 0.3 * (1 - 30 / 31 / 2), 2 / 32),
        ("duplicates", 1.0, 0.5, 0.925, 2 / 3),
        ("invented label", 1.0, 1 / 31, 0.7 + 0.3 * (1 - 30 / 31 / 2), 2 / 32),
        ("every label", 1.0, 0.5, 0.925, 2 / 3),
        ("empty", 0.0, 0.0, 0.0, 0.0),
        ("broken JSON", 0.0, 0.0, 0.0, 0.0),
        ("prose", 0.0, 0.0, 0.0, 0.0),
        ("one object", 1.0, 1.0, 1.0, 1.0),
        ("junk, then []", 0.0, 0.0, 0.0, 0.0),
        ("two answers", 0.0, 0.0, 0.0, 0.0),
        ("answer in the thought", 0.0, 0.0, 0.0, 0.0),
        ("endless thought", 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_what_a_single_target_pays(
    probe: str, ap: float, od_length: float, weighted_sum: float, f1: float
) -> None:
    names = ("ap", "od_length", "weighted_sum", "f1")
    paid = [mean(name, probe) for name in names]
    assert paid == pytest.approx([ap, od_length, weighted_sum, f1])


@pytest.mark.parametrize(
    "probe",
    [
        "broken JSON",
        "prose",
        "junk first",
        "whole image",
        "junk, then []",
        "answer in the thought",
        "endless thought",
    ],
)
@pytest.mark.parametrize("reward", ["ap", "od_length", "weighted_sum", "f1"])
def test_negatives_pay_for_none_and_nothing_else(reward: str, probe: str) -> None:
    assert mean(reward, "gold", NONE) == 1.0
    assert mean(reward, probe, NONE) == 0.0


def test_a_frame_that_shows_the_right_boxes_is_no_wrong_one() -> None:
    near = Sample("near", "5.jpg", 1024, 960, "detection", ("cat",), (CAT,))
    assert mean("f1", "wrong frame", near) is None
    assert mean("f1", "wrong frame", ONE) == 0


def test_f1_overpays_no_probe() -> None:
    paid = run_probes([ONE, TWO, NONE], [build_reward("f1")])["rewards"]["f1"]["probes"]
    assert {name: row["overpaid"] for name, row in paid.items() if row["overpaid"]} == {}
    assert {name: row["underpaid"] for name, row in paid.items() if row["underpaid"]} == {}


def test_ap_is_known_to_overpay() -> None:
    paid = run_probes([ONE], [build_reward("ap")])["rewards"]["ap"]["probes"]
    assert {name for name, row in paid.items() if row["overpaid"]} == {
        "junk last",
        "duplicates",
        "near-duplicates",
        "invented label",
        "every label",
        "repeated",
    }


@pytest.mark.parametrize("name", REWARDS)
def test_no_probe_of_any_reward_earns_more_than_gold(name: str) -> None:
    paid = run_probes([ONE, TWO, NONE], [build_reward(name)], margin=-1e-9)
    rows = paid["rewards"][name]["probes"].values()
    assert [row["overpaid"] for row in rows] == [0] * len(PROBES)


def test_several_rewards_are_also_summed() -> None:
    results = run_probes([ONE], build_rewards(["f1", "format", "choice"]))
    assert results["rewards"]["sum"]["probes"]["gold"]["mean"] == 2.0
    assert results["rewards"]["choice"]["zero_variance"] == ["one"]
    assert results["rewards"]["f1"]["zero_variance"] == []


def test_questions_are_left_out() -> None:
    assert run_probes([ONE, COUNTING], [build_reward("f1")])["n"] == 1


def test_the_same_seed_draws_the_same_junk() -> None:
    first, second = (run_probes([TWO], [build_reward("dense_f1")], seed=3) for _ in range(2))
    assert first == second
