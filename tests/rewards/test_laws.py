"""Laws that every entry of REWARDS obeys, with any completion against any target."""

import json
import math
import operator
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxrl.families import FAMILIES, Family
from boxrl.parsing import parse
from boxrl.prompts import PROMPTS, Prompt, render_target
from boxrl.rewards import RANGES, REWARDS, build_reward
from boxrl.types import Completion, Detections, Object, Sample, Target

SIZE = (640, 480)
BOX = operator.attrgetter("bbox")
LABELS = st.sampled_from(["cat", "dog", "Traffic  Light", "traffic light", "日本", ""])
NUMBERS = st.one_of(st.integers(), st.floats(), st.integers(-10, 700), st.booleans(), st.none())
ITEMS = st.fixed_dictionaries(
    {"bbox_2d": st.lists(NUMBERS, min_size=3, max_size=5), "label": LABELS}
)
JSON = st.recursive(
    st.one_of(NUMBERS, st.text(max_size=9), ITEMS),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(max_size=9), inner)),
    max_leaves=8,
)
PIECES = st.sampled_from(
    ["<think>", "</think>", "<answer>", "</answer>", "```json", "```", "None", "[", "]", "{", "}"]
)
ANSWERS = st.one_of(
    st.lists(ITEMS, max_size=8).map(json.dumps),
    JSON.map(json.dumps),
    st.lists(ITEMS, max_size=4).map(lambda items: json.dumps(items)[:-3]),
    st.sampled_from(["None", "none.", "[]", "4", "red circle", "4" * 5000, "[" * 5000]),
    st.text(),
)
COMPLETIONS = st.one_of(
    ANSWERS.map(lambda answer: f"<think>a b c</think>\n<answer>{answer}</answer>"),
    ANSWERS,
    st.lists(st.one_of(PIECES, ANSWERS), max_size=9).map("".join),
)


@st.composite
def objects(draw: Any) -> Object:
    """Boxes with whole coordinates, from one pixel to the whole image."""
    x, y = draw(st.integers(0, SIZE[0] - 1)), draw(st.integers(0, SIZE[1] - 1))
    width, height = draw(st.integers(1, SIZE[0] - x)), draw(st.integers(1, SIZE[1] - y))
    return Object((float(x), float(y), float(x + width), float(y + height)), draw(LABELS))


@st.composite
def samples(draw: Any) -> Sample:
    """Detection samples with distinct objects, negatives among them, region and counting ones."""
    task = draw(st.sampled_from(["detection", "detection", "grounding", "region", "counting"]))
    found = draw(st.lists(objects(), max_size=6, unique_by=BOX))
    question = task in ("region", "counting")
    answer = {"region": "red circle", "counting": "4"}.get(task)
    labels = tuple(dict.fromkeys(item.label for item in found)) or ("cat",)
    return Sample(
        id="1",
        image="1.jpg",
        width=SIZE[0],
        height=SIZE[1],
        task=task,
        labels=labels,
        objects=() if question else tuple(found),
        question="what?" if question else None,
        answer=answer,
    )


def read(text: str, name: str = "", family: Family = FAMILIES["plain"]) -> Completion:
    """As the prompts that go with the reward of that name have it read."""
    parsed = parse(text, family, SIZE, answer_tag=prompt_of(name).answer_tag)
    return Completion(text, parsed, n_tokens=0, progress=0.0)


def prompt_of(name: str) -> Prompt:
    return PROMPTS[{"native_format": "qwen-native", "calibrated": "scored"}.get(name, "standard")]


def gold(sample: Sample, name: str) -> Completion:
    return read(render_target(sample, FAMILIES["plain"], prompt=prompt_of(name)), name)


@pytest.mark.parametrize("name", REWARDS)
@given(sample=samples())
def test_the_gold_answer_scores_its_maximum(name: str, sample: Sample) -> None:
    value = REWARDS[name](gold(sample, name), Target.from_sample(sample))
    if name in ("choice", "count") or sample.answer is not None:
        assert value is None or value == RANGES[name][1]
    else:
        assert value == pytest.approx(RANGES[name][1], abs=1e-12)


@pytest.mark.parametrize("name", REWARDS)
@given(text=COMPLETIONS, sample=samples())
@settings(max_examples=60)
def test_any_text_scores_in_range_and_never_above_gold(
    name: str, text: str, sample: Sample
) -> None:
    target = Target.from_sample(sample)
    value = REWARDS[name](read(text, name), target)
    best = REWARDS[name](gold(sample, name), target)
    low, high = RANGES[name]
    assert (value is None) == (best is None)  # whether it applies depends on the target alone
    if value is not None and best is not None:
        assert math.isfinite(value)
        assert low <= value <= high
        assert value <= best + 1e-12


