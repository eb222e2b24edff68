"""Reading that forgives, for evaluation: quotes, commas, numbers as text, other keys."""

import time

import pytest

from boxrl.families import FAMILIES
from boxrl.parsing import parse
from boxrl.parsing.scores import written_scores
from boxrl.types import Asked

PLAIN = FAMILIES["plain"]
CAT = ([1.0, 2.0, 30.0, 40.0], "cat")


def read(answer, reading, family=PLAIN, labels=("cat", "dog")):
    parsed = parse(answer, family, (100, 100), None, "optional", Asked(labels), reading)
    return list(zip(parsed.detections.boxes.tolist(), parsed.detections.labels, strict=True))


@pytest.mark.parametrize(
    "answer",
    [
        "[{'bbox_2d': [1, 2, 30, 40], 'label': 'cat'}]",  # Python's quotes
        '[{"bbox": [1, 2, 30, 40], "label": "cat"}]',
        '[{"box": [1, 2, 30, 40], "class": "cat"}]',
        '[{"box_2d": [1, 2, 30, 40], "name": "cat"}]',
        "[{'Position': [1, 2, 30, 40], 'category': 'cat', 'Confidence': 0.9}]",
        '[{"bbox_2d": [1, 2, 30, 40], "label": "cat",}]',  # a comma too many
        '[{"bbox_2d": [1, 2, 30, 40], "label": "cat"},]',
        '[{"bbox_2d": [1, 2, 30, 40] "label": "cat"}]',  # one too few
        '[{"bbox_2d": ["1", "2", "30", "40"], "label": "cat"}]',
        '[{"bbox_2d": [[1, 2, 30, 40]], "label": "cat"}]',
        '[{"bbox_2d": [[1, 2], [30, 40]], "label": "cat"}]',
        '[{"bbox_2d": [1, 2, 30, 40], "label": "cat", "note": "the "red" one"}]',
    ],
)
def test_what_is_nearly_json_is_read(answer):
    assert read(answer, "tolerant") == [CAT]


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("'label': ['dog']", []),
        ("'label': ['cat', 'dog']", []),
        ("'label': 3", []),
        ("'class_name': 'dog'", []),
        ("'labels': 'dog'", []),
        ("'label': ''", ["cat"]),
        ("'label': None", ["cat"]),
    ],
)
def test_another_name_than_the_only_label_asked_for_is_not_that_label(written, found):
    answer = f"[{{'bbox_2d': [1, 2, 30, 40], {written}}}]"
    assert [label for _, label in read(answer, "tolerant", labels=("cat",))] == found


@pytest.mark.parametrize("numbers", ["1,000, 2, 30", "1,050, 2, 30", "20, 1,000, 30"])
def test_a_comma_inside_of_a_number_parts_no_two(numbers):
    assert read(f'[{{"bbox_2d": [{numbers}], "label": "cat"}}]', "tolerant") == []


def test_strict_is_the_default():
    answer = "[{'bbox_2d': [1, 2, 30, 40], 'label': 'cat'}]"
    assert read(answer, "strict") == []
    assert parse(answer, PLAIN, (100, 100), answer_tag="optional").status == "malformed"


def test_a_score_stays_beside_its_box():
    answer = "[{'bbox': [1, 2, 30, 40], 'label': 'cat', 'Confidence': 0.9}]"
    asked = Asked(("cat",))
    parsed = parse(answer, PLAIN, (100, 100), None, "optional", asked, "tolerant")
    assert written_scores(parsed) == (0.9,)


@pytest.mark.parametrize("quote", ["'", '"', ""])
@pytest.mark.parametrize("end", ["", ","])
def test_a_key_that_stands_twice_is_left_to_the_strict_reader(quote, end):
    twice = '"bbox_2d": [1, 2, 30, 40], "label": "cat", "bbox_2d": [5, 6, 70, 80]'
    answer = "[{" + twice.replace('"', quote) + end + "}]"
    assert read(answer, "tolerant") == []


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("'child's toy'", "child's toy"),
        ("'it's, a: cat'", "it's, a: cat"),
        ('"12" pipe"', '12" pipe'),
        ("'the 'cat''", "the 'cat'"),
        (r"'a \"big\" cat'", 'a "big" cat'),
    ],
)
def test_quotes_inside_a_label_are_its_own_and_the_closing_one_is_not(written, label):
    box = "'bbox_2d': [1, 2, 30, 40]"
    for answer in (f"{{{box}, 'label': {written}}}", f"{{'label': {written}, {box}}}"):
        assert read(answer, "tolerant") == [(CAT[0], label)]


def test_several_boxes_of_one_label_are_as_many_items():
    answer = '[{"label": "cat", "bbox_2d": [[1, 2, 30, 40], [5, 6, 70, 80]]}]'
    assert read(answer, "tolerant") == [CAT, ([5, 6, 70, 80], "cat")]


def test_the_order_of_axes_stays_the_family_s():
    answer = '[{"bbox": [20, 10, 400, 300], "label": "cat"}]'
    assert read(answer, "tolerant", FAMILIES["gemma"]) == [([1, 2, 30, 40], "cat")]


def test_a_box_without_a_label_still_needs_one():
    answer = "[{'Position': [1, 2, 30, 40]}]"
    assert read(answer, "tolerant") == []
    assert read(answer, "tolerant", labels=("cat",)) == [CAT]


@pytest.mark.parametrize(
    "answer",
    [
        '[{"bbox_2d": [1, 2, 30, 40], "label": "cat"}]',
        "```json\n[]\n```",
        "None",
        "no cat",
        '[{"bbox_2d": [1, 2, 30, 40], "label": "ca}t"}]',
        '[{"bbox_2d": [1, 2, 30, 40], "label": "{cat}"}, {"bbox_2d": [1, 2, 3, 4], "label": "}"}]',
        '{"a": 1}',
        '[{"bbox_2d": [1, 2, 30], "label": "cat"}]',
    ],
)
def test_it_reads_what_the_strict_reader_reads(answer):
    assert read(answer, "tolerant") == read(answer, "strict")


@pytest.mark.parametrize("piece", [':"', '[}"a": }', '["', "['", '{"', "{'a' ", "\\" + "' \"\":'"])
def test_hostile_text_takes_bounded_time(piece):
    text = "{" + piece * 4000 + "}" + ("{" + piece * 8 + "}") * 200
    start = time.process_time()
    read(text, "tolerant")
    assert time.process_time() - start < 3
