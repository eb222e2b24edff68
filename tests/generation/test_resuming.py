"""A predictions file goes on only with what it was begun with, whatever the names say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from boxrl.data.files import hash_file
from boxrl.data.predictions import Prediction, meta_path, read_predictions
from boxrl.data.samples import hash_question, write_samples
from boxrl.engines.answers import AnswerOptions, answer_samples
from boxrl.engines.build import EngineOptions
from boxrl.errors import UsageError
from boxrl.families import FAMILIES
from boxrl.generation.model_folders import PACKAGED, hash_weights
from boxrl.generation.predict import Draw, Keep, Sampling, predict
from boxrl.generation.questions import Questions
from boxrl.prompts import build_prompt
from boxrl.types import Sample


class Echo:
    """An engine that says how often it was asked."""

    def __init__(self, questions: Questions) -> None:
        self.questions, self.versions, self.asked = questions, {"echo": "1"}, 0

    def run(self, wanted: Sequence[Draw], done: set[str], sampling: Sampling, keep: Keep) -> None:
        missing = [draw for draw in wanted if draw.id not in done]
        self.asked += len(missing)
        keep([Prediction(draw.id, "None", 1, "stop") for draw in missing])


def echo(prompt: str = "standard") -> Echo:
    return Echo(Questions(FAMILIES["plain"], build_prompt(prompt), Path()))


def test_rows_that_answer_another_question_are_not_kept(
    samples: list[Sample], tmp_path: Path
) -> None:
    out, first = tmp_path / "p.jsonl", samples[0]
    predict(echo(), samples[:2], out, Sampling(), {})
    relabelled = [replace(first, labels=("a cat",)), samples[1]]
    with pytest.raises(UsageError, match=f"1 of its rows, '{first.id}' for one, answer other"):
        predict(echo(), relabelled, out, Sampling(), {})
    engine = echo()
    predict(engine, [samples[2], replace(first, objects=()), samples[1]], out, Sampling(), {})
    assert engine.asked == 1  # other targets are no other question
    assert list(read_predictions(out)) == [sample.id for sample in (samples[2], *samples[:2])]


def test_rows_that_do_not_tell_their_question_are_kept(
    samples: list[Sample], tmp_path: Path
) -> None:
    out, engine = tmp_path / "p.jsonl", echo()
    predict(engine, samples[:1], out, Sampling(), {})
    row = json.loads(out.read_text())
    assert row.pop("asked") == hash_question(samples[0])
    out.write_text(json.dumps(row) + "\n")
    predict(engine, samples[:1], out, Sampling(), {})
    assert engine.asked == 1


def test_an_edited_prompt_of_ones_own_is_another_setting(
    samples: list[Sample], tmp_path: Path
) -> None:
    prompt, out = tmp_path / "own.yaml", tmp_path / "p.jsonl"
    prompt.write_text("instruction: Say it.")
    predict(echo(str(prompt)), samples[:1], out, Sampling(), {})
    assert json.loads(meta_path(out).read_text())["prompt_file"] == hash_file(prompt)[:12]
    prompt.write_text("instruction: Say it at once.")
    with pytest.raises(UsageError, match="prompt_file: '"):
        predict(echo(str(prompt)), samples[:1], out, Sampling(), {})


@pytest.mark.parametrize(
    ("engine", "changed", "said"),
    [
        (EngineOptions("tiny"), {"model": "tiny-taught"}, "weights: '"),
        (EngineOptions("tiny"), {"dtype": "bfloat16"}, "dtype: None there, 'bfloat16' now"),
        (
            EngineOptions("served", "openai", served_model_name="first"),
            {"served_model_name": "second"},
            "served_model_name: 'first' there, 'second' now",
        ),
    ],
)
def test_what_answers_is_part_of_the_settings(
    samples: list[Sample], tmp_path: Path, engine: EngineOptions, changed: dict[str, str], said: str
) -> None:
    file, out = tmp_path / "samples.jsonl", tmp_path / "p.jsonl"
    write_samples(file, samples[:1])

    def call(options: EngineOptions) -> None:
        asked = AnswerOptions(options, Sampling())
        answer_samples(asked, samples[:1], file, tmp_path, out, engine=echo())

    call(engine)
    call(replace(engine, concurrency=2))
    with pytest.raises(UsageError, match=said):
        call(replace(engine, **changed))  # type: ignore[arg-type]


def test_weights_of_two_trainings_have_two_hashes(tmp_path: Path) -> None:
    assert hash_weights(PACKAGED["tiny"]) != hash_weights(PACKAGED["tiny-taught"])
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(1000))
    before = hash_weights(tmp_path)
    file.write_bytes(bytes(999) + b"1")
    assert hash_weights(tmp_path) != before
    file.write_bytes(bytes(1000))
    assert hash_weights(tmp_path) == before