@pytest.mark.parametrize("name", REWARDS)
@given(text=COMPLETIONS, sample=samples())
@settings(max_examples=20)
def test_the_same_input_gives_the_same_value(name: str, text: str, sample: Sample) -> None:
    values = [REWARDS[name](read(text, name), Target.from_sample(sample)) for _ in range(2)]
    assert values[0] == values[1]


@pytest.mark.parametrize("name", REWARDS)
def test_a_reward_pickles_with_its_settings(name: str) -> None:
    reward = build_reward(name)
    assert pickle.loads(pickle.dumps(reward)) == reward


LOCALIZATION = [
    "ap", "ap50", "od_length", "weighted_sum", "iou", "f1", "progressive_f1", "dense_f1",
]  # fmt: skip


@pytest.mark.parametrize("name", LOCALIZATION)
@pytest.mark.parametrize(
    ("text", "boxes", "expected"),
    [
        ("<answer>None</answer>", 0, 1.0),  # both sides empty
        ("<answer>[]</answer>", 0, 1.0),
        ("<answer>None</answer>", 1, 0.0),  # one side empty
        ('<answer>[{"bbox_2d": [0, 0, 9, 9], "label": "cat"}]</answer>', 0, 0.0),
        ("<answer>no idea</answer>", 0, 0.0),  # cannot be read, on negatives too
        ("<answer>no idea</answer>", 1, 0.0),
        ("None", 0, 0.0),  # no answer tag
        ('[{"bbox_2d": [0, 0, 9, 9], "label": "cat"}]', 1, 0.0),
        ('<answer>[{"bbox_2d": [0, 0, 9, 9], "label": "cat"}]</answer>', 1, 1.0),
    ],
)
def test_empty_and_unreadable_answers(name: str, text: str, boxes: int, expected: float) -> None:
    target = Target(Detections(np.array([[0.0, 0, 9, 9]] * boxes).reshape(-1, 4), ("cat",) * boxes))
    assert REWARDS[name](read(text), target) == pytest.approx(expected)


@given(
    st.lists(objects(), min_size=1, max_size=6, unique_by=BOX), st.randoms(use_true_random=False)
)
@pytest.mark.parametrize("name", ["f1", "progressive_f1", "dense_f1"])
def test_rewards_free_of_order(name: str, found: list[Object], rng: Any) -> None:
    target = Target(Detections.from_objects(found))
    moved = [
        Object((x1, y1, x2 + 3, y2 + 2), item.label)
        for item in found
        for x1, y1, x2, y2 in [item.bbox]
    ]
    shuffled = rng.sample(moved, len(moved))
    values = [REWARDS[name](Completion("", parse_of(items)), target) for items in (moved, shuffled)]
    assert values[0] == pytest.approx(values[1])


def parse_of(items: list[Object]) -> Any:
    rows = [{"bbox_2d": item.bbox, "label": item.label} for item in items]
    return parse(f"<answer>{json.dumps(rows)}</answer>", FAMILIES["plain"], None)


@given(st.lists(objects(), min_size=1, max_size=6, unique_by=BOX), st.integers(1, 5))
@pytest.mark.parametrize("name", ["f1", "od_length", "dense_f1", "weighted_sum", "repetition"])
def test_duplicates_cost(name: str, found: list[Object], copies: int) -> None:
    target = Target(Detections.from_objects(found))
    perfect, spammed = (
        REWARDS[name](Completion("", parse_of(items)), target)
        for items in (found, found + found[:1] * copies)
    )
    assert spammed is not None
    assert perfect is not None
    assert spammed < perfect - 0.01


@given(st.lists(objects(), max_size=5, unique_by=BOX), objects())
@pytest.mark.parametrize("name", [*LOCALIZATION, "absent_labels"])
def test_boxes_in_a_crowd_region_are_neither_right_nor_wrong(
    name: str, found: list[Object], region: Object
) -> None:
    crowd = Object(region.bbox, "crowded", iscrowd=True)
    target = Target.from_objects([*found, crowd])
    inside = Object(region.bbox, "Crowded")
    said, more = parse_of(found), parse_of([*found, inside])
    values = [REWARDS[name](Completion("", parsed), target) for parsed in (said, more)]
    assert values[0] == values[1] == pytest.approx(max(RANGES[name]))
    if found:  # of another label than the region's it is wrong as ever
        plain = Target.from_objects(found)
        wrong = [REWARDS[name](Completion("", more), seen) for seen in (target, plain)]
        assert wrong[1] is not None
        assert wrong[0] >= wrong[1]
