"""Containers that models put their boxes into, and what is passed over in them."""

import pytest

from boxrl.families import FAMILIES
from boxrl.parsing import parse
from boxrl.types import Asked

PLAIN = FAMILIES["plain"]
A, B = (f'{{"bbox_2d": [{x}, 2, 30, 40], "label": "cat"}}' for x in (1, 5))
D, E = (f'{{"bbox_2d": [{x}, 2, 30, 40], "label": "dog"}}' for x in (3, 7))
BARE = '{"bbox_2d": [1, 2, 30, 40]}'


def read(answer, asked=None):
    parsed = parse(f"<answer>{answer}</answer>", PLAIN, (100, 100), asked=asked)
    found = zip(parsed.detections.boxes[:, 0], parsed.detections.labels, strict=True)
    return parsed, [f"{label} {int(x)}" for x, label in found]


@pytest.mark.parametrize(
    ("answer", "found", "dropped", "status"),
    [
        (A, ["cat 1"], 0, "ok"),  # one bare object
        (f"```json\n{A}\n```", ["cat 1"], 0, "ok"),
        (f"{A}]", ["cat 1"], 0, "ok"),  # the opening bracket is lost
        (f"{A}\n{D}", ["cat 1", "dog 3"], 0, "ok"),  # JSON lines
        (f"{A},\n{D}", ["cat 1", "dog 3"], 0, "ok"),
        (f"1. {A}\n2. {B}", ["cat 1", "cat 5"], 0, "ok"),  # objects always add up
        (f"[{A}]\n[{D}]", ["cat 1", "dog 3"], 0, "ok"),  # side by side
        (f"[{A}], [{B}]", ["cat 1", "cat 5"], 0, "ok"),  # the same label, side by side
        (f"```json\n[{A}]\n```\n```json\n[{B}]\n```", ["cat 1", "cat 5"], 0, "ok"),
        (f"Cats: [{A}, {B}]\nDogs: [{D}]", ["cat 1", "cat 5", "dog 3"], 0, "ok"),  # per class
        (f"Cats: [{A}]\nDogs: []", ["cat 1"], 0, "ok"),
        (f"[{A}, {D}], no: [{B}]", ["dog 3", "cat 5"], 0, "ok"),  # a revision of the cats
        (f"[{A}, {D}], that is [{A}, {D}]", ["cat 1", "dog 3"], 0, "ok"),  # a repetition
        (f"[{A}] and {B}", ["cat 1", "cat 5"], 0, "ok"),
        (f"{A}, I am [0.9] sure", ["cat 1"], 1, "ok"),
        (f"[{A}] [1]", ["cat 1"], 1, "ok"),
        (f"[{A}] []", ["cat 1"], 0, "ok"),  # a box, then `[]`: no box is taken back
        (f"[[{A}], [{D}]]", ["cat 1", "dog 3"], 0, "ok"),  # a list of lists
        (f'{{"boxes": [{A}, {D}]}}', ["cat 1", "dog 3"], 0, "ok"),
        (f'{{"result": {{"boxes": [{A}], "count": 1}}}}', ["cat 1"], 0, "ok"),
        (f"I see {{x}} cats: [{A}]", ["cat 1"], 0, "ok"),  # braces of prose
        (f"see [the image]: [{A}]", ["cat 1"], 0, "ok"),  # brackets of prose
        (f"[{A}, 5]", ["cat 1"], 1, "partial"),
        (f'[{A}, {{"label": "dog"}}]', ["cat 1"], 1, "partial"),
        (f"[{A} {D}]", ["cat 1", "dog 3"], 0, "partial"),  # no comma
        (f"[{A}, {D}", ["cat 1", "dog 3"], 0, "partial"),  # cut behind an item
        (f"[{A}, {D[:20]}", ["cat 1"], 1, "partial"),  # cut in an item
        (f'{{"boxes": [{A}, {D[:20]}', ["cat 1"], 2, "partial"),
        (f"[{A}, {D}], no: [{B}, {E[:20]}", ["dog 3", "cat 5"], 1, "partial"),
        ("[]", [], 0, "empty"),
        ("There is none: []", [], 0, "empty"),
        ('{"boxes": []}', [], 0, "empty"),
        ("[1]", [], 1, "malformed"),
        ("[1, 2, 30, 40]", [], 1, "malformed"),  # in grounding alone a box
        (BARE, [], 1, "malformed"),  # no label, and none is known
        (f"1. [{A}]\n2. [{B}]", ["cat 1", "cat 5"], 0, "ok"),  # numbers are no words
        (f"```JSON\n[{A}]\n```\n```JSON\n[{B}]\n```", ["cat 1", "cat 5"], 0, "ok"),
        (f"```jsonl\n{A}\n```\nno:\n```jsonl\n[{B}]\n```", ["cat 5"], 0, "ok"),
        (f'{{"boxes": [{A}, {D}]}}, no: {{"boxes": [{B}]}}', ["dog 3", "cat 5"], 0, "ok"),
        (f'{A[:-1]}, "parts": [{D}], "color": {{"name": "red"}}}}', ["cat 1", "dog 3"], 0, "ok"),
        (f'[{{"label": "cat", "boxes": [{BARE}, {D}]}}]', ["cat 1", "dog 3"], 0, "ok"),
        (f'{A[:-1]}, "parts": [{BARE}]}}', ["cat 1"], 1, "partial"),
        ('[{"cat": [[1, 2, 30, 40]]}, {"dog": [[3, 2, 30, 40]]}]', ["cat 1", "dog 3"], 0, "ok"),
        (f"[{A[1:]}, {D}]", ["dog 3"], 1, "partial"),  # a brace is lost
        (f"[{A}] [1, 2, 30, 40]", ["cat 1"], 1, "partial"),
        # A key twice: nobody knows which box was meant, and none is lost without a word.
        (f'[{{"bbox_2d": [1, 2, 9, 9], "label": "cat", {BARE[1:]}]', [], 3, "malformed"),
        (f'[{A}, {{"label": "dog", {A[1:]}]', ["cat 1"], 2, "partial"),
        ('{"cat": [[1, 2, 30, 40]], "cat": [[5, 2, 30, 40]]}', [], 3, "malformed"),
        # Beside what cannot be read, an empty list does not say that nothing is there.
        ('{"bbox": [1, 2, 30, 40], "label": "cat", "attributes": []}', [], 1, "malformed"),
        ('dogs: []\ncats: [{"bbox": [1, 2, 30, 40]}]', [], 1, "malformed"),
        ('{"dog": [], "cat": [1, 2, 30, 40]}', [], 1, "malformed"),
        ("dogs: []\ncats: [[1, 2, 30, 40]]", [], 1, "malformed"),
        ("dogs: []\ncats: [[1, 2, 30]]", [], 1, "malformed"),
        ("dogs: []\ncats: [[1, 2, 30", [], 0, "malformed"),
        ("dogs: []\ncats: [", [], 0, "malformed"),
        ("dogs: []\ncats: [[1, 2, 30,]]", [], 0, "malformed"),
        ('{"dog": [], "cat": "[1, 2, 30, 40]"}', [], 0, "malformed"),
        ('{"boxes": [], "note": "a cat at x1=1, y1=2, x2=30, y2=40"}', [], 0, "malformed"),
        ("dogs: []\ncats: (1, 2, 30, 40)", [], 0, "malformed"),
        ("cats: 1, 2, 30, 40\ndogs: []", [], 0, "malformed"),
        ("dogs: []\ncat<loc0001><loc0002><loc0030><loc0040>", [], 0, "malformed"),
        ('{"boxes": [], "count": 0, "size": "640 x 480"}', [], 0, "empty"),
        ("1. []\n2. []\n3. []\n4. []", [], 0, "empty"),
        ("[[]]", [], 0, "empty"),
        ('[{"bbox_2d": []}]', [], 0, "empty"),
        ('[{"bbox_2d": [], "label": "cat"}]', [], 1, "malformed"),
        (f'[{{"bbox_2d": [], "label": "cat"}}, {D}]', ["dog 3"], 1, "partial"),
        ('{"bbox_2d": [], "label": "cat", "bbox": [1, 2, 30, 40]}', [], 1, "malformed"),
        ('{"cat": [[1, 2, 30, 40]], "dog": null}', ["cat 1"], 0, "ok"),
        ('{"cat": [[1, 2, 30, 40]], "dog": "None."}', ["cat 1"], 0, "ok"),
        ('{"cat": [[1, 2, 30, 40]], "dog": "there"}', [], 1, "malformed"),
        ("of [the image]: []", [], 0, "empty"),
        ('of ["cat", "dog"], [0.9] sure: []', [], 2, "empty"),
    ],
)
def test_boxes_are_read_from_any_container(answer, found, dropped, status):
    parsed, boxes = read(answer)
    assert (boxes, parsed.dropped, parsed.status) == (found, dropped, status)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (BARE, ["the cat 1"]),
        (f"[{BARE}]", ["the cat 1"]),
        ('[{"bbox_2d": [1, 2, 30, 40], "label": ""}]', ["the cat 1"]),
        ("[1, 2, 30, 40]", ["the cat 1"]),
        ("The box is [1, 2, 30, 40].", ["the cat 1"]),
        ("[[1, 2, 30, 40], [5, 2, 30, 40]]", ["the cat 1", "the cat 5"]),
        ("[[1, 2, 30, 40], [5, 2, 3", ["the cat 1"]),
        ("[1, 2, 30]", []),
        ("{'bbox_2d': [1, 2, 30, 40]}", ["the cat 1"]),
        ("{'xywh': [1, 2, 30, 40]}", []),  # nor is it read from JSON
        ("{xywh: [1, 2, 30, 40]}", []),
        ("[{'n': 1, 'xywh': [1, 2, 30, 40]}, {'xywh': [5, 2, 30, 40]}]", []),
        ("{the box}: [1, 2, 30, 40]", ["the cat 1"]),
        (r"\boxed{[1, 2, 30, 40]}", ["the cat 1"]),
        (f"[{A}]", ["cat 1"]),  # what is named keeps its name
        ("1, 2, 30, 40", ["the cat 1"]),
        ("1 2 30 40", ["the cat 1"]),
        ("**(1, 2, 30, 40)**", ["the cat 1"]),
        ("The box is (1, 2, 30, 40).", ["the cat 1"]),
        ("(1, 2, 30, 40), (5, 2, 30, 40)", ["the cat 1", "the cat 5"]),
        ("(1, 2, 30, 40), no: (5, 2, 30, 40)", ["the cat 5"]),
        ("[1, 2, 30, 40], no: [5, 2, 30, 40]", ["the cat 5"]),
        ("1, 2, 30, 40, 50", []),
        ("(1, 2), (30, 40)", []),
        ("1,200, 2, 30, 40", []),
        ("the 1, 2, 30, 40", []),
        ("{'xywh': (1, 2, 30, 40)}", []),
    ],
)
def test_grounding_needs_no_label_and_no_object(answer, found):
    assert read(answer, Asked(("the cat",), "grounding"))[1] == found


