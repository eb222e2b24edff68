"""verl, EasyR1 and ms-swift: boxrl called as these trainers call a reward.

The calls were tried against these libraries themselves; docs/rewards.md has the versions.
"""

import importlib.util
import inspect
from types import SimpleNamespace
from typing import Any

import pytest

from boxrl.data.samples import render_sample
from boxrl.errors import DataError, UsageError
from boxrl.rewards import adapters, easyr1, verl
from boxrl.rewards.swift import build_orms
from boxrl.types import Object, Sample

SAMPLE = Sample("1", "1.jpg", 200, 100, "detection", ("cat",), (Object((0, 0, 50, 50), "cat"),))
LINE = render_sample(SAMPLE)
QUESTION = render_sample(
    Sample("2", "2.jpg", 9, 9, "counting", ("cat",), question="How many?", answer="2")
)
RIGHT = '<think>a</think><answer>[{"bbox_2d": [0, 0, 50, 50], "label": "cat"}]</answer>'


def test_verl_gets_the_sum_as_score_and_every_reward_beside_it() -> None:
    score = verl.compute_score(
        data_source="boxrl", solution_str=RIGHT, ground_truth=LINE, extra_info={"num_turns": 1},
        rewards="format,f1", family="plain", weights=[0.5, 1.0],
    )  # fmt: skip
    assert score == {"score": 1.5, "format": 1.0, "f1": 1.0}


def test_verl_batches() -> None:
    scores = verl.compute_score_batch(
        data_sources=["a", "a"], solution_strs=[RIGHT, "None"], ground_truths=[LINE, LINE],
        extra_infos=[{}, None], rewards=[{"name": "f1", "thresholds": [0.5]}], family="plain",
    )  # fmt: skip
    assert scores == [{"score": 1.0, "f1": 1.0}, {"score": 0.0, "f1": 0.0}]


def test_where_the_template_opens_the_thought_nothing_in_it_is_an_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    thought, answer = RIGHT.removeprefix("<think>").split("</think>")
    whole, cut = f"{thought}</think>{answer}", f"{thought} {answer} or"
    settings: dict[str, Any] = {"rewards": "format,f1", "family": "plain"}
    adapters._tell_of_opened.cache_clear()
    verl.compute_score("a", whole, LINE, **settings)
    verl.compute_score("a", whole, LINE, **settings)
    assert caplog.text.count("say opened=True") == 1
    caplog.clear()
    for text, worth in ((whole, 1.0), (cut, 0.0)):
        told = verl.compute_score("a", text, LINE, **settings, opened=True)
        assert told == {"score": 2 * worth, "format": worth, "f1": worth}
        row = {"response": text, "response_length": 9, "ground_truth": LINE}
        assert easyr1.compute_score(row, **settings, opened=True)["overall"] == 2 * worth
    assert caplog.text == ""


def test_verl_tells_no_length() -> None:
    with pytest.raises(UsageError, match="needs the completion's length, which verl does not tell"):
        verl.compute_score("a", RIGHT, LINE, {}, rewards="cosine", family="plain")
    told = verl.compute_score("a", RIGHT, LINE, {"n_tokens": 0}, rewards="cosine", family="plain")
    assert told["score"] == 1.0


def test_easyr1_one_by_one_and_in_batches() -> None:
    row = {"response": RIGHT, "response_length": 1024, "ground_truth": LINE}
    expected = {"overall": 1.5, "f1": 1.0, "cosine": 0.5}
    settings: dict[str, Any] = {"rewards": "f1,cosine", "family": "plain"}
    assert easyr1.compute_score(row, **settings) == pytest.approx(expected)
    assert easyr1.compute_score([row, row], **settings) == [pytest.approx(expected)] * 2


def test_easyr1_loads_the_module_as_a_file() -> None:
    spec = importlib.util.spec_from_file_location("custom_reward_fn", easyr1.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    row = {"response": RIGHT, "response_length": 9, "ground_truth": LINE}
    assert module.compute_score(row, family="plain")["overall"] == 2.0


def test_a_reward_that_does_not_apply_adds_nothing() -> None:
    row = {"response": "<answer>2</answer>", "response_length": 9, "ground_truth": QUESTION}
    assert easyr1.compute_score(row, rewards="f1,count", family="plain") == {
        "overall": 1.0,
        "f1": 0.0,
        "count": 1.0,
    }


def test_swift_gets_functions_with_names() -> None:
    orms = build_orms("f1,cosine", family="plain")
    assert list(orms) == ["boxrl_f1", "boxrl_cosine"]
    rewards = [orm(args=None) for orm in orms.values()]
    assert [reward.__name__ for reward in rewards] == list(orms)
    assert all(inspect.isfunction(reward) for reward in rewards)
    columns = {
        "sample": [LINE, QUESTION],
        "response_token_ids": [[1] * 1024, [[1] * 5, [2] * 5]],  # one turn, two turns
        "messages": [[], []],
        "trainer_state": SimpleNamespace(global_step=1, max_steps=2),
    }
    assert rewards[0]([RIGHT, "<answer>2</answer>"], **columns) == [1.0, None]
    assert rewards[1]([RIGHT, "<answer>2</answer>"], **columns) == [pytest.approx(0.5), None]


def test_swift_reads_answers_without_tags_where_the_prompt_asks_for_none() -> None:
    bare = RIGHT.partition("<answer>")[2].removesuffix("</answer>")
    columns = {"sample": [LINE], "response_token_ids": [[1]]}
    for answer_tag, value in (("required", 0.0), ("optional", 1.0)):
        orms = build_orms("f1", family="plain", answer_tag=answer_tag)
        assert orms["boxrl_f1"]()([bare], **columns) == [value]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rewards": "f2"}, "unknown reward 'f2'"),
        ({"rewards": "f1", "family": "qwen"}, "unknown family 'qwen'"),
        ({"rewards": "f1", "family": "plain", "weights": [1, 2]}, "2 weights for 1 rewards"),
        ({"rewards": "f1", "family": "plain", "weights": {"f1": 2}}, "expected a list of numbers"),
        ({"rewards": []}, "no reward is named"),
        (
            {"rewards": "format,progressive_f1", "family": "plain"},
            "'progressive_f1' rises with training, and verl does not tell a reward how far",
        ),
    ],
)
def test_wrong_settings_say_what_there_is(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        verl.compute_score("a", RIGHT, LINE, {}, **settings)


def test_a_ground_truth_that_is_no_sample_is_an_error() -> None:
    with pytest.raises(DataError, match="sample: not JSON"):
        verl.compute_score("a", RIGHT, "the answer is 5", {}, rewards="f1", family="plain")
