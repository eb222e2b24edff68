"""What gamed answers earn: the published functions beside boxrl, the table of docs/rewards.md."""

import json

import pytest

from boxrl.rewards import score

CAT = {"bbox": [100, 100, 300, 260], "label": "cat"}
RIGHT = {"bbox_2d": CAT["bbox"], "label": "cat"}
JUNK = [{"bbox_2d": [400 + k, 300, 420 + k, 330], "label": "cat"} for k in range(30)]
INVENTED = [{**item, "label": "dragon"} for item in JUNK]

PUBLISHED = ("od_ap", "odLength", "weighted_sum")
NAMES = ("ap", "od_length", "weighted_sum", "f1")


def fenced(*items: object) -> str:
    return f"```json\n{json.dumps(items)}\n```"


CASES = {
    "right": (fenced(RIGHT), [CAT], (1, 1, 1), (1, 1, 1, 1)),
    "junk last": (fenced(RIGHT, *JUNK), [CAT], (1, 0.032, 0.855), (1, 0.032, 0.855, 0.063)),
    "junk first": (
        fenced(*JUNK, RIGHT),
        [CAT],
        (0.032, 0.001, 0.855),
        (0.032, 0.001, 0.855, 0.063),
    ),
    "invented": (fenced(*INVENTED, RIGHT), [CAT], (1, 0.032, 0.855), (1, 0.032, 0.855, 0.063)),
    "twice": (fenced(RIGHT, RIGHT), [CAT], (1, 0.5, 0.925), (1, 0.5, 0.925, 0.667)),
    "wrong label": (fenced({**RIGHT, "label": "dog"}), [CAT], (0, 0, 0.3), (0, 0, 0.3, 0)),
    "negative, broken": ('```json\n[{"bbox_2d": [1, 2,]\n```', [], (1, 1, 0), (0, 0, 0, 0)),
    "negative, prose": ("I see a cat everywhere", [], (1, 1, 0), (0, 0, 0, 0)),
    "no fence": (json.dumps([RIGHT]), [CAT], (0, 0, 0), (1, 1, 1, 1)),
    "case": (fenced({**RIGHT, "label": "Cat"}), [CAT], (0, 0, 1), (1, 1, 1, 1)),
}


def earned(case: str) -> tuple[float | None, ...]:
    answer, objects, _, _ = CASES[case]
    values = score([f"<think>a</think><answer>{answer}</answer>"], [objects], NAMES)
    return tuple(values[name][0] for name in NAMES)


@pytest.mark.parametrize("case", CASES)
def test_what_gamed_answers_earn(case: str) -> None:
    assert earned(case) == pytest.approx(CASES[case][3], abs=6e-4)


@pytest.mark.parametrize("reward", ["ap", "od_length", "weighted_sum"])
def test_boxrl_pays_no_gamed_answer_more_than_the_published_code(reward: str) -> None:
    index = NAMES.index(reward)
    honest = {"right", "no fence", "case"}
    for case in CASES.keys() - honest:
        assert (earned(case)[index] or 0.0) <= CASES[case][2][index] + 6e-4, case


def test_the_published_cosine_pays_wrong_and_overlong_answers() -> None:
    texts = ["<answer>None</answer>", f"<answer>{fenced(RIGHT)}</answer>"]
    lengths = [100, 2048]
    fixed = score(texts, [[CAT]] * 2, ["cosine"], n_tokens=lengths)["cosine"]
    always = score(
        texts, [[CAT]] * 2, [{"name": "cosine", "correctness": "always"}], n_tokens=lengths
    )["cosine"]
    assert fixed == pytest.approx([-0.488, 0.5], abs=6e-4)  # published: .988 and 1.0
    assert always == pytest.approx([0.988, 0.5], abs=6e-4)


def test_jittered_copies_cost_where_near_iou_says_so() -> None:
    copies = [{"bbox_2d": [100 + k % 2, 100, 300, 260 + k // 2], "label": "cat"} for k in range(30)]
    text = f"<answer>{fenced(*copies)}</answer>"
    exact = score([text], [[CAT]], ["repetition"])["repetition"]
    near = score([text], [[CAT]], [{"name": "repetition", "near_iou": 0.8}])["repetition"]
    assert exact == [0.0]  # as published
    assert near == pytest.approx([-29 / 30])
