"""Where the thought ends and where the answer stands."""

import pytest

from boxrl.families import FAMILIES
from boxrl.parsing import parse
from boxrl.parsing.answers import as_read, find_answer, opens_thought, says_none

CAT = '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]'
NO_TAG = "no answer tag"
DOG = '[{"bbox_2d": [5, 6, 7, 8], "label": "dog"}]'


@pytest.mark.parametrize(
    ("text", "answer", "tagged", "reason"),
    [
        (f"<think>a</think><answer>{CAT}</answer>", CAT, True, ""),
        (f"<answer>{CAT}</answer>", CAT, True, ""),  # no thought at all
        (f"<answer>{CAT}</answer>, no: <answer> {DOG} </answer>", DOG, True, ""),  # the last one
        (f"<answer>{CAT}</answer> so", CAT, True, ""),  # words behind it
        (f"<think>is it {CAT}?</think>\nNone", "None", False, NO_TAG),
        (f"is it {CAT}?</think>\n\nNone", "None", False, NO_TAG),  # a server's own reader
        (CAT, CAT, False, NO_TAG),
        (f"<think>a</think><answer>{CAT}", f"<answer>{CAT}", False, NO_TAG),  # cut
        (f"<think>it may be <answer>{CAT}</answer>", "", False, "open thought"),  # cut in thinking
        (f"<think>so <answer>{CAT}</answer></think><answer>[{{", "<answer>[{", False, NO_TAG),
        (f"<think>so <answer>{CAT}</answer></think>", "", False, NO_TAG),  # quoted alone
        (f"<think>a</think>b</think><answer>{CAT}</answer>", CAT, True, ""),  # the last </think>
        ("</answer><answer>", "</answer><answer>", False, NO_TAG),
        (f"\u25c1think\u25b7{DOG}? no\u25c1/think\u25b7 {CAT}", CAT, False, NO_TAG),  # Kimi-VL
        (f"\u25c1think\u25b7is it {DOG}", "", False, "open thought"),
        (f"<|channel>thought\nis it {DOG}?<channel|>{CAT}", CAT, False, NO_TAG),  # Gemma 4
        (f"<|channel>is it {DOG}?<channel|>{CAT}", CAT, False, NO_TAG),
        (f"<thought>is it {DOG}?</thought>{CAT}", CAT, False, NO_TAG),  # the same, hosted
        (f"<thought>is it {DOG}", "", False, "open thought"),
        (f"<thinking>is it {DOG}?</thinking>{CAT}", CAT, False, NO_TAG),
        (f"[THINK]is it {DOG}?[/THINK]{CAT}", CAT, False, NO_TAG),  # Mistral
        (f"[THINK]is it {DOG}", "", False, "open thought"),
        (f"<seed:think>is it {DOG}?</seed:think>{CAT}", CAT, False, NO_TAG),
        (f"<Think>is it {DOG}?</Think>{CAT}", CAT, False, NO_TAG),
        (f"<THOUGHT>is it {DOG}?</THOUGHT>{CAT}", CAT, False, NO_TAG),
        (f"<unused94>thought\nis it {DOG}?<unused95>{CAT}", CAT, False, NO_TAG),  # MedGemma
        (f"<unused94>thought\nis it {DOG}", "", False, "open thought"),
        (
            f"<|channel|>analysis<|message|>is it {DOG}?<|end|><|start|>assistant"
            f"<|channel|>final<|message|>{CAT}", CAT, False, NO_TAG,
        ),  # gpt-oss
        (f"<|channel|>analysis<|message|>is it {DOG}", "", False, "open thought"),
        (f"<tool_call>{DOG}</tool_call>\n{CAT}", CAT, False, NO_TAG),
        (f"{CAT} <tool_call>{DOG}", CAT, False, NO_TAG),
        (f"<answer>{CAT}</answer><tool_call>{DOG}</tool_call>", CAT, True, ""),
        ("", "", False, NO_TAG),
    ],
)  # fmt: skip
def test_the_answer_stands_behind_the_thought(text, answer, tagged, reason):
    assert find_answer(text) == (answer, tagged, reason)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("none.", True), ("```None```", True), ("```None\n```", True), ("```text\nNone\n```", True),
        ("None<|im_end|>", True), ("```\nNone\n```</s>", True), ("None<end_of_turn>\n", True),
        ("None<\uff5cend\u2581of\u2581sentence\uff5c>", True), ("None<|return|>", True),
        ("**None**.", True), ("`None`", True), ("'None'", True), ("\u201cNone.\u201d", True),
        ("[None]", False), ("NoneType", False), ("[1] None", False),
        ("None of them", False), ("```text\nno\n```", False), ("None<box>", False), ("", False),
    ],
)  # fmt: skip
def test_none_is_said_in_any_fence_and_before_the_end_of_a_turn(answer, said):
    assert says_none(answer) is said


def test_what_the_prompt_opened_stands_in_front():
    completion = f"is it {CAT}?"
    assert parse(completion, FAMILIES["plain"], None, answer_tag="optional").status == "ok"
    opened = as_read(completion, opened=True)
    assert parse(opened, FAMILIES["plain"], None, answer_tag="optional").status == "missing"


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ("<|im_start|>assistant\n<think>\n", True),
        ("<|im_start|>assistant\n", False),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),  # thinking switched off
        ("write <think>...</think>\n<|im_start|>assistant\n<think>", True),
        ("draft in [THINK]...[/THINK]\nthe user's[/INST][THINK]", True),
        ("draft in [THINK]...[/THINK]\nthe user's[/INST]", False),
    ],
)
def test_a_rendered_prompt_tells_whether_it_opens_the_thought(prompt, opened):
    assert opens_thought(prompt) is opened


@pytest.mark.parametrize("tag", ["required", "optional"])
def test_an_open_thought_leaves_no_answer(tag):
    parsed = parse(f"<think>perhaps {CAT}", FAMILIES["plain"], None, answer_tag=tag)
    assert (parsed.status, parsed.reason, len(parsed.detections)) == ("missing", "open thought", 0)
