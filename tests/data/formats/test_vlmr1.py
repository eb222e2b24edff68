"""VLM-R1's files: read, written again without loss, and written from other data."""

import json
from dataclasses import replace

import pytest

from boxrl.data.formats.exports import easyr1_row, swift_row, write_vlmr1
from boxrl.data.formats.reading import Rejected
from boxrl.data.formats.vlmr1 import read_vlmr1
from boxrl.data.samples import parse_line
from boxrl.errors import DataError
from boxrl.families import FAMILIES
from boxrl.families.image_paths import build_image_path
from boxrl.parsing import parse
from boxrl.prompts import PROMPTS
from boxrl.types import Object, Sample
from tests.support.archives import boxes_of, rows_of, write_image

FORM = (
    "Output the bbox coordinates of detected objects in <answer></answer>. The format is:\n"
    '```json\n[{"bbox_2d": [x1, y1, x2, y2], "label": "object name"}]\n```\n'
    'If no targets are detected in the image, respond with "None".'
)


@pytest.fixture
def rec_list(tmp_path):
    """A row of rec_jsons_processed, odd `bbox_list` included."""
    rows = [
        {
            "image": "train2014/COCO_train2014_000000581857.jpg",
            "problem": "Please provide the bounding box coordinate of the region this sentence "
            "describes: the lady with the blue shirt.",
            "normal_caption": "the lady with the blue shirt",
            "solution": [103.93, 299.99, 238.15, 477.41],
            "normalized_solution": [243, 468, 557, 745],
            "bbox_list": [[103.93, 299.99, 237.15, 476.41]],
            "height": 640, "width": 427, "id": 0, "original_id": 581857,
            "dataset_name": "refcoco", "area": 12.5, "iscrowd": 0, "image_id": 581857,
            "category_id": 1, "text_type": "caption",
        }
    ]  # fmt: skip
    path = tmp_path / "refcoco_val.json"
    path.write_text(json.dumps(rows))
    return path


def test_an_expression_row_becomes_a_grounding_sample(rec_list):
    (sample,) = rows_of(read_vlmr1(rec_list, rec_list.parent))
    assert (sample.task, sample.size_wh) == ("grounding", (427, 640))
    assert boxes_of(sample) == [("the lady with the blue shirt", (103.93, 299.99, 238.15, 477.41))]


def test_the_list_comes_back_as_it_was(rec_list, tmp_path):
    samples = rows_of(read_vlmr1(rec_list, rec_list.parent))
    write_vlmr1(tmp_path / "out.json", samples)
    assert json.loads((tmp_path / "out.json").read_text()) == json.loads(rec_list.read_text())


def human(labels):
    return (
        "<image>\nPlease carefully check the image and detect the following objects: "
        f"{labels}. {FORM}"
    )


def conversation(number, question, answer, image="equestrian/006.jpg", **more):
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": number, "image": image, "conversations": turns, **more}


DETECTION = '```json\n[{"bbox_2d": [3, 8, 60, 40], "label": "d1"}]\n```'
SENTENCE = "<image>Please provide the bounding box coordinate of the region this sentence describes"
ROWS = [
    conversation(1, human(["d1", "d2's, or so"]), DETECTION, accu_reward_method="od_ap"),
    conversation(2, human(["d3"]), "None", image=["equestrian/006.jpg"]),
    conversation(3, f"{SENTENCE}: the grey horse.", "[1, 2, 30, 40]"),
    conversation("x", "<image>How many horses are there?", "<answer> 3 </answer>"),
    conversation(5, "<image>Which animal is it?", "horse"),
    conversation(6, "<image>detect the following targets: a; b.Output each", DETECTION),
]


@pytest.fixture
def conversations(tmp_path):
    write_image(tmp_path / "equestrian/006.jpg", (64, 48))
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_conversations_become_samples_of_their_kind(conversations):
    samples = rows_of(read_vlmr1(conversations, conversations.parent))
    assert [(sample.task, sample.labels, sample.answer) for sample in samples] == [
        ("detection", ("d1", "d2's, or so"), None),
        ("detection", ("d3",), None),
        ("grounding", ("the grey horse",), None),
        ("counting", (), "3"),
        ("region", (), "horse"),
        ("detection", ("a", "b"), None),
    ]
    assert boxes_of(samples[0]) == [("d1", (3, 8, 60, 40))]
    assert samples[1].objects == ()
    assert boxes_of(samples[2]) == [("the grey horse", (1, 2, 30, 40))]
    assert samples[3].question == "How many horses are there?"


