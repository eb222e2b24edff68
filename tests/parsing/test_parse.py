"""Reading completions: statuses, repairs, and text that means harm."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxrl.errors import UsageError
from boxrl.families import FAMILIES
from boxrl.parsing import parse
from boxrl.types import Asked, fold_label

PLAIN = FAMILIES["plain"]
CAT = '{"bbox_2d": [1, 2, 3, 4], "label": "cat"}'
DOG = '{"bbox_2d": [5, 6, 7, 8], "label": "dog"}'


@pytest.mark.parametrize(
    ("completion", "status", "labels"),
    [
        (f"<answer>[{CAT}]</answer>", "ok", ["cat"]),
        (f"<answer>```json\n[{CAT}, {DOG}]\n```</answer>", "ok", ["cat", "dog"]),
        (f"<answer>[{CAT}]</answer> no, <answer>[{DOG}]</answer>", "ok", ["dog"]),  # the last
        (f"<answer>[{CAT}] or [{DOG}]</answer>", "ok", ["cat", "dog"]),  # an array per label
        (f"<answer>[{CAT}, {DOG}", "missing", []),  # no closing tag
        (f"<answer>[{CAT}, {DOG[:20]}</answer>", "partial", ["cat"]),  # cut JSON
        (f'<answer>[{CAT}, {{"label": "dog"}}]</answer>', "partial", ["cat"]),  # no box
        ("<answer>None</answer>", "empty", []),
        ("<answer>none.</answer>", "empty", []),
        ("<answer>```json\nNone\n```</answer>", "empty", []),
        ("<answer>[]</answer>", "empty", []),
        ("<answer>a cat on the left</answer>", "malformed", []),
        ('<answer>[{"bbox_2d": [NaN, 2, 3, 4], "label": "cat"}]</answer>', "malformed", []),
        ('<answer>[{"bbox_2d": [true, 2, 3, 4], "label": "cat"}]</answer>', "malformed", []),
        (f"[{CAT}]", "missing", []),
        ("", "missing", []),
    ],
)
def test_status_and_labels(completion, status, labels):
    parsed = parse(completion, PLAIN, (100, 100))
    assert (parsed.status, list(parsed.detections.labels)) == (status, labels)


@pytest.mark.parametrize("rule", [{"answer_tag": "optinal"}, {"reading": "lenient"}])
def test_a_rule_that_there_is_not_is_refused(rule):
    with pytest.raises(UsageError, match="expected one of required, optional, and of strict, tol"):
        parse(f"[{CAT}]", PLAIN, None, **rule)


@pytest.mark.parametrize("size_wh", [None, (0, 9), (9,), "9x9", (float("nan"), 9), ("9", "9")])
def test_boxes_are_not_placed_in_an_image_of_no_size(size_wh):
    with pytest.raises(UsageError, match=r"\(width, height\)"):
        parse(f"<answer>[{CAT}]</answer>", FAMILIES["qwen3-vl"], size_wh)


@pytest.mark.parametrize("asked", ["cat", Asked("cat"), Asked(("cat",), "Grounding")])
def test_labels_that_are_no_asked_are_refused(asked):
    """The letters of a word are no labels, and a task of another name would ask for boxes."""
    with pytest.raises(UsageError, match=r"asked: expected an Asked, .* got .*cat"):
        parse("<answer>None</answer>", "plain", (100, 100), asked=asked)


def test_what_is_no_text_is_refused():
    with pytest.raises(UsageError, match="expected the text of an answer, got NoneType"):
        parse(None, "plain", (100, 100))


def test_without_tags_the_whole_text_is_read_where_that_is_allowed():
    assert parse(f"[{CAT}]", PLAIN, (100, 100), answer_tag="optional").status == "ok"


@pytest.mark.parametrize("text", ["<answer>{}", "{}</answer>", "<think>a</think><answer>\n{}"])
def test_one_answer_tag_alone_is_no_part_of_the_answer(text):
    for family, answer, status, labels in [
        (PLAIN, "None", "empty", ()),
        (PLAIN, f"[{CAT}]", "ok", ("cat",)),
        (FAMILIES["paligemma"], "<loc0001><loc0002><loc0030><loc0040> cat", "ok", ("cat",)),
        (FAMILIES["internvl"], "cat[[1, 2, 30, 40]]", "ok", ("cat",)),
    ]:
        parsed = parse(text.format(answer), family, (100, 100), answer_tag="optional")
        assert (parsed.status, parsed.detections.labels) == (status, labels)
        assert parse(text.format(answer), family, (100, 100)).status == "missing"


def test_flipped_corners_are_ordered_and_counted_and_flat_boxes_dropped():
    items = '[{"bbox_2d": [30, 40, 10, 20], "label": "a"}, {"bbox_2d": [5, 5, 5, 9], "label": "b"}]'
    parsed = parse(f"<answer>{items}</answer>", PLAIN, (100, 100))
    assert parsed.detections.boxes.tolist() == [[10, 20, 30, 40]]
    assert (parsed.flipped, parsed.dropped, parsed.status) == (1, 1, "ok")


def test_boxes_are_clipped_to_the_image():
    text = '<answer>[{"bbox_2d": [-5, 10, 300, 90], "label": "a"}]</answer>'
    assert parse(text, PLAIN, (200, 50)).detections.boxes.tolist() == [[0, 10, 200, 50]]


HOSTILE = {
    "brackets": "[" * 1_000_000,
    "bracket pairs": "[]" * 500_000,
    "nested arrays": "[" * 500_000 + "]" * 500_000,
    "braces": "[" + "{" * 1_000_000,
    "parentheses": "(" * 1_000_000,
    "half boxes": "(1,2),(" * 150_000,
    "box openings": "<box>[[" * 150_000,
    "spaces": "( " * 500_000,
    "one number": "(" + "1" * 1_000_000,
    "commas": "[[1," * 250_000,
    "locations": "<loc" * 250_000,
    "location tokens": "<loc0001>" * 110_000 + "<loc",
    "references": "<|object_ref_start|>" * 50_000,
    "markers": "<|" * 500_000,
    "coordinates": "<box><1>" + "<100>" * 200_000,
    "blocks": "<|box_start|>" * 80_000,
    "blanks in a block": "<box>" + " " * 1_000_000,
    "detections": "<|det|>[[1, 2, " * 70_000,
    "names": "<ref>" * 200_000,
    "labels of names": "<|ref|>" + "a" * 1_000_000,
    "bins": "<loc_1>" * 150_000 + "<loc_",
    "points": '<points coords="1 ' * 60_000,
    "answers": "<answer>" * 120_000,
    "quotes": '["' * 500_000,
}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_megabyte_of_anything_is_read_in_linear_time(family, kind):
    hostile = HOSTILE[kind]
    took, parsed = _time_to_read(hostile, family)
    if took >= 0.25:  # a slow machine: what is linear takes ten times a tenth's, not a hundred
        assert took < 20 * _time_to_read(hostile[: len(hostile) // 10], family)[0]
    assert took < 1
    assert parsed.detections.boxes.shape[1] == 4


def _time_to_read(hostile, family):
    """The least of three processor times, for the machine may be busy; and the answer as read."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        parsed = parse(f"<answer>{hostile}</answer>", family, (640, 480))
        best = min(best, time.process_time() - start)
        if best < 0.25:
            break
    return best, parsed


