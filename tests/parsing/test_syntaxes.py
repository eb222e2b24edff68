"""Marker syntaxes: which words name a box."""

import numpy as np
import pytest

from boxrl.families import FAMILIES
from boxrl.parsing import parse
from boxrl.prompts import render_answer
from boxrl.types import Asked, Detections

ECHO = (
    "Please detect and label all <ref>car</ref>,<ref>truck</ref>,<ref>bus</ref> in the image.\n"
    "Assistant: car[[75, 658, 250, 871], [286, 558, 444, 711]]\n"
    "truck[[440, 208, 502, 255]]\nbus[[500, 244, 616, 363]]"
)
GLM = "<|begin_of_box|>[[110, 147, 193, 823]]<|end_of_box|>"
BLOCK = "<|begin_of_box|>[[1, 2, 3, 4]]<|end_of_box|>"
GROUNDED = Asked(("cat",), "grounding")
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
        ("glm-4v", ("cat",), f"cat: {GLM}\ndog: {GLM_OTHER}", ["cat", "dog"]),
        ("glm-4v", ("cat",), f"The box: {GLM}\nThe other: {GLM_OTHER}", ["cat", "cat"]),
        ("glm-4v", ("cat",), GLM * 3, ["cat"]),  # the same block again and again
        ("glm-4v", ("cat",), "<|begin_of_box|>(1,2),(30,40)<|end_of_box|>", ["cat"]),
        ("glm-4v", ("cat",), "<|begin_of_box|><1,2,30,40><|end_of_box|>" * 2, ["cat"]),
        ("glm-4v", ("cat",), "<|begin_of_box|>({1, 2, 30, 40})<|end_of_box|>", ["cat"]),
        ("glm-4v", ("cat",), "<|begin_of_box|>1, 2, 30, 40<|end_of_box|>", ["cat"]),
        ("glm-4v", ("cat",), "<|begin_of_box|>None.<|end_of_box|>", []),
        ("glm-4v", ("cat",), "The cats (1, 2, 3, 4) hide.", []),
        ("internvl", ("a", "b"), "- **a**: [[1, 2, 30, 40]]\n- `b`: [[3, 4, 50, 60]]", ["a", "b"]),
        ("internvl", ("a",), '<box>[{"bbox_2d": [1, 2, 30, 40], "label": "a"}]</box>', ["a"]),
        ("internvl", ("a", "b"), "<ref>a</ref> is at <box>[[1, 2, 30, 40]]</box>", ["a"]),
        ("internvl", ("a", "b"), "<ref>a</ref>\n<box>[[1, 2, 30, 40]]</box>", ["a"]),
        ("internvl", ("a", "b"), "1. a: [[1, 2, 30, 40]]\n2. b: [[3, 4, 50, 60]]", ["a", "b"]),
        ("internvl", ("a", "b"), "[[1, 2, 30, 40]]\na: [[3, 4, 50, 60]]\nThat is all.", ["", "a"]),
        ("internvl", ("a", "b"), "a:\n1. [1, 2, 30, 40]\n2. [3, 4, 50, 60]", ["", ""]),
        ("internvl", ("a", "b"), "| a | [1, 2, 30, 40] |\n| b | [3, 4, 50, 60] |", ["a", "b"]),
        ("deepseek-vl2", ("a", "b"), "<|ref|>a<|/ref|><|det|>[[1e2, 2, 300]]<|/det|>", []),
        ("minicpm-v-4.5", ("a", "b"), "<ref>a</ref><box>x1 10 y1 20</box>", []),
        ("internvl", ("\u732b", "b"), "\u732b\uff1a[[1, 2, 30, 40]]", ["\u732b"]),
        ("glm-4v", ("\u732b", "b"), f"\u732b\uff1a{GLM}", ["\u732b"]),
        ("glm-4v", ("a", "b"), f"1. **a:** {GLM}\n2. b: {GLM_OTHER}", ["a", "b"]),
        ("qwen2-vl", ("a",), '[{"bbox_2d": "(1,2),(30,40)", "label": "a"}]', []),
        ("paligemma", ("a",), "<loc0001><loc0002><loc0030><loc0040><seg001><seg127> a<eos>", ["a"]),
        ("paligemma", ("a",), "<loc0001><loc0002><loc0030><loc0040> a<eos><pad><pad>", ["a"]),
        ("florence-2", ("a",), "a<loc_1><loc_2><loc_3><loc_4><and><loc_5><loc_6><loc_7><loc_8>",
         ["a", "a"]),
    ],
)  # fmt: skip
def test_the_words_nearest_to_a_box_name_it(family, asked, answer, labels):
    parsed = parse(answer, FAMILIES[family], (640, 480), None, "optional", Asked(asked))
    assert list(parsed.detections.labels) == labels
    if not labels:
        assert parsed.status == ("empty" if "None" in answer else "malformed")


