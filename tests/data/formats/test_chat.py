"""Training rows: what a question asks for, what an answer holds, and there and back."""

import json

import pytest

from boxrl.data.formats.chat import read_chat
from boxrl.data.formats.chat_questions import read_question
from boxrl.data.formats.exports import write_easyr1, write_swift, write_vlmr1
from boxrl.data.formats.reading import Rejected
from boxrl.errors import UsageError
from boxrl.families import FAMILIES
from boxrl.families.image_paths import build_image_path
from boxrl.prompts import NATIVE, PROMPTS, render_problem
from boxrl.types import Object, Sample
from tests.support.archives import boxes_of, write_image
from tests.support.chat import ANSWER, read, turns


@pytest.fixture
def images(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        write_image(tmp_path / "images" / name, (200, 100))
    return tmp_path / "images"


@pytest.mark.parametrize(
    ("question", "labels"),
    [
        ("<image>Please carefully check the image and detect the following objects: "
         "['dog', \"driver's licence\"]. Output each detected target", ("dog", "driver's licence")),
        ("detect dog ; fire hydrant", ("dog", "fire hydrant")),
        ("detect Dog ; dog", ("Dog",)),
        ("Detect the following objects: dog, cat", ("dog", "cat")),
        ("Detect dog, cat. Output JSON.", ("dog", "cat")),
        ("<image>\nLocate dog in this image and output the bbox coordinates in JSON.", ("dog",)),
        ("Where is the cat?", ("cat",)),
        ("Find <|object_ref_start|>dog<|object_ref_end|>", ("dog",)),
        ("Detect all objects belonging to the category 'dog' in the image", ("dog",)),
        ("Locate every instance that belongs to the following categories: 'dog, red cat'. "
         "Report bbox coordinates in JSON format.", ("dog", "red cat")),
        ("Describe the image.", ()),
        ("Detect all dogs and cats in this image.", ()),
        ("Find everything.", ()),
        ("How many dogs are there?", ()),
    ],
)  # fmt: skip
def test_labels_of_a_question(question, labels):
    assert read_question(question).labels == labels


@pytest.mark.parametrize("name", PROMPTS)
def test_every_prompt_of_ours_is_read_back(name):
    sample = Sample("1", "a.jpg", 200, 100, "detection", ("dog", "fire hydrant"))
    asked = read_question(render_problem(sample, PROMPTS[name]))
    assert (asked.labels, asked.task) == (sample.labels, "detection")


def test_an_expression_is_grounding():
    sample = Sample("1", "a.jpg", 200, 100, "grounding", ("the dog.",), question="the left dog")
    asked = read_question(render_problem(sample, PROMPTS["standard"]))
    assert (asked.labels, asked.task) == (("the left dog",), "grounding")


FORMS = {
    "messages": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "<image>Detect dog."},
            {"role": "assistant", "content": ANSWER},
        ],
        "images": ["a.jpg"],
    },
    "parts": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image", "image": "file://images/a.jpg"},
                    {"type": "text", "text": "Detect dog."},
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": ANSWER}]},
        ]
    },
    "conversations": turns("<image>Detect dog.", ANSWER),
    "query": {"query": "Detect dog.", "response": ANSWER, "images": [{"path": "a.jpg"}]},
    "instruction": {"instruction": "Detect objects.", "input": "dog", "output": ANSWER,
                    "images": ["a.jpg"]},
    "pairs": {"conversation": [{"human": "Detect dog.", "assistant": ANSWER}], "image": "a.jpg"},
    "problem": {"problem": "Detect dog.", "answer": f"<think>x</think><answer>{ANSWER}</answer>",
                "images": ["a.jpg"]},
    "an absolute path": turns("<image>Detect dog.", ANSWER, image="/data/coco/a.jpg"),
    "a string of objects": {
        "query": "Find <ref-object>", "response": "<bbox>", "images": ["a.jpg"],
        "objects": json.dumps([{"caption": "dog", "bbox": [10, 10, 60, 50]}]),
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_row_in_any_form(tmp_path, images, form):
    for name in ("rows.jsonl", "rows.json"):
        (sample,), reasons, _ = read(tmp_path, images, FORMS[form], name=name)
        assert (sample.image, sample.labels) == ("a.jpg", ("dog",))
        assert (boxes_of(sample), reasons) == ([("dog", (10, 10, 60, 50))], [])


def test_every_turn_is_a_sample_and_what_asks_for_no_boxes_is_counted(tmp_path, images):
    talk = ("<image>Detect dog.", ANSWER, "Describe it.", "A dog.", "How many dogs?", "1",
            "Detect cat.", "None")  # fmt: skip
    samples, reasons, told = read(tmp_path, images, turns(*talk, id=7))
    assert [(sample.id, sample.task) for sample in samples] == [
        ("7/1", "detection"), ("7/3", "counting"), ("7/4", "detection"),
    ]  # fmt: skip
    assert (samples[1].answer, samples[2].is_negative, reasons) == ("1", True, [])
    assert "1 turn without a question for boxes left out" in told


def test_ids_are_the_row_s_or_the_image_s_and_never_twice(tmp_path, images):
    rows = [turns("Detect dog.", ANSWER, id="x"), turns("Detect dog.", ANSWER),
            turns("Detect dog.", ANSWER), turns("Detect dog.", ANSWER, id="x")]  # fmt: skip
    samples, _, _ = read(tmp_path, images, *rows)
    assert [sample.id for sample in samples] == ["x", "a", "a#2", "x#2"]


@pytest.mark.parametrize(
    ("row", "family", "reason"),
    [
        (turns("Detect dog.", ANSWER, image=["a.jpg", "b.jpg"]), "plain", "2 images; samples"),
        (turns("Detect dog."), "plain", "no question with an answer"),
        (turns("Detect dog.", "Detect cat.", "x"), "plain", "left out"),
        ({"image": "a.jpg", "text": "a dog"}, "plain", "expected messages, conversations"),
        (turns("Detect the following objects: dog", "A dog."), "plain", "holds none"),
        (turns("Detect the following objects: cat", ANSWER), "plain", "which nobody asked for"),
        (turns("Detect all dogs.", "None"), "plain", "the question names no label"),
        (turns("Detect dog.", ANSWER.replace("60", "300")), "plain", "outside of the frame of pl"),
        (turns("Detect dog.", ANSWER.replace("60", "1200")), "qwen3-vl", "outside of the frame"),
        (turns("Detect dog.", ANSWER.replace("60", "5")), "plain", "flipped corners"),
        (turns("Detect dog.", ANSWER.replace("[10, 10, 60, 50]", "[0.1, 0.1, 0.6, 0.5]")),
         "qwen3-vl", "shares of the image"),
        (turns("Detect dog.", ANSWER.replace("[10, 10, 60, 50]", "[0.1, 0.1, 0.6, 0.5]")),
         "plain", "shares of the image, and plain has pixels"),
        (turns("Detect dog.", ANSWER.replace("60, 50]", "60]")), "plain", "is not read as boxes"),
        (turns("Detect dog.", ANSWER, image="gone.jpg"), "plain", "no image"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_read_whole_is_rejected(tmp_path, images, row, family, reason):
    samples, reasons, told = read(tmp_path, images, row, family=family)
    assert samples == []
    if reasons:
        assert reason in reasons[0]
    else:
        assert any("left out" in note for note in told)


@pytest.mark.parametrize(
    ("more", "family", "reason"),
    [
        ({"width": 200, "height": 100, "max_pixels": 12_845_056}, "qwen2.5-vl", ""),
        ({"width": 400, "height": 200}, "qwen3-vl", ""),
        ({"width": 400, "height": 200}, "plain", "its image has 400 x 200 px, and it has 200 x"),
        ({"conversation": 5, "messages": None}, "qwen2.5-vl", ""),
        ({"max_pixels": 10_000}, "qwen2.5-vl", "at 140 x 56 px, --family at 196 x 112; name a"),
        ({"max_pixels": "few"}, "qwen2.5-vl", "max_pixels: expected an integer above 0, got 'few'"),
        ({"resized_width": 420, "resized_height": 280}, "qwen2.5-vl", "at 420 x 280 px"),
        ({"objects": {"ref": ["dog"], "bbox": [[1, 2, 9, 9]]}}, "plain", "1 boxes of objects"),
    ],
)
def test_boxes_of_an_image_of_another_size_or_of_no_turn_are_refused(
    tmp_path, images, more, family, reason
):
    samples, reasons, _ = read(
        tmp_path, images, turns("Detect dog.", ANSWER, **more), family=family
    )
    assert (len(samples), len(reasons)) == ((0, 1) if reason else (1, 0))
    assert all(reason in found for found in reasons)


def test_mask_tokens_of_paligemma_are_no_part_of_a_label(tmp_path, images):
    suffix = "<loc0102><loc0051><loc0511><loc0306> <seg001><seg127> dog"
    row = {"image": "a.jpg", "prefix": "segment dog", "suffix": suffix}
    (sample,), reasons, _ = read(tmp_path, images, row, family=None)
    assert (sample.labels, len(sample.objects), reasons) == (("dog",), 1, [])


def test_a_family_has_to_be_named_where_no_row_tells_the_frame(tmp_path, images):
    with pytest.raises(UsageError, match=r"--family qwen2\.5-vl, or --family plain"):
        read(tmp_path, images, turns("Detect dog.", ANSWER), family=None)
    marked = turns("Detect dog.", "<|box_start|>(50,100),(300,500)<|box_end|>")
    (sample,), _, _ = read(tmp_path, images, marked, family=None)
    assert boxes_of(sample) == [("dog", pytest.approx((10, 10, 60, 50)))]


MARKED = "<|object_ref_start|>dog<|object_ref_end|><|box_start|>(50,100),(300,500)<|box_end|>"
PIXELS = MARKED.replace("(50,100),(300,500)", "(10,10),(60,50)")


@pytest.mark.parametrize(
    ("answer", "family", "said"),
    [
        (PIXELS, "qwen2.5-vl", "the marks of qwen2-vl, whose boxes are on a grid of 1000, and the "
         "family named is qwen2.5-vl, in pixels of the image as the model sees it; name --family "
         "qwen2-vl if"),
        (PIXELS, "plain", "--family FILE.yaml with like: plain and syntax: qwen2 if the named"),
        ("<ref>dog</ref><box>[[10, 10, 60, 50]]</box>", "plain", "the marks of internvl"),
        ("[{'Position': [10, 10, 60, 50]}]", "plain", "or write the boxes as bbox_2d if"),
    ],
)  # fmt: skip
def test_marks_around_numbers_that_fit_the_named_frame_are_refused(
    tmp_path, images, answer, family, said
):
    samples, (reason,), _ = read(tmp_path, images, turns("Detect dog.", answer), family=family)
    assert (samples, said in reason) == ([], True), reason
    assert "rows.jsonl:1: " in reason
    assert "\n" not in reason


def test_marks_are_read_in_the_frame_of_a_named_family_that_has_them(tmp_path, images):
    own = tmp_path / "swift.yaml"
    own.write_text("like: plain\nsyntax: qwen2\n")
    for family, answer in ((str(own), PIXELS), ("qwen3-vl", MARKED), ("qwen2-vl", MARKED)):
        (sample,), reasons, _ = read(tmp_path, images, turns("Detect dog.", answer), family=family)
        assert reasons == []
        assert boxes_of(sample) == [("dog", pytest.approx((10, 10, 60, 50)))]


@pytest.mark.parametrize("answer", [MARKED, "<loc0102><loc0051><loc0511><loc0306> dog"])
def test_marks_tell_where_the_numbers_can_be_of_no_other_frame(tmp_path, images, answer):
    (sample,), reasons, _ = read(tmp_path, images, turns("Detect dog.", answer), family="plain")
    assert reasons == []
    assert boxes_of(sample) == [("dog", pytest.approx((10, 10, 60, 50), abs=0.2))]


@pytest.mark.parametrize(
    ("family", "size_wh", "box", "said"),
    [
        ("qwen3-vl", (200, 100), [10, 10, 190, 90], "lie within pixels (--family plain)"),
        ("internvl", (960, 540), [10, 10, 900, 500], "lie within pixels (--family plain)"),
        ("qwen3-vl", (200, 100), [10, 10, 210, 90], ""),
        ("gemma", (200, 100), [10, 10, 90, 190], "lie within pixels (--family plain)"),
        ("plain", (1600, 900), [10, 10, 990, 890], "lie within a grid of 0 to 1000"),
        ("qwen2.5-vl", (1600, 1300), [10, 10, 990, 900], "lie within a grid of 0 to 1000"),
        ("plain", (1600, 1300), [10, 10, 990, 1100], ""),
        ("kimi-vl", (200, 100), [0.1, 0.25, 0.99, 0.75], "lie within the image within a square"),
        ("kimi-vl", (200, 100), [0.1, 0.2, 0.99, 0.74], ""),
        ("kimi-vl", (100, 90), [0.1, 0.26, 0.99, 0.74], ""),
        ("plain", (1100, 1200), [10, 10, 990, 900], ""),
    ],
)
def test_boxes_that_all_lie_in_another_frame_are_told(tmp_path, images, family, size_wh, box, said):
    write_image(images / "c.png", size_wh)
    key = "box_2d" if family == "gemma" else "bbox_2d"
    unit = 0.001 if family == "kimi-vl" else 1
    starts = [n * unit for n in range(60, 80)]
    answers = [json.dumps([{key: [x, *box[1:]], "label": "dog"}]) for x in starts]
    rows = [turns("Detect dog.", answer, image="c.png") for answer in answers]
    samples, _, notes = read(tmp_path, images, *rows, family=family)
    assert (len(samples), any(said in note for note in notes[1:])) == (20, bool(said))
    assert not read(tmp_path, images, *rows[1:], family=family)[2][1:]


@pytest.mark.parametrize(
    ("key", "family", "said"),
    [
        ("bbox_2d", "qwen3-vl", ""),
        ("box", "qwen3-vl", ""),
        ("box_2d", "gemma", ""),
        ("position", "gemma", ""),
        ("box_2d", "qwen3-vl", "writes y before x, and the family named is qwen3-vl, x before y"),
        ("bbox_2d", "gemma", "writes x before y, and the family named is gemma, y before x"),
    ],
)
def test_a_key_of_boxes_in_another_order_of_axes_is_refused(tmp_path, images, key, family, said):
    row = turns("Detect dog.", ANSWER.replace("bbox_2d", key))
    samples, reasons, _ = read(tmp_path, images, row, family=family)
    assert (len(samples), [said in reason for reason in reasons]) == (not said, [True] * bool(said))
    own = tmp_path / "own.yaml"
    own.write_text(f"like: {family}\nbox_key: {key}\n")
    assert len(read(tmp_path, images, row, family=str(own))[0]) == 1


def test_marks_whose_numbers_all_lie_in_pixels_too_are_told_where_no_family_is_named(
    tmp_path, images
):
    rows = [turns("Detect dog.", PIXELS.replace("60", str(n))) for n in range(60, 80)]
    _, _, (_, note) = read(tmp_path, images, *rows, family=None)
    assert "as of qwen2-vl" in note
    assert not read(tmp_path, images, *rows, turns("Detect dog.", MARKED), family=None)[2][1:]


def test_keys_without_a_value_are_none(tmp_path, images):
    none = dict.fromkeys(("text", "image", "url", "video", "instruction", "prefix", "suffix"))
    asked = [none | {"type": "image", "url": "b.jpg", "text": ""}, none | {"text": "Detect dog."}]
    said = [{"role": "user", "content": asked}, {"role": "assistant", "content": ANSWER}]
    pair = {"image": "b.jpg", "problem": "Detect dog.", "solution": ANSWER}
    samples, reasons, _ = read(tmp_path, images, none | {"messages": said}, none | pair)
    assert reasons == []
    for sample in samples:
        assert (sample.image, boxes_of(sample)) == ("b.jpg", [("dog", (10, 10, 60, 50))])
    asked.append({"type": "video", "video": "v.mp4", "text": ""})
    assert "a row of a video" in read(tmp_path, images, {"messages": said})[1][0]


def test_marks_in_a_thought_tell_nothing_of_the_answer(tmp_path, images):
    answer = f"<think>like {MARKED}</think><answer>{ANSWER}</answer>"
    (sample,), _, _ = read(tmp_path, images, turns("Detect dog.", answer))
    assert boxes_of(sample) == [("dog", (10, 10, 60, 50))]


@pytest.mark.parametrize("question", ["Detect the following objects: dog, cat", "Detect dog, cat"])
@pytest.mark.parametrize(
    "answer",
    ["<think>There is a cat at", "<think>None.</think>", "</think>", f"<think>at {ANSWER}"],
)
def test_an_answer_that_ends_in_its_thought_says_nothing_of_absence(
    tmp_path, images, question, answer
):
    samples, (reason,), _ = read(tmp_path, images, turns(question, answer))
    assert (samples, "ends in its thought; complete it" in reason) == ([], True)
    for whole in ("[]", "```json\n[\n]\n```", '{"dog": [], "cat": []}', "<think>x</think>None"):
        (sample,), _, _ = read(tmp_path, images, turns(question, whole))
        assert sample.is_negative


@pytest.mark.parametrize(
    ("row", "family", "negative"),
    [
        (turns("Detect the following objects: dog", ""), "plain", False),
        (turns("Detect the following objects: dog", "<answer></answer>"), "qwen3-vl", False),
        (turns("Detect the following objects: dog", ""), "paligemma", True),
        ({"image": "a.jpg", "prefix": "detect dog", "suffix": ""}, None, True),
    ],
)
def test_an_empty_answer_is_a_missing_one_but_where_a_model_says_nothing_so(
    tmp_path, images, row, family, negative
):
    samples, reasons, _ = read(tmp_path, images, row, family=family)
    assert [sample.is_negative for sample in samples] == [True] * negative
    assert len(reasons) == (not negative)


CALL = '<tool_call>{"arguments": {"bbox_2d": [1, 2, 9, 9], "label": "dog"}}</tool_call>'


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (turns("Detect dog.", ANSWER, label=False), "label is false"),
        (turns("Detect dog.", ANSWER, kto_tag=False), "kto_tag is false"),
        (turns("Detect dog.", ANSWER, videos=["v.mp4"]), "a row of a video"),
        (turns([{"type": "video", "video": "v.mp4"}, {"type": "text", "text": "Detect dog."}],
               ANSWER), "a row of a video"),
        (turns("<video>Detect dog.", ANSWER), "a row of a video"),
        (turns("<image><image>Detect dog.", ANSWER), "2 places of images, and 1 in the row"),
        (turns("Detect dog.", f"<think>I look.</think>{CALL}"), "calls a tool or comes behind"),
        (turns("<tool_response><image></tool_response>", ANSWER), "calls a tool or comes behind"),
        ({"image": "a.jpg", "conversations": [
            {"from": "human", "value": "Detect dog."}, {"from": "function_call", "value": CALL},
            {"from": "observation", "value": "a crop"}, {"from": "gpt", "value": ANSWER}]},
         "calls a tool or comes behind"),
        (turns("Detect dog.", ANSWER.replace('"label"', '"angle": 30, "label"')),
         "angle 30 beside its box"),
    ],
)  # fmt: skip
def test_answers_that_are_none_about_the_upright_boxes_of_one_image_are_refused(
    tmp_path, images, row, reason
):
    samples, (found,), _ = read(tmp_path, images, row)
    assert (samples, reason in found) == ([], True), found
    wanted = turns("Detect dog.", ANSWER.replace('"label"', '"angle": 0, "label"'), label=True)
    assert len(read(tmp_path, images, wanted)[0]) == 1


def test_the_boxes_of_a_turn_that_ends_in_its_thought_are_not_those_of_the_next(tmp_path, images):
    said = ("Detect dog.", "<think>at <bbox>", "Detect cat.", "<bbox>")
    row = turns(*said, objects={"ref": [], "bbox": [[1, 2, 9, 9], [10, 10, 60, 50]]})
    (sample,), reasons, _ = read(tmp_path, images, row)
    assert (boxes_of(sample), len(reasons)) == ([("cat", (10, 10, 60, 50))], 1)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("<ref-object> is at <bbox></think><ref-object><bbox>", [("cat", (10, 10, 60, 50))]),
        ("like <ref-object><bbox></think>None", []),
        ('<bbox></think><answer>[{"bbox_2d": <bbox>, "label": "dog"}]</answer>',
         [("dog", (10, 10, 60, 50))]),
    ],
)  # fmt: skip
def test_boxes_of_a_thought_are_no_answer(tmp_path, images, answer, found):
    boxes = [[1, 2, 9, 9], [10, 10, 60, 50]][: answer.count("<bbox>")]
    objects = {"ref": ["dog", "cat"], "bbox": boxes}
    row = turns("Detect dog, cat", f"<think>{answer}", objects=objects)
    (sample,), reasons, _ = read(tmp_path, images, row)
    assert (boxes_of(sample), reasons) == (found, [])


