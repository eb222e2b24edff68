"""Several draws, box log-probabilities and full memory, on the packaged tiny VLM."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from boxrl.data.predictions import read_predictions  # noqa: E402
from boxrl.engines.generate import Generator  # noqa: E402
from boxrl.engines.loading import load, quiet  # noqa: E402
from boxrl.families import read_family  # noqa: E402
from boxrl.generation.model_folders import model_folder  # noqa: E402
from boxrl.generation.predict import Sampling, predict  # noqa: E402
from boxrl.generation.questions import Questions  # noqa: E402
from boxrl.parsing import parse  # noqa: E402
from boxrl.prompts import PROMPTS  # noqa: E402
from boxrl.types import Sample  # noqa: E402


@pytest.fixture(scope="module")
def generator(scene_folder: Path) -> Generator:
    quiet()
    model, processor = load("tiny-taught", threads=1)
    family = read_family(model_folder("tiny-taught"))
    return Generator(
        model, processor, Questions(family, PROMPTS["standard"], scene_folder / "images")
    )


def test_draws_of_a_prompt_differ_and_stand_in_a_row(
    generator: Generator, samples: list[Sample], tmp_path: Path
) -> None:
    sampling = Sampling(temperature=1.0, max_new_tokens=64, n=4, batch_size=12)
    out = tmp_path / "p.jsonl"
    assert not predict(generator, samples[:5], out, sampling, {})
    rows = read_predictions(out)
    assert list(rows) == [f"{sample.id}#{k}" for sample in samples[:5] for k in range(4)]
    assert len({row.completion for row in rows.values()}) >= 8


def test_a_prompt_that_is_run_once_gives_what_its_rows_give_alone(
    generator: Generator, samples: list[Sample]
) -> None:
    once = generator.answer(samples[:6], Sampling(max_new_tokens=64, n=3, logprobs=True))
    alone = generator.answer(samples[:6], Sampling(max_new_tokens=64, logprobs=True))
    for k, row in enumerate(once):
        assert row.completion == alone[k // 3].completion
        assert row.box_logprobs == pytest.approx(alone[k // 3].box_logprobs, abs=1e-4)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_log_probabilities_are_those_of_one_pass_over_the_whole_text(
    generator: Generator, samples: list[Sample], temperature: float
) -> None:
    sampling = Sampling(temperature=temperature, max_new_tokens=64, logprobs=True)
    rows = generator.answer(samples, sampling)
    tokenizer = generator.processor.tokenizer
    with_boxes = 0
    for sample, row in zip(samples, rows, strict=True):
        n = len(parse(row.completion, generator.questions.family, sample.size_wh).detections)
        assert row.box_logprobs is not None
        assert len(row.box_logprobs) == n
        with_boxes += n
        images = {sample.id: generator.questions.image(sample)}
        inputs = generator._encode([sample], images)
        ids = tokenizer(row.completion, return_tensors="pt")["input_ids"]
        prompt = inputs["input_ids"].shape[1]
        whole = dict(inputs)
        whole["input_ids"] = torch.cat([inputs["input_ids"], ids], 1)
        for name in ("attention_mask", "mm_token_type_ids"):
            fill = torch.full_like(ids, int(name == "attention_mask"))
            whole[name] = torch.cat([inputs[name], fill], 1)
        with torch.no_grad():
            logprobs = generator.model(**whole).logits[0].log_softmax(-1)
        numbers = [
            logprobs[prompt + k - 1, token].item()
            for k, token in enumerate(ids[0])
            # In this tokenizer a coordinate is one token, `7` or `, 7`; the label follows it.
            if tokenizer.decode([token]).removeprefix(", ").isdigit()
            and '"bbox_2d"' in tokenizer.decode(ids[0][:k])
        ]
        assert len(numbers) == 4 * n
        means = [sum(numbers[k : k + 4]) / 4 for k in range(0, 4 * n, 4)]
        assert row.box_logprobs == pytest.approx(means, abs=1e-3)
    assert with_boxes >= 10


def test_a_batch_that_runs_out_of_memory_is_halved(
    generator: Generator, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    generate = generator.model.generate

    def crowded(*args: object, **kwargs: object) -> object:
        sizes.append(kwargs["input_ids"].shape[0])
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(*args, **kwargs)

    expected = generator.answer(samples, Sampling(max_new_tokens=64))
    monkeypatch.setattr(generator.model, "generate", crowded)
    rows = generator.answer(samples, Sampling(max_new_tokens=64))
    assert sizes == [12, 6, 3, 3, 6, 3, 3]
    assert [row.completion for row in rows] == [row.completion for row in expected]


def test_one_completion_that_does_not_fit_is_an_error_row(
    generator: Generator, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(generator.model, "generate", full)
    (row,) = generator.answer(samples[:1], Sampling())
    assert (row.finish_reason, row.id) == ("error", samples[0].id)
    assert "out of memory" in (row.error or "")


def test_a_resumed_sampled_run_repeats_the_uninterrupted_one(
    generator: Generator, samples: list[Sample], tmp_path: Path
) -> None:
    sampling = Sampling(temperature=1.0, max_new_tokens=64, n=2, batch_size=6)
    out = tmp_path / "p.jsonl"
    predict(generator, samples, out, sampling, {})
    whole = out.read_text()
    lines = whole.splitlines(keepends=True)
    out.write_text("".join(lines[:3] + lines[13:20]))
    predict(generator, samples, out, sampling, {})
    assert out.read_text() == whole
