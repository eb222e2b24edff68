"""The adapter that TRL's GRPOTrainer calls."""

import json
import pickle
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from boxrl.data.samples import render_sample
from boxrl.errors import DataError, UsageError
from boxrl.families import FAMILIES
from boxrl.rewards import REWARDS, build_reward
from boxrl.rewards import adapters as rows
from boxrl.rewards.trl import TRLReward, completion_text
from boxrl.types import Object, Sample

SAMPLE = Sample("1", "1.jpg", 200, 100, "detection", ("cat",), (Object((0, 0, 50, 50), "cat"),))
LINE = render_sample(SAMPLE)
RIGHT = '<answer>[{"bbox_2d": [0, 0, 50, 50], "label": "cat"}]</answer>'


def call(name: str, completions: list[Any], **columns: Any) -> list[float | None]:
    n = len(completions)
    arguments = {"sample": [LINE] * n, "completion_ids": [[1, 2, 3]] * n, **columns}
    return TRLReward(build_reward(name), FAMILIES["plain"])(completions=completions, **arguments)


def test_plain_and_conversational_completions() -> None:
    chat = [{"role": "assistant", "content": RIGHT}]
    parts = [{"role": "assistant", "content": [{"type": "text", "text": RIGHT}]}]
    assert call("f1", [RIGHT, chat, parts, "None"], prompts=["x"] * 4) == [1.0, 1.0, 1.0, 0.0]
    assert completion_text(parts) == RIGHT


def test_a_thought_that_trl_takes_out_of_the_completion_is_part_of_it() -> None:
    """A tokenizer with a response template: `format` was 0 in every completion."""
    apart = {"role": "assistant", "reasoning_content": "one", "content": RIGHT}
    cut = {"role": "assistant", "reasoning_content": "one", "content": ""}
    assert call("format", [[apart], [cut]]) == [1.0, 0.0]
    assert completion_text([cut]) == completion_text([cut], opened=True) == "<think>one"
    opened = TRLReward("format", FAMILIES["plain"], opened=True)
    said = [[apart], [{"role": "assistant", "content": f"one</think>{RIGHT}"}]]
    assert opened(completions=said, sample=[LINE] * 2, completion_ids=[[1]] * 2) == [1.0, 1.0]


def test_what_tools_say_is_no_answer() -> None:
    asks = {"role": "assistant", "content": None, "tool_calls": []}
    assert call("f1", [[asks, {"role": "tool", "content": RIGHT}]]) == [0.0]


def test_boxes_are_read_in_the_frame_of_the_family() -> None:
    family = FAMILIES["qwen2.5-vl"]
    width, height = family.input_size_wh(SAMPLE.size_wh)
    resized = json.dumps([0, 0, width / 4, height / 2])
    answer = f'<answer>[{{"bbox_2d": {resized}, "label": "cat"}}]</answer>'
    reward = TRLReward(build_reward("f1"), family)
    assert reward(completions=[answer], sample=[LINE], completion_ids=[[1]]) == [1.0]


def test_lengths_are_those_of_the_completion_ids() -> None:
    ids = [[7] * 0, [7] * 1024]
    assert call("cosine", [RIGHT, RIGHT], completion_ids=ids) == pytest.approx([1.0, 0.5])


def test_a_question_is_skipped_with_none() -> None:
    question = render_sample(
        Sample("1", "1.jpg", 9, 9, "counting", ("cat",), question="How many?", answer="2")
    )
    answers = ["<answer>2</answer>", RIGHT]
    assert call("ap", answers, sample=[question, LINE]) == [None, pytest.approx(1.0)]
    assert call("count", answers, sample=[question, LINE]) == [1.0, None]


def test_the_threshold_follows_the_trainer() -> None:
    loose = RIGHT.replace("50, 50", "50, 30")
    values = [
        call(
            "progressive_f1", [loose], trainer_state=SimpleNamespace(global_step=step, max_steps=10)
        )
        for step in (0, 9)
    ]
    assert values == [[1.0], [0.0]]


def test_the_status_of_each_answer_is_logged_in_a_column_per_reward() -> None:
    logged = defaultdict(list)  # as TRL keeps them: it appends to a column of that name
    for name in ("ap", "format"):
        answers = [RIGHT, "hm", "<answer>[]</answer>"]
        call(name, answers, log_extra=lambda column, values: logged[column].extend(values))
    statuses = ["ok", "missing", "empty"]
    assert logged == {"answer (ap)": statuses}  # format reads no answers


def test_a_completion_is_parsed_once_for_all_rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    original = rows.parse
    monkeypatch.setattr(
        rows, "parse", lambda *args, **options: parsed.append(args) or original(*args, **options)
    )
    rows.parse_once.cache_clear()
    for name in REWARDS:
        call(name, [RIGHT, "None"])
    assert len(parsed) == 2


def test_format_reads_neither_boxes_nor_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("read")

    monkeypatch.setattr("boxrl.rewards.trl.parse_once", fail)
    monkeypatch.setattr("boxrl.rewards.trl.read_target", fail)
    assert call("format", [f"<think>one</think>{RIGHT}", "None"]) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"opened": "false"}, "opened must be true or false, got 'false'"),
        ({"answer_tag": "Optional"}, "answer_tag is 'Optional'; expected required or optional"),
        ({"max_pixels": 401_408}, "leave model, min_pixels and max_pixels out"),
    ],
)
def test_a_setting_that_would_say_nothing_is_refused(
    settings: dict[str, Any], message: str
) -> None:
    path = TRLReward("f1", "qwen2.5-vl").path
    assert TRLReward("f1", path).path == path
    with pytest.raises(UsageError, match=message):
        TRLReward("format", path, **settings)


def test_a_broken_sample_is_an_error() -> None:
    for column in (json.loads(LINE), None):
        with pytest.raises(DataError, match="expected a line of a samples file, as text"):
            call("ap", [RIGHT], sample=[column])
    with pytest.raises(DataError, match="zero width"):
        call("ap", [RIGHT], sample=[LINE.replace("[0,0,50,50]", "[0,0,0,50]")])


@pytest.mark.parametrize("name", REWARDS)
def test_it_pickles_under_the_name_of_its_reward(name: str) -> None:
    reward = TRLReward(build_reward(name), FAMILIES["plain"])
    copy = pickle.loads(pickle.dumps(reward))
    arguments = {"completions": [RIGHT], "sample": [LINE], "completion_ids": [[1]]}
    assert copy.__name__ == reward.__name__ == name
    assert copy(**arguments) == reward(**arguments)


def test_an_answer_beside_boxes_does_not_make_a_question() -> None:
    line = render_sample(replace(SAMPLE, answer="x"))
    assert call("f1", [RIGHT], sample=[line]) == [1.0]