@pytest.mark.parametrize(
    ("objects", "answer", "found"),
    [
        ({"ref": ["dog", "dog", "cat"], "bbox": [[1, 2, 9, 9], [5, 5, 9, 9]]},
         "<ref-object><bbox> <ref-object><bbox>", ["dog", "cat"]),
        ({"ref": ["dog"], "bbox": [[1, 2, 9, 9], [5, 5, 9, 9]]}, "<bbox><bbox>", ["dog", "dog"]),
        ({"ref": ["dog", "a cat"], "bbox": [[1, 2, 9, 9], [5, 5, 9, 9]]},
         "<ref-object><bbox><bbox>", ["a cat", "a cat"]),
        ({"ref": ["dog"], "bbox": [[1, 2, 9, 9]]}, '{"bbox_2d": <bbox>, "label": "dog"}', ["dog"]),
        ({"ref": ["dog"], "bbox": [[1, 2, 9, 9]]}, "<bbox><bbox>", None),
        ({"ref": ["dog"], "bbox": [[1, 2, 900, 9]]}, "<bbox>", None),
        ({"ref": ["dog"], "bbox": [[1, 2, 9, 9]], "bbox_type": "pixels"}, "<bbox>", None),
    ],
)  # fmt: skip
def test_ms_swift_s_boxes_belong_to_the_references_of_their_text(
    tmp_path, images, objects, answer, found
):
    messages = [{"role": "user", "content": "Find <ref-object>"},
                {"role": "assistant", "content": answer}]  # fmt: skip
    row = {"messages": messages, "images": ["a.jpg"], "objects": objects}
    samples, reasons, _ = read(tmp_path, images, row, family=None)
    if found is None:
        assert (samples, len(reasons)) == ([], 1)
    else:
        assert [label for label, _ in boxes_of(samples[0])] == found


