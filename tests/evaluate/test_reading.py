"""What an evaluation says about answers that were read in another way, or not at all."""

from dataclasses import replace

import pytest

from boxrl.data.predictions import Prediction
from boxrl.errors import DataError
from boxrl.evaluate import evaluate
from boxrl.families import FAMILIES
from boxrl.types import Object, Sample

PLAIN = FAMILIES["plain"]
CAT = '[{"bbox_2d": [10, 10, 60, 60], "label": "cat"}]'
SAMPLES = [
    Sample(name, f"{name}.jpg", 100, 100, "detection", ("cat",), (Object((10, 10, 60, 60), "cat"),))
    for name in "abcd"
]


def run(completions, samples=SAMPLES, **options):
    rows = [Prediction(s.id, text, 9, "stop") for s, text in zip(samples, completions, strict=True)]
    return evaluate(samples, {row.id: row for row in rows}, PLAIN, resamples=0, **options)


def test_answers_without_tags_and_unreadable_ones_are_counted():
    texts = [f"<answer>{CAT}</answer>", f"so: {CAT}", "<think>perhaps", "<answer>a cat</answer>"]
    metrics = run(texts).metrics
    assert metrics["untagged_rate"] == 0.5
    assert metrics["unreadable"] == {"open thought": 1, "no JSON": 1}
    assert run([f"<answer>{CAT[:-1]}, 5]</answer>"] * 4).metrics["dropped"] == 4


def test_tolerant_reading_is_a_protocol_of_its_own():
    texts = [f"<answer>{CAT.replace(chr(34), chr(39))}</answer>"] * 4
    strict, tolerant = run(texts), run(texts, reading="tolerant")
    assert (strict.metrics["mAP"], tolerant.metrics["mAP"]) == (0.0, pytest.approx(1.0))
    assert strict.metrics["unreadable"] == {"broken JSON": 4}
    assert tolerant.metrics["protocol"]["reading"] == "tolerant"


def test_a_thought_that_the_prompt_opened_counts_as_form_and_is_no_answer():
    texts = [f"one</think><answer>{CAT}</answer>", f"may be {CAT}"] * 2
    opened = run(texts, settings={"opens_thought": True}).metrics
    assert (opened["format_rate"], opened["parse"]["missing"]) == (0.5, 0.5)
    assert opened["protocol"]["opens_thought"] is True
    assert run(texts).metrics["format_rate"] == 0.0


def test_answers_to_a_prompt_that_asks_for_no_tags_are_in_form_without_them():
    texts = [CAT, f"<think>one</think>\n```json\n{CAT}\n```", f"<answer>{CAT}</answer>", CAT[:-2]]
    native = run(texts, settings={"untagged": True}).metrics
    assert (native["format_rate"], native["protocol"]["untagged"]) == (0.5, True)
    assert run(texts).metrics["format_rate"] == 0.0


def failing(rule):
    rows = [Prediction(s.id, f"<answer>{CAT}</answer>", 9, "stop") for s in SAMPLES[:3]]
    rows.append(Prediction("d", "", 0, "error", error="too long"))
    return evaluate(SAMPLES, {r.id: r for r in rows}, PLAIN, errors=rule, resamples=0).metrics


def test_failed_predictions_are_refused_unless_their_rule_is_named():
    with pytest.raises(DataError, match=r"'d': too long.*--errors wrong or --errors skip"):
        failing(None)


@pytest.mark.parametrize(("rule", "n", "recall"), [("wrong", 4, 0.75), ("skip", 3, 1.0)])
def test_failed_predictions_count_as_the_rule_says(rule, n, recall):
    metrics = failing(rule)
    assert (metrics["n"], metrics["recall@0.5"]) == (n, recall)
    assert metrics["failed"] == {"n": 1, "rule": rule}
    assert metrics["tokens"]["mean"] == 9  # an error is no completion of no tokens
    assert metrics["protocol"]["errors"] == rule


def test_lengths_that_nobody_counted_are_unknown():
    rows = [Prediction(s.id, f"<answer>{CAT}</answer>", None, "stop") for s in SAMPLES]
    tokens = evaluate(SAMPLES, {r.id: r for r in rows}, PLAIN, resamples=0).metrics["tokens"]
    assert tokens == {"min": None, "max": None, "mean": None, "long": 0}


@pytest.mark.parametrize(
    ("completion", "finish"),
    [("", "stop"), ("<think>a cat at 1, 2</think>", "stop"), ("<think>I count", "length")],
)
def test_completions_without_any_answer_are_told_beside_the_figures(completion, finish):
    rows = [Prediction(s.id, completion, 9, finish) for s in SAMPLES]
    metrics = evaluate(SAMPLES, {r.id: r for r in rows}, PLAIN, resamples=0).metrics
    (hint,) = metrics["hints"]
    assert "4 of 4 completions hold no answer" in hint
    assert ("(4 are cut" in hint) == (finish == "length")
    assert run([completion, completion, "None", "None"]).metrics["hints"] == []


def test_boxes_on_words_that_nobody_asked_for_are_told():
    strange = CAT.replace("cat", "green square")
    (hint,) = run([f"<answer>{strange}</answer>"] * 4).metrics["hints"]
    assert "none of the 4 boxes has a label that was asked for" in hint
    assert "'green square'" in hint
    one_right = [f"<answer>{strange}</answer>"] * 3 + [f"<answer>{CAT}</answer>"]
    assert run(one_right).metrics["hints"] == []


def test_labels_that_count_as_one_are_told():
    names = ("Cat", "cat", "owl")
    asked = [replace(s, labels=names) for s in SAMPLES]
    (hint,) = run([f"<answer>{CAT}</answer>"] * 4, asked).metrics["hints"]
    assert hint.startswith("1 of 2 labels are spelt in several ways")
    assert "'Cat', 'cat'" in hint


def test_targets_that_no_answer_can_find_are_told():
    asked = [replace(s, labels=("cats",)) for s in SAMPLES]
    (hint,) = run([f"<answer>{CAT.replace('cat', 'cats')}</answer>"] * 4, asked).metrics["hints"]
    assert hint.startswith("4 of 4 target boxes have a label that their sample does not ask for")
    assert "sample 'a', 'cat'" in hint
