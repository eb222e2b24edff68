"""A template that opens the thought is read alike in training, prediction and evaluation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from transformers import PreTrainedTokenizerBase, ProcessorMixin

from boxrl.cli import main
from boxrl.config import load_recipe
from boxrl.data.predictions import meta_path, read_predictions
from boxrl.data.samples import read_samples, render_sample
from boxrl.engines.answers import score_answers
from boxrl.engines.loading import load
from boxrl.engines.training import grpo
from boxrl.engines.training.train import train
from boxrl.errors import RecipeError, UsageError
from boxrl.evaluate import evaluate
from boxrl.evaluate.files import read_settings
from boxrl.families import read_family
from boxrl.generation.model_folders import PACKAGED
from boxrl.types import Sample
from tests.support.recipes import tiny_recipe

ASSISTANT = "<|im_start|>assistant\n{% endif %}"
OPENED = ASSISTANT.replace("{% endif %}", "<think>{% endif %}")
SWITCH = ASSISTANT + (
    "{% if add_generation_prompt and enable_thinking is not defined or enable_thinking %}"
    "{% if add_generation_prompt %}<think>{% endif %}{% endif %}"
)


def model_with(folder: Path, ending: str) -> Path:
    """The taught model, its template ending in `ending`."""
    shutil.copytree(PACKAGED["tiny-taught"], folder)
    template = folder / "chat_template.jinja"
    text = template.read_text()
    assert ASSISTANT in text
    template.write_text(text.replace(ASSISTANT, ending))
    return folder


def test_rewards_read_completions_as_begun_in_the_thought(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    folder = model_with(tmp_path / "model", OPENED)
    recipe = tiny_recipe(scene_folder, tmp_path / "run").model_copy(update={"model": str(folder)})
    family = read_family(folder)
    model, processor = load(str(folder), "float32", "cpu")
    trainer = grpo.build_trainer(recipe, model, processor, family, samples, scene_folder / "images")
    reward = trainer.reward_funcs[0]
    line = render_sample(samples[0])
    values = reward(
        completions=["one</think><answer>None</answer>", "<think>one</think><answer>None</answer>"],
        sample=[line] * 2,
        completion_ids=[[1]] * 2,
    )
    assert values == [1.0, 0.0]


def test_rewards_are_told_what_predictions_hold(
    scene_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    """Marks that are special tokens among it, which TRL drops; drawn as the recipe says alone."""
    recipe = tiny_recipe(
        scene_folder, tmp_path / "run", max_completion_length=2, engine={"shared_prefix": False}
    )
    model, processor = load("tiny", "float32", "cpu")
    family, images = read_family(PACKAGED["tiny"]), scene_folder / "images"
    trainer = grpo.build_trainer(recipe, model, processor, family, samples, images)
    told: list[str] = []

    def note(completions: Any, **_: Any) -> list[float]:
        told.extend(completion[0]["content"] for completion in completions)
        return [0.0] * len(completions)

    trainer.reward_funcs[0] = note
    trainer._read = lambda ids: f"begins with {ids[0]}"
    only = 7
    vocabulary = range(model.config.get_text_config().vocab_size)
    model.generation_config.begin_suppress_tokens = [n for n in vocabulary if n != only]
    trainer._generate_and_score_completions([trainer.train_dataset[0]] * 4)
    assert [text.startswith("begins with ") for text in told] == [True] * 4
    assert f"begins with {only}" not in told


def test_format_is_learned_and_paid_where_the_template_opens_the_thought(
    scene_folder: Path, tmp_path: Path
) -> None:
    """SFT, answers, evaluation and GRPO of a model whose completions begin in the thought."""
    folder = model_with(tmp_path / "model", OPENED)
    options = {"max_completion_length": 64, "prompts_per_step": 6}
    sft = tiny_recipe(
        scene_folder, tmp_path / "sft", method="sft", model=str(folder), rewards=["format"],
        max_steps=12, learning_rate=1e-3, prompts_per_step=6,
    )  # fmt: skip
    model, out = train(sft), tmp_path / "p.jsonl"
    scenes = ["--samples", str(scene_folder / "samples.jsonl")]
    call = ["predict", *scenes, "--images", str(scene_folder / "images"), "--model", str(model)]
    assert main([*call, "--out", str(out)]) == 0
    written = [row.completion for row in read_predictions(out).values()]
    assert sum(text.startswith("<think>") for text in written) == 0
    found = evaluate(
        read_samples(scene_folder / "samples.jsonl"), read_predictions(out), read_family(folder),
        settings=read_settings(out), resamples=0,
    )  # fmt: skip
    assert found.metrics["format_rate"] > 0.8
    grpo_run = tiny_recipe(
        scene_folder, tmp_path / "grpo", model=str(model), learning_rate=1e-6, **options
    )
    train(grpo_run)
    rows = [json.loads(line) for line in (tmp_path / "grpo/metrics.jsonl").read_text().splitlines()]
    assert min(row["rewards"]["format"] for row in rows) > 0.5


def test_the_switch_holds_in_training_validation_and_prediction(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_with(tmp_path / "model", SWITCH)
    prompts: list[str] = []
    batch_decode = PreTrainedTokenizerBase.batch_decode
    apply = ProcessorMixin.apply_chat_template

    def watch(self: Any, conversation: Any, *args: Any, **kwargs: Any) -> Any:
        found = apply(self, conversation, *args, **kwargs)
        if isinstance(found, str):
            prompts.append(found)
        elif isinstance(found, list):
            prompts.extend(found)
        else:
            prompts.extend(batch_decode(self.tokenizer, found["input_ids"]))
        return found

    monkeypatch.setattr(ProcessorMixin, "apply_chat_template", watch)
    recipe = tiny_recipe(scene_folder, tmp_path / "run", model=str(folder), save_steps=1)
    held_out = {
        "thinking": False,
        "data": recipe.data.model_copy(update={"test": scene_folder / "samples.jsonl"}),
        "train": recipe.train.model_copy(update={"validate_samples": 2}),
    }
    train(recipe.model_copy(update=held_out), score=score_answers)
    counted = len(prompts)
    call = ["predict", "--samples", str(scene_folder / "samples.jsonl"), "--limit", "1"]
    call += ["--images", str(scene_folder / "images"), "--model", str(folder)]
    assert main([*call, "--thinking", "off", "--out", str(tmp_path / "p.jsonl")]) == 0
    assert len(prompts) > counted > 4  # asked in training, in validation, in prediction
    assert [text for text in prompts if "<think>" in text.rpartition("assistant")[2]] == []
    prompts.clear()
    assert main([*call, "--thinking", "on", "--out", str(tmp_path / "q.jsonl")]) == 0
    assert all(text.endswith("<think>") for text in prompts) and prompts


def test_predictions_say_that_the_prompt_opened_the_thought(
    scene_folder: Path, tmp_path: Path
) -> None:
    model, out = model_with(tmp_path / "model", OPENED), tmp_path / "p.jsonl"
    call = ["predict", "--samples", scene_folder / "samples.jsonl", "--images",
            scene_folder / "images", "--limit", "2", "--model", model, "--out", out]  # fmt: skip
    assert main([str(word) for word in call]) == 0
    assert json.loads(meta_path(out).read_text())["opens_thought"] is True


def test_the_switch_is_protocol(scene_folder: Path, tmp_path: Path) -> None:
    model, out = model_with(tmp_path / "model", SWITCH), tmp_path / "p.jsonl"
    call = ["predict", "--samples", scene_folder / "samples.jsonl", "--images",
            scene_folder / "images", "--limit", "1", "--model", model, "--out", out]  # fmt: skip
    words = [str(word) for word in call]
    assert main([*words, "--thinking", "off"]) == 0
    settings = json.loads(meta_path(out).read_text())
    assert settings["thinking"] is False
    assert "opens_thought" not in settings
    assert main([*words, "--thinking", "on"]) == 2  # made with other settings


def test_a_switch_by_another_door_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: a\nmethod: grpo\ndata: {synthetic: {}}\n"
        "train: {trl: {chat_template_kwargs: {enable_thinking: false}}}\n"
    )
    with pytest.raises(RecipeError, match="use the recipe's key thinking"):
        load_recipe(path)


def test_a_template_without_the_switch_is_refused_before_anything_is_drawn(
    scene_folder: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(scene_folder, tmp_path / "run").model_copy(update={"thinking": False})
    with pytest.raises(UsageError, match="has no switch for thinking"):
        train(recipe)
