"""Which tokens carry a box: coordinates of kept boxes only, in emission order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxrl.families import FAMILIES, Family, build_family
from boxrl.generation.box_logprobs import Token, box_logprobs, find_coordinates, place_tokens
from boxrl.parsing import parse
from boxrl.prompts import render_answer
from boxrl.types import Detections, Sample

PLAIN = build_family("plain")
SIZE = (100, 100)
SAMPLE = Sample("1", "1.png", *SIZE, "detection", ("a", "b"))


def characters(text: str) -> list[Token]:
    """One token per character; its log-probability says where it stands."""
    return [Token(c, -float(k)) for k, c in enumerate(text)]


def written(text: str, family: Family = PLAIN) -> list[list[str]]:
    """The coordinates that were found, as they are written."""
    spans = find_coordinates(text, parse(text, family, SIZE, answer_tag="optional"))
    assert spans is not None
    return [[text[start:end] for start, end in box] for box in spans]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('<answer>[{"bbox_2d": [1, 2, 3, 4], "label": "a"}]</answer>', [["1", "2", "3", "4"]]),
        ("<answer>None</answer>", []),
        ("no answer at all, 1 2 3 4", []),
        (  # a draft before the answer, a remark behind it
            '[1, 2, 30, 40] <answer>[{"bbox_2d": [1, 2, 30, 40], "label": "a"}]</answer> 9',
            [["1", "2", "30", "40"]],
        ),
        (  # items that the parser drops: no label, three numbers, no area, outside the image
            '<answer>[{"bbox_2d": [1, 2, 3, 4]}, {"bbox_2d": [5, 6, 7], "label": "a"}, '
            '{"bbox_2d": [5, 5, 5, 9], "label": "a"}, {"bbox_2d": [11, 12, 13, 14], "label": "a"},'
            '{"bbox_2d": [200, 200, 300, 300], "label": "a"}]</answer>',
            [["11", "12", "13", "14"]],
        ),
        (  # cut JSON: the complete item counts
            '<answer>[{"bbox_2d": [1, 2, 3, 4], "label": "2 cats"}, {"bbox_2d": [5, 6',
            [["1", "2", "3", "4"]],
        ),
        (  # numbers in labels, floats, corners in the wrong order, equal boxes
            '[{"bbox_2d": [9, 8.50, 3, 4e0], "label": "7 8 9"}, '
            '{"label": "1", "bbox_2d": [1, 2, 3, 4]}, {"label": "1", "bbox_2d": [1, 2, 3, 4]}]',
            [["9", "8.50", "3", "4e0"], ["1", "2", "3", "4"], ["1", "2", "3", "4"]],
        ),
    ],
)
def test_coordinates_of_kept_boxes_are_found(text: str, expected: list[list[str]]) -> None:
    assert written(text) == expected


def test_the_last_array_counts_where_an_earlier_one_holds_the_same_box() -> None:
    item = '[{"bbox_2d": [1, 2, 3, 4], "label": "a"}]'
    text = f"<answer>{item} no, rather: {item}</answer>"
    spans = find_coordinates(text, parse(text, PLAIN, SIZE))
    assert spans is not None
    assert spans[0][0][0] == text.rindex("1, 2")


boxes = st.lists(
    st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(60, 100)] * 2), min_size=1, max_size=5
)


@given(boxes, st.sampled_from(sorted(FAMILIES)))
def test_every_family_one_number_per_box_in_emission_order(
    found: list[tuple[int, int, int, int]], name: str
) -> None:
    family = FAMILIES[name]
    detections = Detections(np.array(found, dtype=float), ("a cat 5",) * len(found))
    text = f"<think>3 boxes</think><answer>{render_answer(detections, family, SIZE)}</answer>"
    means = box_logprobs(text, characters(text), family, SAMPLE)
    parsed = parse(text, family, SIZE)
    spans = find_coordinates(text, parsed)
    assert means is not None and spans is not None
    assert len(means) == len(parsed.detections)
    for mean, box in zip(means, spans, strict=True):
        places = [k for start, end in box for k in range(start, end)]
        assert mean == pytest.approx(-sum(places) / len(places))
    assert list(means) == sorted(means, reverse=True)


@given(st.text(max_size=200))
def test_any_text_gets_as_many_numbers_as_boxes_or_none(text: str) -> None:
    means = box_logprobs(text, characters(text), PLAIN, SAMPLE)
    if means is not None:
        assert len(means) == len(parse(text, PLAIN, SIZE, answer_tag="optional").detections)


def test_tokens_that_hold_a_digit_count_with_their_glue() -> None:
    text = '[{"bbox_2d": [1, 2, 3, 45], "label": "a"}]'
    pieces = ('[{"bbox_2d": [', "1", ", 2", ", ", "3", ", 4", "5", '], "label": "', "a", '"}]')
    tokens = [Token(piece, -float(2**k)) for k, piece in enumerate(pieces)]
    expected = -(2 + 4 + 16 + 32 + 64) / 5
    assert box_logprobs(text, tokens, PLAIN, SAMPLE) == pytest.approx((expected,))


def test_tokens_that_left_no_text_are_passed_over() -> None:
    text = "中a 1"
    pieces = ["<|begin|>", "\ufffd", "\ufffd", "\ufffd", "a", "1", "<|im_end|>", ""]
    spans = place_tokens(text, [Token(piece, 0.0) for piece in pieces])
    assert [text[start:end] for start, end in spans] == ["", "", "", "", "a", "1", "", ""]


def test_tokens_that_do_not_cover_a_box_give_nothing() -> None:
    text = '[{"bbox_2d": [1, 2, 3, 4], "label": "a"}]'
    assert box_logprobs(text, [Token("other", -1.0)], PLAIN, SAMPLE) is None
