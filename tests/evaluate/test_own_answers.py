"""A model's own answers as samples that teach it to state scores."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from boxrl.data.samples import read_samples, write_samples
from boxrl.evaluate import evaluate
from boxrl.evaluate.own_answers import scored_samples
from boxrl.parsing import parse
from boxrl.parsing.scores import written_scores
from boxrl.prompts import PROMPTS, render_target
from tests.support.evaluations import PLAIN, A, C, answer, prediction, sample

SAMPLES = [sample("1", (A, "cat")), sample("2", (A, "cat")), sample("3"), sample("4", (A, "cat"))]
ANSWERS = {
    "1": prediction("1", answer((A, "cat"), (C, "dog")), box_logprobs=(-0.1, -3.0)),
    "2": prediction("2", "no idea", box_logprobs=()),
    "3": prediction("3", "<answer>None</answer>", box_logprobs=()),
    "4": prediction("4", answer((A, "cat")), box_logprobs=(-0.2,)),
}


def test_what_was_right_and_sure_is_worth_more() -> None:
    evaluation = evaluate(SAMPLES, ANSWERS, PLAIN, confidence="logprob", resamples=0)
    found = scored_samples(SAMPLES, evaluation)
    assert [item.id for item in found] == ["1", "3", "4"]  # an answer that nobody can read is none
    assert [item.meta["scores"] for item in found] == [[1.0, 0.0], [], [1.0]]
    assert [item.bbox for item in found[0].objects] == [tuple(A), tuple(C)]


def test_a_box_without_area_is_none_that_a_samples_file_holds(tmp_path: Path) -> None:
    """One outside of the image, or as thin as a line, made the whole file one that nobody reads."""
    outside, line = [900.0, 900.0, 950.0, 950.0], [5.0, 5.0, 5.0, 50.0]
    rows = {"1": prediction("1", answer((A, "cat"), (outside, "cat"), (line, "cat")))}
    evaluation = evaluate(SAMPLES[:1], rows, PLAIN, resamples=0)
    write_samples(tmp_path / "scored.jsonl", scored_samples(SAMPLES[:1], evaluation))
    (read,) = read_samples(tmp_path / "scored.jsonl")
    assert ([item.bbox for item in read.objects], read.meta["scores"]) == ([tuple(A)], [1.0])


def test_a_score_is_the_share_of_its_bin_that_is_right() -> None:
    """200 boxes, the surer the likelier right: of every ten bins of twenty the right share."""
    samples = [sample(f"{k:03d}", (A, "cat")) for k in range(200)]
    rows = {
        item.id: prediction(
            item.id, answer((A if (k * 7) % 200 < k else C, "cat")), box_logprobs=(-3 + k / 100,)
        )
        for k, item in enumerate(samples)
    }
    evaluation = evaluate(samples, rows, PLAIN, confidence="logprob", resamples=0)
    right = {row.id: row.predictions[0].kind == "right" for row in evaluation.rows}
    bins = defaultdict(list)
    for item in scored_samples(samples, evaluation):
        bins[item.meta["scores"][0]].append(right[item.id])
    assert len(bins) > 5
    for score, hits in bins.items():
        assert sum(hits) / len(hits) == pytest.approx(score, abs=0.005)


def test_the_gold_answer_states_them_and_is_read_back() -> None:
    evaluation = evaluate(SAMPLES, ANSWERS, PLAIN, confidence="logprob", resamples=0)
    first = replace(scored_samples(SAMPLES, evaluation)[0], meta={"scores": [0.8, 0.05]})
    text = render_target(first, PLAIN, prompt=PROMPTS["scored"])
    assert '"label": "cat", "score": 0.80}' in text
    assert written_scores(parse(text, PLAIN, first.size_wh)) == pytest.approx((0.8, 0.05))