@pytest.mark.parametrize(
    "answer",
    [
        "BOX cat, BOX dog",
        "BOX: cat\nBOX: dog",
        "1. BOX - cat\n2. BOX - dog",
        "MARKED<ref>cat</ref>MARKED<ref>dog</ref>",
    ],
)
@pytest.mark.parametrize(
    ("family", "box", "marked"),
    [
        ("internvl", "[1, 2, 30, 40]", "<box>[[1, 2, 30, 40]]</box>"),
        ("qwen2-vl", "(1,2),(30,40)", "<|box_start|>(1,2),(30,40)<|box_end|>"),
    ],
)
def test_words_behind_a_box_do_not_name_the_next(answer, family, box, marked):
    text = answer.replace("BOX", box).replace("MARKED", marked)
    for asked, labels in [(("cat", "dog"), ("", "")), (("cat",), ("cat", "cat"))]:
        parsed = parse(text, family, (640, 480), None, "optional", Asked(asked))
        assert parsed.detections.labels == labels


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("minicpm-v-4.5", "<box>1 2 30 40</box><ref>cat</ref><box>3 4 50 60</box><ref>dog</ref>"),
        (
            "deepseek-vl2",
            "<|det|>[[1, 2, 30, 40]]<|/det|><|ref|>cat<|/ref|>"
            "<|det|>[[3, 4, 50, 60]]<|/det|><|ref|>dog<|/ref|>",
        ),
        ("florence-2", "<loc_1><loc_2><loc_30><loc_40>cat<loc_3><loc_4><loc_50><loc_60>dog</s>"),
        ("paligemma", "cat <loc0001><loc0002><loc0030><loc0040> dog <loc0003><loc0004><loc0050>"
         "<loc0060>"),
    ],
)  # fmt: skip
def test_labels_on_the_other_side_of_their_boxes_name_none(family, text):
    parsed = parse(text, family, (640, 480), None, "optional", Asked(("cat", "dog")))
    assert parsed.detections.labels == ("", "")


@pytest.mark.parametrize(
    ("family", "box"), [("internvl", "[[1, 2, 30, 40]]"), ("qwen2-vl", "(1,2),(30,40)")]
)
def test_words_of_a_grounding_answer_are_no_label(family, box):
    """One thing was asked for; a label between markers is still what the model says that it is."""
    opening, closing = {
        "internvl": ("<ref>", "</ref>"), "qwen2-vl": ("<|object_ref_start|>", "<|object_ref_end|>"),
    }[family]  # fmt: skip
    asked = Asked(("the red car",), "grounding")
    for text, label in [
        (f"The box of the red car is {box}.", "the red car"),
        (f"{opening}a bus{closing}{box}", "a bus"),
    ]:
        parsed = parse(text, family, (640, 480), None, "optional", asked)
        assert parsed.detections.labels == (label,)
    parsed = parse(f"a bus {box}", family, (640, 480), None, "optional", Asked(("car",)))
    assert parsed.detections.labels == ("a bus",)  # one of which was asked for could be another


@pytest.mark.parametrize(
    ("family", "answer"),
    [
        ("internvl", "The sofa is at [500, 400, 900, 900], so the cat is at [1, 2, 3, 4]."),
        ("internvl", "[500, 400, 900, 900], no: [1, 2, 3, 4]."),
        ("internvl", "cat: [1, 2, 3, 4], beside the sofa: [500, 400, 900, 900]"),
        ("qwen2-vl", "The sofa is at (500,400),(900,900), so the cat is at (1,2),(3,4)."),
        ("glm-4v", f"left of the sofa at [500, 400, 900, 900]. {BLOCK}"),
        ("glm-4v", f"{BLOCK} is left of the sofa at [500, 400, 900, 900]."),
    ],
)
def test_a_grounding_answer_counts_where_it_says_the_thing_is(family, answer):
    parsed = parse(answer, FAMILIES[family], (1000, 1000), None, "optional", GROUNDED)
    assert (parsed.status, parsed.detections.labels) == ("ok", ("cat",))
    assert parsed.detections.boxes == pytest.approx(np.array([[1, 2, 3, 4]]), rel=0.01)


