"""The packaged tiny VLM: the real architecture, and it looks at what is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from boxrl.data.predictions import Prediction  # noqa: E402
from boxrl.data.synthetic import World, scenes  # noqa: E402
from boxrl.engines.generate import Generator  # noqa: E402
from boxrl.engines.loading import load  # noqa: E402
from boxrl.engines.tiny.model import build_model, build_processor  # noqa: E402
from boxrl.engines.tiny.tokenizer import build_tokenizer  # noqa: E402
from boxrl.evaluate import evaluate  # noqa: E402
from boxrl.families import read_family  # noqa: E402
from boxrl.generation.model_folders import WEIGHTS, model_folder  # noqa: E402
from boxrl.generation.predict import Sampling  # noqa: E402
from boxrl.generation.questions import Questions  # noqa: E402
from boxrl.prompts import PROMPTS, render_target, render_text  # noqa: E402
from boxrl.types import Sample  # noqa: E402

COUNT = 160


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Sample], Path]:
    images = tmp_path_factory.mktemp("held_out")
    drawn = list(scenes(World(p_absent=0.3), COUNT, seed=11, split="tests"))
    for scene in drawn:
        scene.image.save(images / scene.sample.image)
    return [scene.sample for scene in drawn], images


def answers(
    model_name: str, held_out: tuple[list[Sample], Path], temperature: float = 0.0
) -> dict[str, Prediction]:
    samples, images = held_out
    model, processor = load(model_name, threads=1)
    family = read_family(model_folder(model_name))
    generator = Generator(model, processor, Questions(family, PROMPTS["standard"], images))
    sampling = Sampling(temperature=temperature, max_new_tokens=96)
    return {row.id: row for row in generator.answer(samples, sampling)}


def test_weights_are_small_and_of_the_real_architecture() -> None:
    size = sum(path.stat().st_size for path in WEIGHTS.rglob("*.safetensors"))
    assert 1_000_000 < size <= 10_000_000
    model, processor = load("tiny")
    assert type(model).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert (
        model.config.text_config.hidden_size // model.config.text_config.num_attention_heads == 32
    )
    assert processor.image_token == "<|image_pad|>"


def test_the_shipped_tokenizer_is_the_one_that_the_code_builds() -> None:
    _, processor = load("tiny")
    built = build_tokenizer()
    assert processor.tokenizer.get_vocab() == built.get_vocab()
    assert processor.tokenizer.chat_template == built.chat_template


def test_gold_completions_and_prompts_survive_the_tokenizer() -> None:
    tokenizer = build_tokenizer()
    family = read_family(model_folder("tiny"))
    for scene in scenes(World(), 20, seed=1, split="tokens"):
        for text in (
            render_target(scene.sample, family),
            *(render_text(scene.sample, prompt) for prompt in PROMPTS.values()),
            'Any text: über <think>{"a": [1.5]}\n\t🙂',
        ):
            ids = tokenizer(text)["input_ids"]
            assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert len(tokenizer(render_target(scene.sample, family))["input_ids"]) < 80


def test_a_new_model_has_the_shipped_shapes() -> None:
    model = build_model(build_processor().tokenizer, seed=0)
    shipped, _ = load("tiny")
    shapes = {name: p.shape for name, p in model.named_parameters()}
    assert shapes == {name: p.shape for name, p in shipped.named_parameters()}


def test_half_taught_looks_but_has_the_faults_that_rl_repairs(
    held_out: tuple[list[Sample], Path],
) -> None:
    samples, _ = held_out
    family = read_family(model_folder("tiny"))
    greedy = evaluate(samples, answers("tiny", held_out), family).metrics
    assert greedy["looks"] >= 0.85 > 0.6 > greedy["blind"]["looks"]
    assert greedy["negatives"]["accuracy"] >= 0.6
    assert greedy["AP50"] > greedy["blind"]["AP50"] + 0.2
    sampled = evaluate(samples, answers("tiny", held_out, 1.0), family).metrics
    assert 0.4 <= sampled["format_rate"] <= 0.8
    assert sampled["mAP"] < greedy["mAP"] < 0.6


def test_taught_answers_prompts_with_several_labels(held_out: tuple[list[Sample], Path]) -> None:
    family = read_family(model_folder("tiny-taught"))
    predictions = answers("tiny-taught", held_out)
    several = [sample for sample in held_out[0] if len(sample.labels) > 1]
    metrics = evaluate(several, {s.id: predictions[s.id] for s in several}, family).metrics
    assert len(several) >= 30
    assert metrics["looks"] >= 0.95
    assert metrics["f1"] >= 0.85
