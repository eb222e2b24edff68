"""Marker syntaxes: which words name a box."""

import pytest

from boxrl.families import FAMILIES
from boxrl.parsing import parse
from boxrl.types import Asked

ECHO = (
    "Please detect and label all <ref>car</ref>,<ref>truck</ref>,<ref>bus</ref> in the image.\n"
    "Assistant: car[[75, 658, 250, 871], [286, 558, 444, 711]]\n"
    "truck[[440, 208, 502, 255]]\nbus[[500, 244, 616, 363]]"
)
GLM = "<|begin_of_box|>[[110, 147, 193, 823]]<|end_of_box|>"
GLM_OTHER = "<|begin_of_box|>[[190, 330, 313, 852]]<|end_of_box|>"


@pytest.mark.parametrize(
    ("family", "asked", "answer", "labels"),
    [
        ("internvl", ("car", "truck", "bus"), ECHO, ["car", "car", "truck", "bus"]),
        ("internvl", ("a", "b"), "<ref>a</ref><box>[[1, 2, 30, 40]]</box>", ["a"]),
        ("internvl", ("a", "b"), "Sure: <ref>a</ref><box>[[1, 2, 30, 40]]</box>.", ["a"]),
        ("internvl", ("a", "b"), "a[[1, 2, 30, 40]], b[[3, 4, 50, 60]]", ["a", "b"]),
        ("internvl", ("a",), "<box>[[1, 2, 30, 40]]</box>", ["a"]),
        ("internvl", ("a", "b"), "<box>[[1, 2, 30, 40]]</box>", [""]),
        ("glm-4v", ("cat",), f"The cats are at {GLM}.", ["cat"]),
        ("glm-4v", ("cat", "dog"), f"cat: {GLM}\ndog: {GLM_OTHER}", ["cat", "dog"]),
        ("glm-4v", ("cat",), GLM * 3, ["cat"]),  # the same block again and again
        ("glm-4v", ("cat",), "<|begin_of_box|>(1,2),(30,40)<|end_of_box|>", ["cat"]),
    ],
)
def test_the_words_nearest_to_a_box_name_it(family, asked, answer, labels):
    parsed = parse(answer, FAMILIES[family], (640, 480), None, "optional", Asked(asked))
    assert list(parsed.detections.labels) == labels


@pytest.mark.parametrize("between", [",", ", ", ",\n "])
@pytest.mark.parametrize("family", ["qwen2-vl", "glm-4v"])
def test_four_corners_are_no_two_boxes(family, between):
    outline = between.join(["(100,100)", "(300,120)", "(310,400)", "(90,380)"])
    parsed = parse(f"cat: {outline}", FAMILIES[family], (640, 480), None, "optional")
    assert not len(parsed.detections)
    assert parsed.status == "malformed"
    beside = f"cat: {outline}; cat: (1,2),(30,40)"
    parsed = parse(beside, FAMILIES[family], (640, 480), None, "optional")
    assert len(parsed.detections) == 1
    assert (parsed.status, parsed.dropped) == ("partial", 1)