def test_a_frame_told_of_beside_glms_block_is_no_box():
    asked = Asked(("cat",), "detection")
    text = f"{BLOCK} I gave boxes normalized to [0, 0, 1000, 1000]."
    parsed = parse(text, FAMILIES["glm-4v"], (1000, 1000), None, "optional", asked)
    assert (parsed.status, len(parsed.detections)) == ("ok", 1)
    beside = parse("cat: [1, 2, 3, 4]", FAMILIES["glm-4v"], (1000, 1000), None, "optional", asked)
    assert beside.detections.labels == ("cat",)


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


@pytest.mark.parametrize(
    ("family", "nothing", "box"),
    [
        ("minicpm-v-4.5", "<ref>a</ref><box>none</box>", "<ref>b</ref><box>10 20 300</box>"),
        ("deepseek-vl2", "<|det|>[]<|/det|>", "<|det|>[[10, 20, 300]]<|/det|>"),
        ("locateanything", "<ref>a</ref><box>none</box>", "<ref>b</ref><box><1><2><3></box>"),
        ("glm-4v", "<|begin_of_box|>[]<|end_of_box|>", "<|begin_of_box|>[[10, 20, 30"),
        (
            "glm-4v",
            "<|begin_of_box|>[]<|end_of_box|>",
            "<|begin_of_box|>[[10, 20, 30]]<|end_of_box|>",
        ),
        ("internvl", "<ref>a</ref><box>[]</box>", "<ref>b</ref><box>[[10, 20, 30]]</box>"),
        ("internvl", "<ref>a</ref><box>[]</box>", "<ref>b</ref><box>(1,2),(30,40)</box>"),
    ],
)
def test_beside_a_broken_box_nothing_is_not_all_that_is_said(family, nothing, box):
    """A negative sample would pay for it."""
    for text, status in [(nothing, "empty"), (nothing + box, "malformed"), (box, "malformed")]:
        assert parse(text, family, (640, 480), None, "optional").status == status


@pytest.mark.parametrize(("between", "dropped"), [(", [16 42, 9, 8]", 1), ("]</box> in [2026]", 0)])
def test_boxes_in_brackets_that_cannot_be_read_are_counted(between, dropped):
    text = f"<ref>a</ref><box>[[1, 2, 30, 40]{between}"
    parsed = parse(f"{text}]</box>", "internvl", (640, 480), None, "optional", Asked(("a", "b")))
    assert (parsed.detections.labels, parsed.dropped) == (("a",), dropped)


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("internvl", "<ref>a</ref><box>[[1, 2, 30, 40], [5, 6, 70, 80]]</box>"),
        ("glm-4v", "a: <|begin_of_box|>[[1, 2, 30, 40], [5, 6, 70, 80]]<|end_of_box|>"),
        ("deepseek-vl2", "<|ref|>a<|/ref|><|det|>[[1, 2, 30, 40], [5, 6, 70, 80]]<|/det|>"),
        (
            "paligemma",
            "<loc0001><loc0002><loc0030><loc0040> a ; <loc0005><loc0006><loc0070><loc0080> a",
        ),
    ],
)
def test_an_answer_that_the_end_cuts_in_a_box_is_partial(family, text):
    """Its whole boxes keep their labels."""
    for cut in range(text.rindex("5"), text.rindex("8")):
        parsed = parse(text[:cut], family, (640, 480), None, "optional", Asked(("a", "b")))
        assert (parsed.status, parsed.detections.labels) == ("partial", ("a",))


def _locations(*numbers):
    return "".join(f"<loc_{number}>" for number in numbers)


SIGN = (100, 100, 300, 110, 300, 200, 100, 190)


@pytest.mark.parametrize(
    "outline",
    [
        _locations(*SIGN),
        _locations(100, 100, 300, 100, 300, 200, 100, 200),
        _locations(100, 100, 100, 200, 300, 200, 300, 100),
        _locations(100, 100, 300, 200, 400, 400, 300, 500, 100, 400),
        _locations(100, 100, 300, 200, 400, 400, 300, 500, 100, 400, 90, 200),
        f"<poly>{_locations(10, 10, 20, 20, 30, 30, 40, 45)}</poly>",
        f"{_locations(*SIGN)}<sep>{_locations(*SIGN)}",
    ],
)
def test_an_outline_of_location_tokens_is_no_box(outline):
    parsed = parse(f"STOP{outline}", "florence-2", (640, 480), None, "optional")
    assert (len(parsed.detections), parsed.status) == (0, "malformed")
    beside = f"STOP{outline}cat{_locations(1, 2, 30, 40)}"
    parsed = parse(beside, "florence-2", (640, 480), None, "optional")
    assert (parsed.detections.labels, parsed.status) == (("cat",), "partial")
    assert parsed.dropped == outline.count("<loc") // 4 + (outline.count("<loc") % 4 > 0)