def test_what_we_export_is_read_back(tmp_path, images):
    dog, cat = Object((10, 10, 60, 50), "dog"), Object((100, 20, 160, 90), "a b & c")
    samples = [
        Sample("1", "a.jpg", 200, 100, "detection", ("dog", "a b & c", "bird"), (dog, cat, dog)),
        Sample("2", "b.jpg", 200, 100, "detection", ("dog", "bird")),
        Sample("3", "b.jpg", 200, 100, "grounding", ("the dog",),
               (Object((10, 10, 60, 50), "the dog"),), question="the dog"),
    ]  # fmt: skip
    for name, prompt in PROMPTS.items():
        path = tmp_path / f"{name}.jsonl"
        if prompt.form == "points":
            with pytest.raises(UsageError, match="there is no gold answer"):
                write_swift(path, samples, prompt)
            continue
        write_swift(path, samples, prompt)
        makers = prompt in NATIVE  # whose words for one label and for a sentence are alike
        expected = [shown(sample) for sample in samples]
        found = told(read_chat(path, images))
        assert [row[:1] + row[2:] if makers else row for row in found] == [
            row[:1] + row[2:] if makers else row for row in expected
        ], name
    for family in ("qwen2.5-vl", "qwen3-vl", "internvl", "paligemma", "plain"):
        path, known = tmp_path / f"{family}.jsonl", FAMILIES[family]
        limits = (known.min_pixels, known.max_pixels) if known.has_limits else ()
        way = build_image_path("easyr1", known, *limits)
        write_easyr1(path, samples, PROMPTS["standard"], way)
        assert told(read_chat(path, images, family=family), 2) == [shown(s, 2) for s in samples]
    write_vlmr1(tmp_path / "vlmr1.jsonl", samples[:2])
    back = told(read_chat(tmp_path / "vlmr1.jsonl", images, family="plain"))
    assert back == [shown(sample) for sample in samples[:2]]


def shown(sample, steps=None):
    """Image, labels and boxes, these to some steps of the largest grid."""
    boxes = [(label, tuple(round(v / steps) if steps else v for v in box))
             for label, box in boxes_of(sample)]  # fmt: skip
    return sample.image, sample.task, sample.labels, boxes


def told(reading, steps=None):
    return [row.reason if isinstance(row, Rejected) else shown(row, steps) for row in reading.rows]
