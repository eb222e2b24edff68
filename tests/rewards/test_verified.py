"""The reward of a second look: by hand, and who asks for it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from boxrl.config import Recipe
from boxrl.data.samples import render_sample
from boxrl.errors import UsageError
from boxrl.families import FAMILIES
from boxrl.parsing import parse
from boxrl.rewards import Reward, score
from boxrl.rewards.trl import TRLReward
from boxrl.rewards.verified import verified
from boxrl.types import Completion, Detections, Object, Sample, Target

CAT = Object((10.0, 10.0, 50.0, 50.0), "cat")
SAMPLE = Sample("1", "1.jpg", 100, 100, "detection", ("cat",), (CAT,))
TARGET = Target.from_sample(SAMPLE)


def answer(*boxes: tuple[float, ...]) -> str:
    rows = [{"bbox_2d": box, "label": "cat"} for box in boxes]
    return f"<answer>{json.dumps(rows) if rows else 'None'}</answer>"


def paid(text: str, looks: tuple[float, ...] | None, target: Target = TARGET) -> float | None:
    parsed = parse(text, FAMILIES["plain"], (100, 100))
    return verified(Completion(text, parsed, box_verify=looks), target)


@pytest.mark.parametrize(
    ("text", "looks", "value"),
    [
        (answer(CAT.bbox), (0.9,), 0.9),
        (answer(CAT.bbox, (0, 0, 9, 9)), (0.9, 0.2), 0.55),
        (answer(CAT.bbox, (200, 200, 300, 300)), (0.9,), 0.45),  # no image can show it
        (answer(), (), 0.5),
        ("<answer>{</answer>", (), 0.0),
        (answer(CAT.bbox), None, None),
    ],
)
def test_by_hand(text: str, looks: tuple[float, ...] | None, value: float | None) -> None:
    assert paid(text, looks) == (None if value is None else pytest.approx(value))


def test_where_the_boxes_lie_is_not_asked_but_whether_boxes_are() -> None:
    elsewhere = Target.from_objects([Object((60.0, 60.0, 90.0, 90.0), "dog")])
    assert paid(answer(CAT.bbox), (0.9,), elsewhere) == 0.9
    counting = Target(Detections(np.zeros((0, 4)), ()), answer="3")
    assert paid(answer(CAT.bbox), (0.9,), counting) is None


def test_trl_has_all_boxes_of_a_batch_looked_at_in_one_call() -> None:
    calls = []

    def look(asked):  # type: ignore[no-untyped-def]
        calls.append([(sample.id, boxes.boxes.tolist(), boxes.labels) for sample, boxes in asked])
        return [[0.8] * len(boxes) for _, boxes in asked]

    reward = TRLReward("verified", "plain", verifier=look)
    texts = [answer(CAT.bbox, (200, 200, 300, 300)), answer(), "nothing"]
    line = render_sample(SAMPLE)
    assert reward(texts, [line] * 3, [[1]] * 3) == [0.4, 0.5, 0.0]
    assert calls == [[("1", [list(CAT.bbox)], ("cat",)), ("1", [], ()), ("1", [], ())]]
    assert reward.__name__ == "verified"


def test_without_anyone_to_ask_it_is_refused() -> None:
    with pytest.raises(UsageError, match="asks another model about each box"):
        TRLReward(Reward("verified", verified), "plain")
    with pytest.raises(UsageError, match="asks another model about each box"):
        score([answer(CAT.bbox)], [[]], ["format", {"name": "verified"}])


@pytest.mark.parametrize(
    ("rewards", "verifier", "why"),
    [
        (["verified"], None, "reward 'verified' needs a verifier"),
        (["f1"], {"model": "tiny"}, "verifier is for reward 'verified'"),
        ([{"name": "verified", "model": "tiny"}], {"model": "tiny"}, "has no argument 'model'"),
        (["verified"], {"model": "tiny", "family": "qwen"}, "unknown family"),
    ],
)
def test_a_recipe_names_the_verifier_with_the_reward(rewards, verifier, why) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=why):
        Recipe.model_validate(
            {"name": "x", "method": "grpo", "data": {"synthetic": {}}, "rewards": rewards,
             "verifier": verifier}
        )  # fmt: skip
