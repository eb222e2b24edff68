"""Scores that stand beside boxes in an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxrl.families import FAMILIES
from boxrl.parsing import parse
from boxrl.parsing.scores import written_scores
from boxrl.types import Asked

A, B = [0, 0, 40, 40], [50, 50, 90, 90]


def read(answer: str, family: str = "plain", **options: Any) -> tuple[float | None, ...]:
    text = f"<answer>{answer}</answer>"
    return written_scores(parse(text, FAMILIES[family], (100, 100), **options))


def item(box: list[int], label: str = "cat", **more: Any) -> dict[str, Any]:
    return {"bbox_2d": box, "label": label, **more}


@pytest.mark.parametrize(
    ("answer", "scores"),
    [
        (json.dumps([item(A, score=0.9), item(B, confidence=0.2)]), (0.9, 0.2)),
        (json.dumps([item(A), item(B, score=1)]), (None, 1.0)),
        (json.dumps([item(A, score=1.5), item(B, score="0.5")]), (None, None)),  # no shares
        (json.dumps([item(A, score=True), item(B, score=-0.1)]), (None, None)),
        (json.dumps({"boxes": [item(A, score=0.3)]}), (0.3,)),
        (f"```json\n{json.dumps([item(A, score=0.3)])}\n```", (0.3,)),
        (json.dumps([item(A, score=0.3), item(B, score=0.4)])[:-5], (0.3,)),  # cut
        # a revision replaces: the score is that of the later array
        (f"{json.dumps([item(A, score=0.1)])} no, {json.dumps([item(A, score=0.8)])}", (0.8,)),
        (json.dumps([item([5, 5, 5, 9], score=0.1), item(B, score=0.2)]), (0.2,)),  # no area
        (json.dumps([item(A, score=0.9, parts=[item(B, score=0.4)])]), (0.9, 0.4)),
        ("None", ()),
        ("no idea", ()),
    ],
)
def test_a_score_belongs_to_its_box(answer: str, scores: tuple[float | None, ...]) -> None:
    assert read(answer) == scores


def test_families_with_a_syntax_of_their_own_state_none() -> None:
    text = "<ref>cat</ref><box>[[0, 0, 400, 400]]</box>"
    parsed = parse(text, FAMILIES["internvl"], (100, 100), answer_tag="optional",
                   asked=Asked(("cat",)))  # fmt: skip
    assert len(parsed.detections) == 1
    assert written_scores(parsed) == (None,)


ITEMS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(41, 99), st.one_of(st.none(), st.floats(0, 1))),
    max_size=6,
)


@given(ITEMS)
def test_scores_come_back_as_written(items: list[tuple[int, int, float | None]]) -> None:
    rows = [item([a, a, b, b], **({} if s is None else {"score": s})) for a, b, s in items]
    assert read(json.dumps(rows)) == tuple(s for _, _, s in items)


@given(st.text(alphabet='[]{}",:0123456789. bboxlabelscore_2d', max_size=200))
def test_any_text_has_as_many_scores_as_boxes(text: str) -> None:
    parsed = parse(f"<answer>{text}</answer>", FAMILIES["plain"], (100, 100))
    assert len(written_scores(parsed)) == len(parsed.detections)