PIECES = st.sampled_from(
    ["[", "]", "{", "}", "(", ")", ",", ":", "<answer>", "</answer>", "<box>", "</box>", "<ref>"]
    + ["<|box_start|>", "<|object_ref_start|>", "<|object_ref_end|>", "<loc0001>", "<loc", "None"]
    + ["<|box_end|>", "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<loc_7>", "<12>", "</ref>"]
    + ['<points coords="1 1 300 400">', "</points>", "</s>"]
    + ['"bbox_2d"', '"label"', '"cat"', "1", "2.5", "-3", "1e999", "NaN", "```json", "\\", '"', " "]
)


@given(pieces=st.lists(PIECES, max_size=60), family=st.sampled_from(list(FAMILIES.values())))
def test_any_text_is_read_without_an_error_and_stays_in_the_image(pieces, family):
    parsed = parse(f"<answer>{''.join(pieces)}</answer>", family, (64, 48))
    boxes = parsed.detections.boxes
    assert np.isfinite(boxes).all()
    assert (boxes >= 0).all()
    assert (boxes <= [64, 48, 64, 48]).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()


@given(pieces=st.lists(PIECES, max_size=20), fence=st.sampled_from(["", "```json\n", "```"]))
def test_an_array_alone_reads_like_one_behind_words(pieces, fence):
    answer = f"{fence}[{''.join(pieces)}]{fence and '```'}"
    alone, behind = (
        parse(text, FAMILIES["plain"], (64, 48), None, "optional")
        for text in (answer, f"So: {answer}")
    )
    assert alone.items == behind.items
    assert (alone.status, alone.dropped) == (behind.status, behind.dropped)


@pytest.mark.parametrize("other", ["cafe\u0301", "CAF\u00c9", " caf\u00e9\n"])
def test_a_label_is_the_same_however_its_letters_are_encoded(other):
    assert fold_label(other) == fold_label("caf\u00e9")
