"""Format, short answers, length, repetition, absent labels, progress."""

import json
from typing import Any

import numpy as np
import pytest

from boxrl.families import FAMILIES
from boxrl.parsing import parse
from boxrl.rewards import build_reward
from boxrl.types import Completion, Detections, Target

CAT = '{"bbox_2d": [0, 0, 100, 100], "label": "cat"}'
NEAR = '{"bbox_2d": [0, 0, 100, 101], "label": "Cat"}'
DOG = '{"bbox_2d": [0, 0, 100, 101], "label": "dog"}'
TARGET = Target(Detections(np.array([[0.0, 0, 100, 100]]), ("cat",)))


def read(text: str, **fields: Any) -> Completion:
    return Completion(text, parse(text, FAMILIES["plain"], None), **fields)


def value(spec: Any, text: str, target: Target = TARGET, **fields: Any) -> float | None:
    return build_reward(spec)(read(text, **fields), target)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>a</think><answer>b</answer>", 1),
        (" \n<think>a\nb</think>\n\n<answer>b</answer>\n", 1),  # white space around and between
        ("<think></think><answer></answer>", 1),
        ("<think>a</think> so <answer>b</answer>", 0),  # text between
        ("Sure: <think>a</think><answer>b</answer>", 0),  # text before
        ("<think>a</think><answer>b</answer>.", 0),  # text after
        ("<answer>b</answer><think>a</think>", 0),  # wrong order
        ("<think>a</think><answer>b</answer><answer>c</answer>", 0),  # two answers
        ("<think>a</think></think><answer>b</answer>", 0),  # a stray tag
        ("<think>a<answer></think>b</answer>", 0),  # crossed tags
        ("<think>a</think><answer>b", 0),  # cut
        ("<think>a</think>", 0),
        ("", 0),
    ],
)
def test_format(text: str, expected: float) -> None:
    assert value("format", text) == expected


@pytest.mark.parametrize(
    ("answer", "right", "expected"),
    [
        ("red circle", "red circle", 1),
        (" Red  Circle. ", "red circle", 1),
        ("B", "B", 1),
        ("a red circle", "red circle", 0),
        ("It is <|begin_of_box|>red circle<|end_of_box|>.", "red circle", 1),
        ("<|end_of_box|>red circle<|begin_of_box|>", "red circle", 0),
        ("", "red circle", 0),
    ],
)
def test_choice(answer: str, right: str, expected: float) -> None:
    target = Target(TARGET.detections, right)
    assert value("choice", f"<answer>{answer}</answer>", target) == expected


@pytest.mark.parametrize(
    ("text", "right", "expected"),
    [
        ("<answer>4</answer>", "4", 1),
        ("<answer> 04. </answer>", "4", 1),
        ("<answer>0</answer>", "0", 1),
        ("<answer><|begin_of_box|>4<|end_of_box|></answer>", "4", 1),
        ("<answer><|begin_of_box|>4<|end_of_box|><|begin_of_box|>5<|end_of_box|></answer>", "4", 0),
        ("<answer>-4</answer>", "4", 0),
        ("<answer>4.0</answer>", "4", 0),
        ("<answer>four</answer>", "4", 0),
        ("<answer>\u0664</answer>", "4", 0),  # an Arabic digit
        ("<answer>" + "9" * 100_000 + "</answer>", "4", 0),
        ("4", "4", 0),  # no answer tag
        ("<answer>4</answer>", "four", None),  # not a number: does not apply
    ],
)
def test_count(text: str, right: str, expected: float | None) -> None:
    assert value("count", text, Target(TARGET.detections, right)) == expected


def test_box_rewards_do_not_apply_to_questions() -> None:
    target = Target(TARGET.detections, "red circle")
    names = ("ap", "f1", "weighted_sum", "cosine", "absent_labels")
    assert {value(name, "<answer>x</answer>", target, n_tokens=1) for name in names} == {None}


@pytest.mark.parametrize(
    ("n_tokens", "right", "wrong"),
    [(0, 1.0, -0.5), (512, 0.75, -0.25), (1024, 0.5, 0.0), (2048, 0.5, 0.0)],  # flat beyond
)
def test_cosine(n_tokens: int, right: float, wrong: float) -> None:
    answers = f"<answer>[{CAT}]</answer>", "<answer>None</answer>"
    values = [value("cosine", answer, n_tokens=n_tokens) for answer in answers]
    assert values == pytest.approx([right, wrong])


def test_cosine_variants() -> None:
    wrong, right = "<answer>None</answer>", f"<answer>[{CAT}]</answer>"
    always = {"name": "cosine", "correctness": "always"}
    assert value(always, wrong, n_tokens=512) == pytest.approx(0.75)
    paper = {
        "name": "cosine",
        "max_length": 14336,
        "correct": [2, 1],
        "wrong": [-10, 0],
        "exceed": -10,
    }
    assert [value(paper, right, n_tokens=n) for n in (0, 7168, 14336)] == pytest.approx(
        [2, 1.5, -10]
    )
    assert value(paper, wrong, n_tokens=0) == -10
    assert value("cosine", right) is None  # tokens were not counted


@pytest.mark.parametrize(
    ("spec", "text", "expected"),
    [
        ("repetition", f"<answer>[{CAT}, {DOG}]</answer>", 0.0),
        ("repetition", f"<answer>[{CAT}, {CAT}, {CAT}, {DOG}]</answer>", -0.5),
        ("repetition", f"<answer>[{CAT}, {NEAR}]</answer>", 0.0),
        ({"name": "repetition", "near_iou": 0.95}, f"<answer>[{CAT}, {NEAR}]</answer>", -0.5),
        ({"name": "repetition", "near_iou": 0.95}, f"<answer>[{CAT}, {DOG}]</answer>", 0.0),
        ({"name": "repetition", "near_iou": 0.95}, f"<answer>[{CAT}, {CAT}]</answer>", -0.5),
        ("repetition", "a b c d e", 0.0),  # under six words
        ("repetition", "A b c d e f a B c d e f", -1 / 7),  # seven 6-grams, two equal
        ("repetition", "", 0.0),
    ],
)
def test_repetition(spec: Any, text: str, expected: float) -> None:
    assert value(spec, text) == pytest.approx(expected)


def test_near_repetitions_of_many_boxes_are_found_across_blocks() -> None:
    items = [
        {"bbox_2d": [100 * k, 0, 100 * k + 90, 90 + jitter], "label": "cat"}
        for jitter in (0, 1)
        for k in range(400)
    ]
    text = f"<answer>{json.dumps(items)}</answer>"
    assert value({"name": "repetition", "near_iou": 0.95}, text) == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"<answer>[{CAT}]</answer>", 0.0),
        (f"<answer>[{CAT}, {NEAR}, {DOG}, {DOG}]</answer>", -0.5),
        ("<answer>None</answer>", 0.0),
        ("nothing", 0.0),
    ],
)
def test_absent_labels(text: str, expected: float) -> None:
    assert value("absent_labels", text) == expected


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 1.0), (0.49, 1.0), (0.5, 0.0), (1.0, 0.0), (None, 0.0)]
)
def test_progressive_f1_gets_stricter(progress: float | None, expected: float) -> None:
    loose = '<answer>[{"bbox_2d": [0, 0, 100, 60], "label": "cat"}]</answer>'  # IoU .6
    assert value("progressive_f1", loose, progress=progress) == expected
