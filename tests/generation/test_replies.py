"""Bodies of chat endpoints as servers send them, and what a client reads in each."""

import json
from pathlib import Path

import pytest

from boxrl.generation.replies import NoReply, error_words, read_reply, spelling

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "golden" / "replies.jsonl").read_text().splitlines()
]


def body_of(row):
    body = row["body"]
    return (body if isinstance(body, str) else json.dumps(body)).encode()


def named(rows):
    return {"argvalues": rows, "ids": [row["name"] for row in rows]}


READ = [row for row in ROWS if row["expected"]["completion"] is not None]
REFUSED = [row for row in ROWS if row["expected"]["completion"] is None]


@pytest.mark.parametrize("row", **named(READ))
def test_a_reply_is_read_as_it_was_meant(row):
    reply, expected = read_reply(body_of(row)), row["expected"]
    assert reply.content == expected["completion"]
    assert reply.reasoning == expected["reasoning"]
    assert reply.finish_reason == expected["finish_reason"]
    assert reply.n_tokens == expected["n_tokens"]
    assert reply.error == expected["error"]
    if "n_logprobs" in expected:
        assert reply.tokens is not None
        assert len(reply.tokens) == expected["n_logprobs"]


@pytest.mark.parametrize("row", **named(REFUSED))
def test_what_is_no_reply_is_told_in_the_server_s_words(row):
    with pytest.raises(NoReply) as told:
        read_reply(body_of(row))
    words = row["expected"]["error"]
    if words not in ("502", "empty", "no choices"):
        assert words in str(told.value)
        assert words in error_words(row["body"])


def read(message, finish="stop", usage=None):
    choice = {"message": message, "finish_reason": finish}
    return read_reply(json.dumps({"choices": [choice], "usage": usage}).encode())


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("STOP", "stop"),
        ("COMPLETE", "stop"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("model_context_window_exceeded", "length"),
        ("SAFETY", "error"),
        ("refusal", "error"),
    ],
)
def test_finish_words_of_vendors_that_proxies_pass_on_are_known(word, finish):
    reply = read({"content": "[1"}, word)
    assert (reply.finish_reason, reply.unknown_word) == (finish, None)


def test_a_thought_under_one_name_is_found_beside_an_empty_one():
    assert read({"content": "[]", "reasoning": "", "reasoning_content": "hm"}).reasoning == "hm"


@pytest.mark.parametrize(
    ("usage", "hidden"),
    [
        ({"prompt_tokens": 700, "completion_tokens": 40, "total_tokens": 1240}, 500),
        ({"prompt_tokens": 700, "completion_tokens": 40, "total_tokens": 740}, None),
        ({"prompt_tokens": 700, "completion_tokens": 40, "total_tokens": 0}, None),
        ({"prompt_tokens": 700, "total_tokens": 1240}, None),
        ({"prompt_tokens": 700, "completion_tokens": 40, "total_tokens": "1240"}, None),
    ],
)
def test_tokens_that_the_total_counts_beyond_the_others_are_known(usage, hidden):
    assert read({"content": "[]"}, usage=usage).hidden_tokens == hidden


def test_counts_of_zero_that_cannot_be_are_unknown():
    nobody = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    written = read({"content": "[]"}, usage=nobody)
    assert (written.n_tokens, written.prompt_tokens, written.hidden_tokens) == (None, None, None)
    assert read({"content": ""}, usage=nobody | {"prompt_tokens": 7}).n_tokens == 0


def test_a_stream_keeps_thoughts_in_parts_and_counts_one_choice_alone():
    thinking = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]
    first, other = {"delta": {"content": thinking}}, {"index": 1, "delta": {"content": "B"}}
    last = {"delta": {"content": "A"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 9}
    chunks = [{"choices": [first]}, {"choices": [last]}, {"choices": [], "usage": usage}]

    def joined(*chunks):
        return read_reply("".join(f"data: {json.dumps(c)}\n\n" for c in chunks).encode())

    reply = joined(*chunks)
    assert (reply.content, reply.reasoning, reply.n_tokens) == ("A", "hm", 9)
    assert joined({"choices": [other]}, *chunks).n_tokens is None


@pytest.mark.parametrize(
    ("ending", "whole"),
    [
        ("", False),
        ("data: [DONE]\n\n", True),
        ('data: {"choices": [{"finish_reason": "stop"}]}', True),
    ],
)
def test_a_stream_that_breaks_off_is_no_whole_answer(ending, whole):
    body = 'data: {"choices": [{"delta": {"content": "[1, 2"}, "finish_reason": null}]}\n\n'
    if whole:
        assert read_reply((body + ending).encode()).content == "[1, 2"
    else:
        with pytest.raises(NoReply, match="broke off"):
            read_reply((body + ending).encode())


def test_a_split_off_thought_stands_in_front_of_the_answer():
    def reply(**message):
        finish = message.pop("finish", "stop")
        choice = {"message": message, "finish_reason": finish}
        return read_reply(json.dumps({"choices": [choice]}).encode())

    assert reply(content="None", reasoning="no dog").completion == "<think>no dog</think>\nNone"
    assert reply(content="None").completion == "None"
    assert reply(content=None, reasoning="a do", finish="length").completion == "<think>a do"
    quoted = reply(content=None, reasoning_content="<think>1</think><answer>[]</answer>")
    assert quoted.completion == "<think>1<answer>[]</answer></think>\n"


@pytest.mark.parametrize(
    ("pieces", "content", "kept"),
    [
        (["One", " dog", "</think>", "[", "1", "]"], "[1]", ["[", "1", "]"]),
        (["[", "1", "]", "<|im_end|>"], "[1]", ["[", "1", "]", "<|im_end|>"]),
        (["[5]", "</think>\n\n[", "5", "]"], "[5]", ["</think>\n\n[", "5", "]"]),  # the last one
        (["\ufffd", "\ufffd", "[", "1", "]"], "\u00e9[1]", ["[", "1", "]"]),
        (["Ġ[", "1", "]"], "[1]", ["Ġ[", "1", "]"]),
        (["[", "2", "]"], "[1]", None),  # the tokens of another text
        ([], "[1]", None),
        (["a"], "", ["a"]),
    ],
)
def test_tokens_count_from_where_they_spell_the_content(pieces, content, kept):
    tokens = [(piece, -1.0) for piece in pieces]
    found = spelling(tokens, content)
    assert (found if found is None else [text for text, _ in found]) == kept