@pytest.mark.parametrize(
    ("labels", "found"), [(("cat",), ["cat 1"]), (("cat", "dog"), []), ((), [])]
)
def test_a_box_without_a_label_has_the_only_one_that_was_asked_for(labels, found):
    assert read(f"[{BARE}]", Asked(labels))[1] == found
    assert read("[1, 2, 30, 40]", Asked(labels))[1] == []  # detection answers with objects


def test_numbers_that_the_end_may_have_cut_are_no_box():
    asked = Asked(("the cat",), "grounding")
    for text, found in [("1, 2, 30, 4", 0), ("(1, 2, 30, 4", 0), ("at (1, 2, 30, 40)", 1)]:
        parsed = parse(text, PLAIN, (100, 100), None, "optional", asked)
        assert len(parsed.detections) == found


def test_a_label_around_a_box_is_its_own():
    """Else the only one that was asked for would take its place, and be paid."""
    answer = f'{{"label": "dog", "boxes": [{BARE}]}}'
    assert read(answer, Asked(("cat",)))[1] == ["dog 1"]


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ('"class": "dog"', []),
        ('"name": "Cat"', ["cat 1"]),
        ('"note": "dog"', ["cat 1"]),
        ('"Label": "dog"', []),
        ('"object": "dog"', []),
        ('"class_name": "dog"', []),
        ('"labels": ["dog"]', []),
        ('"labels": ["cat"]', ["cat 1"]),
        ('"object": 1', ["cat 1"]),
    ],
)
def test_a_label_under_another_key_is_not_the_one_asked_for(more, found):
    answer = f"[{BARE[:-1]}, {more}}}]"
    assert read(answer, Asked(("cat",)))[1] == found
    assert read(answer, Asked(("the cat",), "grounding"))[1] == ["the cat 1"]  # not compared


