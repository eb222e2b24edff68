"""Drift: nothing for the same model, the same in any batch, and the divergence it says it is."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from boxrl.cli import main  # noqa: E402
from boxrl.cli.doctor import print_drift  # noqa: E402
from boxrl.data.samples import read_samples  # noqa: E402
from boxrl.engines.drift import (  # noqa: E402
    Moved,
    drift_by_sample,
    measure_drift,
    summarize_drift,
    until_end,
)
from boxrl.engines.generate import Generator  # noqa: E402
from boxrl.engines.loading import load  # noqa: E402
from boxrl.errors import UsageError  # noqa: E402
from boxrl.families import read_family  # noqa: E402
from boxrl.generation.model_folders import model_folder  # noqa: E402
from boxrl.generation.predict import Sampling  # noqa: E402
from boxrl.generation.questions import Questions  # noqa: E402
from boxrl.prompts import PROMPTS  # noqa: E402
from tests.support.evaluations import sample  # noqa: E402


def generators(scene_folder: Path) -> tuple[Generator, Generator]:
    """The packaged model, and one whose output layer says every token twice as surely."""
    model, processor = load("tiny", threads=1)
    other = copy.deepcopy(model)
    other.lm_head = copy.deepcopy(model.lm_head)
    with torch.no_grad():
        other.lm_head.weight *= 2
    family = read_family(model_folder("tiny"))
    questions = Questions(family, PROMPTS["standard"], scene_folder / "images")
    return Generator(model, processor, questions), Generator(other, processor, questions)


def test_drift_is_zero_for_the_same_model_and_the_same_in_any_batch(scene_folder: Path) -> None:
    start, other = generators(scene_folder)
    samples = read_samples(scene_folder / "samples.jsonl")[:3]
    together, alone = (
        Sampling(temperature=0.0, max_new_tokens=24, batch_size=size) for size in (3, 1)
    )
    assert measure_drift(start, start, samples, together) == 0
    moved = measure_drift(start, other, samples, together)
    assert moved > 0.01
    assert moved == pytest.approx(measure_drift(start, other, samples, alone), rel=1e-4)


def test_drift_is_the_divergence_of_the_tokens_distributions(scene_folder: Path) -> None:
    start, other = generators(scene_folder)
    samples = read_samples(scene_folder / "samples.jsonl")[:1]
    sampling = Sampling(temperature=0.0, max_new_tokens=3)
    inputs, completions = start.draw(samples, sampling)
    expected = []
    for n in range(int(until_end(completions, start.eos).sum())):
        ids = torch.cat([inputs["input_ids"], completions[:, :n]], 1)
        kinds = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, n))
        more = {"input_ids": ids, "mm_token_type_ids": kinds, "attention_mask": ids * 0 + 1}
        with torch.no_grad():
            p, q = (
                torch.distributions.Categorical(
                    logits=model(**{**inputs, **more}).logits[0, -1].double()
                )
                for model in (start.model, other.model)
            )
        expected.append(float(torch.distributions.kl_divergence(p, q)))
    found = measure_drift(start, other, samples, sampling)
    assert found == pytest.approx(sum(expected) / len(expected), rel=1e-3)


def test_what_stands_behind_the_end_was_not_said() -> None:
    ids = torch.tensor([[5, 9, 9, 0], [9, 1, 1, 1], [5, 6, 7, 8]])
    said = until_end(ids, torch.tensor([9]))
    assert said.tolist() == [[True, True, False, False], [True] + [False] * 3, [True] * 4]


def test_figures_are_per_token_with_intervals_over_images() -> None:
    asked = [sample("1"), sample("2")]
    rows = [Moved(2, 1.0, 1), Moved(8, 0.0, 0)]
    found = summarize_drift(rows, asked, seed=0, resamples=200)
    assert (found["n"], found["tokens"]) == (2, 10)
    assert (found["kl"], found["other_choice"]) == (0.1, 0.1)
    assert found["intervals"]["kl"] == [0.0, 0.5]  # either image alone
    alone = summarize_drift(rows, [sample("1"), sample("2", image="1.jpg")], 0, 200)
    assert alone["intervals"]["kl"] is None
    print_drift(alone)


def test_models_of_different_vocabularies_are_refused(scene_folder: Path) -> None:
    start, other = generators(scene_folder)
    other.processor = copy.deepcopy(other.processor)
    other.processor.tokenizer.add_tokens(["new"])
    with pytest.raises(UsageError, match="different vocabularies"):
        drift_by_sample(start, other, [], Sampling())


def test_doctor_drift_tells_it(scene_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["doctor", "drift", "--base=tiny", "--model=tiny-taught", "--max-new-tokens=6"]
    call += [f"--samples={scene_folder / 'samples.jsonl'}", "--limit=2", "--prompt=standard"]
    call += [f"--images={scene_folder / 'images'}", "--resamples=20", "--device=cpu"]
    assert main([*call, "--json"]) in (0, None)
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == 2
    assert found["kl"] > 0
    assert main(call) in (0, None)
    assert "KL from the base, nats per token" in capsys.readouterr().out