def test_conversations_come_back_as_they_were(conversations, tmp_path):
    samples = rows_of(read_vlmr1(conversations, conversations.parent))
    assert write_vlmr1(tmp_path / "out.jsonl", samples) == len(ROWS)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == ROWS


def test_a_changed_sample_is_written_as_it_is_now(conversations, tmp_path):
    from dataclasses import replace

    first = rows_of(read_vlmr1(conversations, conversations.parent))[0]
    moved = replace(first, objects=(Object((1, 1, 9, 9), "d1"),))
    write_vlmr1(tmp_path / "out.jsonl", [moved])
    answer = json.loads((tmp_path / "out.jsonl").read_text())["conversations"][1]["value"]
    assert answer == '```json\n[{"bbox_2d": [1, 1, 9, 9], "label": "d1"}]\n```'


@pytest.mark.parametrize("answer", ["<answer>None</answer>", "None"])
def test_boxes_of_a_thought_are_no_answer(conversations, answer):
    row = conversation(1, human(["d1"]), f"<think>like {DETECTION}?</think>{answer}")
    conversations.write_text(json.dumps(row))
    (sample,) = rows_of(read_vlmr1(conversations, conversations.parent))
    assert sample.is_negative


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (conversation(1, human(["d1"]), f"<think>{DETECTION}"), "ends in its thought"),
        (conversation(1, human(["d1"]), f"<tool_call>{DETECTION}"), "calls a tool"),
        (
            conversation(1, human(["d1"]), DETECTION.replace('"label"', '"theta": 0.1, "label"')),
            "theta 0.1 beside its box",
        ),
        (conversation(1, "<image>What is it?", "None"), "no labels are found"),
        (conversation(1, human(["a"]), '[{"bbox_2d": [1, 2, 3], "label": "a"}]'), "bbox"),
        (conversation(1, human(["a"]), '[{"bbox_2d": [1, 2, 900, 4], "label": "a"}]'), "leaves"),
        (
            conversation(1, "<image>What?", '[{"bbox_2d": [1, 2, 9, 4], "label": "<answer>"}]'),
            "tag",
        ),
        (conversation(1, human(["a"]), '[{"bbox_2d": [1, 2, 9, 4]}]'), "no label"),
        (conversation(1, human(["a"]), "None", image=["a.jpg", "b.jpg"]), "expected one path"),
        (conversation(1, human(["a"]), "None", image="../x.jpg"), "leaves the images folder"),
        (conversation(1, human(["a"]), "None", image="no.jpg"), "no image"),
        (conversation(1, human(["a"]), "None", width=2, height=1), "its image has 2 x 1 px, and"),
        ({"id": 1, "image": "equestrian/006.jpg", "conversations": []}, "two turns"),
        ({"id": 1}, "expected one path"),
    ],
)
def test_a_bad_row_is_rejected_with_its_line(conversations, row, reason):
    conversations.write_text(json.dumps(ROWS[1]) + "\n" + json.dumps(row) + "\n")
    good, bad = rows_of(read_vlmr1(conversations, conversations.parent))
    assert not isinstance(good, Rejected)
    assert bad.reason.startswith(f"{conversations}:2: ")
    assert reason in bad.reason


DOGS = Sample(
    id="7", image="a.jpg", width=1000, height=500, task="detection", labels=("dog", "cat"),
    objects=(Object((100, 50, 300.4, 250), "dog"), Object((0, 0, 9, 9), "dog", iscrowd=True)),
)  # fmt: skip
MAN = Sample(
    id="8", image="a.jpg", width=1000, height=500, task="grounding", labels=("the man",),
    objects=(Object((100.9, 50, 300, 250), "the man"),), question="the man",
)  # fmt: skip
REGION = Sample(
    id="9", image="a.jpg", width=1000, height=500, task="region", labels=("dog", "cat"),
    objects=(Object((100, 50, 300, 250), "dog"),), answer="dog",
)  # fmt: skip


