"""A guard set: questions whose answer is text, asked before and after training, by exact match."""

from __future__ import annotations

from pathlib import Path

import pytest

from boxrl.data.predictions import Prediction
from boxrl.data.samples import read_samples, write_samples
from boxrl.evaluate import compare, evaluate
from boxrl.families import FAMILIES
from boxrl.prompts import PROMPTS, render_text
from boxrl.types import Sample

GUARD = [
    Sample(f"{k}", f"{k}.png", 9, 9, "region", (), question=f"What is {k}?", answer=f"thing {k}")
    for k in range(4)
]


def said(*answers: str) -> dict[str, Prediction]:
    return {
        sample.id: Prediction(sample.id, f"<answer>{text}</answer>", 3, "stop")
        for sample, text in zip(GUARD, answers, strict=True)
    }


def test_questions_of_one_s_own_are_asked_as_they_stand(tmp_path: Path) -> None:
    write_samples(tmp_path / "guard.jsonl", GUARD)
    back = read_samples(tmp_path / "guard.jsonl")
    assert render_text(back[0], PROMPTS["qwen-native"]) == "What is 0?"


def test_what_training_forgot_is_a_paired_difference() -> None:
    before, after = (
        evaluate(GUARD, said(*answers), FAMILIES["plain"], resamples=0)
        for answers in (
            ("Thing 0", "thing  1.", "thing 2", "no"),  # case, blanks and one period aside
            ("thing 0", "thing 1 or so", "no", "no"),
        )
    )
    assert before.metrics["accuracy"] == 0.75
    row = compare(before, after, resamples=50)["metrics"]["accuracy"]
    assert row["difference"] == pytest.approx(-0.5)
    assert (row["better"], row["worse"]) == (0, 2)