def test_items_stand_under_labels_that_were_asked_for():
    answer = f'{{"cat": [{BARE}], "Dog": {BARE}, "others": [{BARE}]}}'
    for labels in (("cat", "dog"), ("cat",)):  # "Dog" was not asked for, and is no cat
        parsed, found = read(answer, Asked(labels))
        assert (found, parsed.status) == (["cat 1", "Dog 1", "others 1"], "ok")


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ('{"objects": [BARE]}', "cat"),
        ('{"detected_items": {"1": BARE}}', "cat"),
        ('{"cats": [BARE]}', "cat"),
        ('{"cat": {"left": BARE}}', "cat"),
        ('{"label": "cat", "instances": {"left": BARE}}', "cat"),
        ('{"dog": [BARE]}', "dog"),  # else the only one asked for would take it, and be paid
        ('{"dog": {"boxes": [BARE]}}', "dog"),
        ('{"results": {"dog": [BARE]}}', "dog"),
        ('[{"dog_1": BARE}]', "dog_1"),
    ],
)
def test_a_key_around_a_box_that_is_no_word_for_boxes_names_it(answer, label):
    assert read(answer.replace("BARE", BARE), Asked(("cat",)))[1] == [f"{label} 1"]


def test_a_key_around_the_box_of_a_grounding_answer_does_not_name_it():
    """Labels are not compared there, and rewards of boxes and labels would not pay."""
    assert read(f'{{"dog": [{BARE}]}}', Asked(("the cat",), "grounding"))[1] == ["the cat 1"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("a cat on the left", "no JSON"),
        ("[{'bbox_2d': [1, 2, 30, 40], 'label': 'cat'}]", "broken JSON"),
        ('[{"bbox_2d": [1, 2, 30, 40], "label": "c', "broken JSON"),
        ('[{"bbox": [1, 2, 30, 40], "label": "cat"}]', "no bbox_2d"),
        (f"[{BARE}]", "no label"),
        ('[{"bbox_2d": [1, 2, 30], "label": "cat"}]', "bbox_2d is not four finite numbers"),
        (
            '[{"bbox_2d": ["1", "2", "30", "40"], "label": "cat"}]',
            "bbox_2d is not four finite numbers",
        ),
        ('[{"bbox_2d": [[1, 2, 30, 40]], "label": "cat"}]', "bbox_2d is not four finite numbers"),
        ('[{"bbox_2d": [1, 2, 30, 1e999], "label": "cat"}]', "bbox_2d is not four finite numbers"),
        ("[0.9]", "brackets without boxes"),
    ],
)
def test_an_unreadable_answer_says_why(answer, reason):
    parsed, found = read(answer)
    assert (found, parsed.status, parsed.reason) == ([], "malformed", reason)
