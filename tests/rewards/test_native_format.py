"""The form of makers' own prompts: an answer without tags, and nothing that cannot be read."""

import pytest

from boxrl.data.samples import render_sample
from boxrl.families import FAMILIES
from boxrl.parsing import parse
from boxrl.rewards import REWARDS, score
from boxrl.rewards.adapters import RewardSum
from boxrl.rewards.trl import TRLReward
from boxrl.types import NOTHING, Completion, Object, Sample, Target

CAT = '[{"bbox_2d": [100, 200, 500, 600], "label": "cat"}]'
REX = "<|object_ref_start|>cat<|object_ref_end|><|box_start|><12><30><400><500><|box_end|>"
SAMPLE = Sample("a", "a.jpg", 640, 480, "detection", ("cat",), (Object((64, 96, 320, 288), "cat"),))


def value(text, family="qwen3-vl", answer=None):
    parsed = parse(text, FAMILIES[family], (640, 480), answer_tag="optional")
    return REWARDS["native_format"](Completion(text, parsed), Target(NOTHING, answer))


@pytest.mark.parametrize(
    ("text", "family", "expected"),
    [
        (CAT, "qwen3-vl", 1),
        (f"```json\n{CAT}\n```", "qwen3-vl", 1),
        (f"<think>one</think>\n\n```json\n{CAT}\n```", "qwen3.5", 1),
        ("None", "qwen3-vl", 1),
        ("[]", "qwen3-vl", 1),
        (REX, "rex-omni", 1),
        (f"<think>one</think><answer>{CAT}</answer>", "qwen3-vl", 0),  # the form of other prompts
        (f"<answer>{CAT}</answer>", "qwen3-vl", 0),
        (f"{CAT}</answer>", "qwen3-vl", 0),
        (f"one</think>{CAT}", "qwen3-vl", 0),  # a thought that nobody opened
        (f"<think>one {CAT}", "qwen3-vl", 0),
        (f"<think>a</think><think>b</think>{CAT}", "qwen3-vl", 0),
        (f"so <think>a</think>{CAT}", "qwen3-vl", 0),
        (CAT[:-8], "qwen3-vl", 0),  # cut
        (CAT.replace("[100", "[x"), "qwen3-vl", 0),
        ("I see a cat.", "qwen3-vl", 0),
        (REX.replace("<500>", ""), "rex-omni", 0),
        ("", "qwen3-vl", 0),
    ],
)
def test_form(text, family, expected):
    assert value(text, family) == expected


def test_where_no_boxes_are_asked_for_any_words_will_do():
    assert (value("red circle", answer="4"), value("  ", answer="4")) == (1, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"<answer>{CAT}</answer>", 1),
        (f"<think>one</think>\n<answer>```json\n{CAT}\n```</answer>", 1),
        (f"<answer>I see {CAT}</answer>", 1),
        ("<answer>None</answer>", 1),
        ("<answer>[]</answer>", 1),
        (f"<answer>{CAT[:-1]}</answer>", 0),  # cut, with a box before the break
        (f"<answer>{CAT[:-1]}, {{]</answer>", 0),
        (f"<answer>{CAT[:-1]}, {CAT[1:].replace('[100', '[x')}</answer>", 0),
        (f"<answer>{CAT[:-1]}, {CAT[1:].replace('100, 200', '500, 600')}</answer>", 0),  # no area
        ("<answer>a cat</answer>", 0),
        (CAT, 0),
    ],
)
def test_an_answer_is_well_formed_where_all_of_it_can_be_read(text, expected):
    completion = Completion(text, parse(text, FAMILIES["qwen3-vl"], (640, 480)))
    assert REWARDS["well_formed"](completion, Target(NOTHING)) == expected
    assert REWARDS["well_formed"](completion, Target(NOTHING, "4")) is None


def test_every_door_reads_answers_without_tags_where_it_is_told_so():
    rewards = ["native_format", "f1"]
    objects = [{"bbox": [64, 96, 320, 288], "label": "cat"}]
    options = {"sizes": [(640, 480)], "family": "qwen3-vl"}
    assert score([CAT], [objects], rewards, **options, answer_tag="optional") == {
        "native_format": [1.0], "f1": [1.0],
    }  # fmt: skip
    assert score([CAT], [objects], rewards, **options)["f1"] == [0.0]
    line = render_sample(SAMPLE)
    native = TRLReward("f1", "qwen3-vl", answer_tag="optional")
    assert native(completions=[CAT], sample=[line], completion_ids=[[1]]) == [1.0]
    summed = RewardSum("verl", rewards, family="qwen3-vl", answer_tag="optional")
    assert summed(CAT, line, 5)[1] == {"native_format": 1.0, "f1": 1.0}