def test_other_samples_are_written_in_whole_pixels_of_the_original(tmp_path):
    write_vlmr1(tmp_path / "out.jsonl", [DOGS, MAN])
    dogs, man = (json.loads(x) for x in (tmp_path / "out.jsonl").read_text().splitlines())
    assert '"bbox_2d": [100, 50, 300, 250], "label": "dog"' in dogs["conversations"][1]["value"]
    assert man["conversations"][1]["value"] == "[101, 50, 300, 250]"


def test_the_list_truncates_its_thousandths_and_takes_only_expressions(tmp_path):
    write_vlmr1(tmp_path / "out.json", [MAN])
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert row["normalized_solution"] == [100, 100, 300, 500]
    with pytest.raises(DataError, match="sample '7'"):
        write_vlmr1(tmp_path / "bad.json", [DOGS])
    assert not (tmp_path / "bad.json").exists()


def test_ms_swift_gets_placeholders_and_original_pixels():
    row = swift_row(DOGS, PROMPTS["standard"])
    assert row["objects"] == {
        "ref": ["dog"], "bbox": [[100, 50, 300.4, 250]], "bbox_type": "real",
    }  # fmt: skip
    answer = row["messages"][1]["content"]
    assert answer.count("<bbox>") == answer.count("<ref-object>") == 1
    assert row["messages"][0]["content"].startswith("<image>")


def test_a_quote_in_a_label_leaves_ms_swift_s_answer_json():
    pipe = replace(DOGS, labels=('12" pipe',), objects=(Object((1, 2, 30, 40), '12" pipe'),))
    row = swift_row(pipe, PROMPTS["none"])
    (ref,) = row["objects"]["ref"]
    answer = row["messages"][1]["content"].replace("<ref-object>", ref)
    parsed = parse(answer.replace("<bbox>", "[1, 2, 30, 40]"), FAMILIES["plain"], None)
    assert (parsed.status, parsed.names) == ("ok", ['12" pipe'])


def test_ms_swift_scales_the_region_of_a_question_too():
    row = swift_row(REGION, PROMPTS["standard"])
    assert "inside the region <bbox>?" in row["messages"][0]["content"]
    assert row["objects"]["bbox"] == [[100, 50, 300, 250]]
    assert "<answer>dog</answer>" in row["messages"][1]["content"]


def test_easyr1_gets_the_answer_in_the_models_frame():
    family = FAMILIES["qwen3-vl"]
    row = easyr1_row(DOGS, PROMPTS["standard"], build_image_path("easyr1", family))
    assert "[100, 100, 300, 500]" in row["answer"]
    assert parse(row["answer"], family, DOGS.size_wh).status == "ok"
    assert parse_line(row["sample"]) == DOGS


def test_easyr1_gets_the_answer_in_the_frame_that_its_own_resizing_makes():
    family = FAMILIES["qwen2.5-vl"]
    path = build_image_path("easyr1", family, 262_144, 401_408)
    row = easyr1_row(DOGS, PROMPTS["standard"], path)
    seen = path.input_size_wh(DOGS.size_wh)
    assert seen != family.input_size_wh(DOGS.size_wh)
    (box,) = parse(row["answer"], family, DOGS.size_wh, seen).detections.boxes
    assert box == pytest.approx(DOGS.targets[0].bbox, abs=1)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (human(["dog"]), '[{"bbox_2d": [3, 8, 60, 40], "label": "dog"},'),
        (human(["dog"]), "There is a dog."),
        (human(["dog"]), '{"dog": [[3, 8, 60, 40]]}'),
        (f"{SENTENCE}: the grey horse.", "on the left"),
        ("<image>Where is it?", "<|box_start|>(3,8),(60,40)<|box_end|>"),
        ("<image>Where is it?", "<box>[[3, 8, 60, 40]]</box>"),
        ("<image>detect dog", "<loc0003><loc0008><loc0060><loc0040> dog"),
    ],
)
def test_an_answer_of_boxes_that_cannot_be_read_is_no_other_task(tmp_path, question, answer):
    write_image(tmp_path / "equestrian/006.jpg", (64, 48))
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(conversation(1, question, answer)) + "\n")
    (row,) = rows_of(read_vlmr1(path, tmp_path))
    assert isinstance(row, Rejected)
    assert "cannot be read as boxes" in row.reason or "is no box" in row.reason