@pytest.mark.parametrize(
    ("family", "answer", "kept"),
    [
        ("minicpm-v-4.5", "<ref>a</ref><box>10 20 300 3", 0),  # of 300, or of 350
        ("minicpm-v-4.5", "<ref>a</ref><box>10 20 300 400\n50 60 70 8", 1),
        ("deepseek-vl2", "<|ref|>a<|/ref|><|det|>[[10, 20, 300, 40", 0),
        ("deepseek-vl2", "<|ref|>a<|/ref|><|det|>[[10, 20, 300, 400], [5, 6, 70, 8", 1),
        ("deepseek-vl2", "<|ref|>a<|/ref|><|det|>[[10, 20, 300, 400]", 1),
        ("rex-omni", "<|object_ref_start|>a<|object_ref_end|><|box_start|><1><2><30><40>", 1),
        ("florence-2", f"a{_locations(1, 2, 30, 40, 5, 6)}", 1),
    ],
)
def test_a_number_that_the_end_may_have_cut_places_no_box(family, answer, kept):
    parsed = parse(answer, FAMILIES[family], (640, 480), None, "optional")
    assert len(parsed.detections) == kept
    assert parsed.status == ("partial" if kept else "malformed")


@pytest.mark.parametrize(
    ("family", "status"),
    [("paligemma", "empty"), ("florence-2", "empty"), ("glm-4v", "missing"), ("plain", "missing")],
)
def test_nothing_at_all_is_how_some_families_say_that_nothing_is_there(family, status):
    for answer in ("", " \n"):
        assert parse(answer, family, (640, 480), None, "optional").status == status
        assert parse(answer, family, (640, 480), None, "required").status == "missing"


@pytest.mark.parametrize(
    ("family", "answer", "reason"),
    [
        ("qwen2.5-vl", "<|box_start|><1><2><30><40><|box_end|>", "location tokens of rex-omni"),
        # In pixels or on a grid: trainers write both so.
        ("qwen3-vl", "cat<|box_start|>(1,2),(30,40)<|box_end|>", "marks of another syntax"),
        ("gemma", "<loc0001><loc0002><loc0030><loc0040> cat", "location tokens of paligemma"),
        ("rex-omni", "<|box_start|><1><2><30><|box_end|>", "no JSON"),  # its own, and broken
        ("gemma", "[{'Position': [1, 2, 30]}]", "broken JSON"),
    ],
)
def test_marks_of_another_family_are_why_nothing_is_read(family, answer, reason):
    parsed = parse(answer, family, (640, 480), None, "optional")
    assert (parsed.status, parsed.reason) == ("malformed", reason)


@pytest.mark.parametrize("label", ["x < y", "a->b", "{x}", "12:30", 'a "b"', "C++", "a;b", "*x*"])
@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_a_label_of_any_signs_is_read_back(family, label):
    """None may be lost, for the box would have the label before it."""
    boxes = Detections(np.array([[10.0, 20, 300, 400], [50, 60, 200, 220]]), ("other", label))
    text = render_answer(boxes, family, (640, 480))
    parsed = parse(text, family, (640, 480), None, "optional", Asked(("other", label)))
    assert (parsed.detections.labels, parsed.status) == (("other", label), "ok")


@pytest.mark.parametrize(
    ("family", "end"),
    [
        ("minicpm-v-4.5", "</ref>"), ("locateanything", "</ref>"), ("deepseek-vl2", "<|/ref|>"),
        ("rex-omni", "<|object_ref_end|>"), ("internvl", "</ref>"),
        ("qwen2-vl", "<|object_ref_end|>"),
    ],
)  # fmt: skip
def test_a_label_without_its_end_is_not_the_one_before(family, end):
    boxes = Detections(np.array([[10.0, 20, 300, 400], [50, 60, 200, 220]]), ("cat", "dog"))
    text = render_answer(boxes, FAMILIES[family], (640, 480))
    for cut in (text.replace("dog" + end, "dog"), text.replace("cat" + end, "cat")):
        parsed = parse(cut, family, (640, 480), None, "optional", Asked(("cat", "dog")))
        assert parsed.detections.labels == ("cat", "dog")
