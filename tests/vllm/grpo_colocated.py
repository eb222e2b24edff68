"""GRPO with a real vLLM in the trainer's process, on a CPU; run by test_grpo.py.

    python tests/vllm/grpo_colocated.py SCENES OUT

Writes OUT/both.json: what vLLM and transformers answer before and after two steps, how far their
log-probabilities are apart, and how many image tokens are sampled with and without the ban.

Three things that a GPU does not need: without oneDNN vLLM's CPU build keeps the weights that new
ones are to be loaded into; float32, because TRL leaves the choice to vLLM, which takes bfloat16;
eager, because nothing here is worth compiling.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import vllm._custom_ops
from trl.data_utils import prepare_multimodal_messages
from trl.generation import vllm_generation

from boxrl.config import Recipe
from boxrl.engines.generate import Generator
from boxrl.engines.loading import banned_token_ids, load, quiet
from boxrl.engines.training import grpo
from boxrl.engines.training.preprocessing import decode_once
from boxrl.engines.training.train import training_samples
from boxrl.families import read_family
from boxrl.generation.model_folders import model_folder
from boxrl.generation.predict import Sampling
from boxrl.generation.questions import Questions
from boxrl.prompts import build_prompt

LENGTH = 64


def build_trainer(scenes: Path, out: Path) -> Any:
    """A trainer, and what gives transformers' greedy answers with its weights."""
    recipe = Recipe.model_validate(
        {
            "name": "colocated",
            "method": "grpo",
            "out": out,
            "data": {"train": scenes / "samples.jsonl", "images": scenes / "images"},
            "rewards": ["format", "ap"],
            "train": {
                "max_steps": 2,
                "learning_rate": 2e-3,
                "prompts_per_step": 4,
                "num_generations": 4,
                "max_completion_length": LENGTH,
                "trl": {"use_vllm": True, "vllm_max_model_length": 1024},
            },
            "engine": {"device": "cpu", "dtype": "float32", "threads": 1},
        }
    )
    model, processor = load("tiny", "float32", "cpu", 1)
    family = read_family(model_folder("tiny"))
    samples, images = training_samples(recipe)
    trainer = grpo.build_trainer(recipe, model, processor, family, samples, images)
    answers = Generator(model, processor, Questions(family, build_prompt("standard"), images))
    greedy = Sampling(max_new_tokens=LENGTH)
    return trainer, lambda: [p.completion for p in answers.answer(samples, greedy)]


def both(trainer: Any, transformers: Callable[[], list[str]]) -> dict[str, list[str]]:
    """Greedy answers to the training prompts by both engines, with the trainer's weights."""
    engine = trainer.vllm_generation
    sampled, engine.temperature = engine.temperature, 0.0
    completions, _ = trainer._generate_single_turn(*prompts(trainer), 1)
    engine.temperature = sampled
    trainer.model.eval()
    expected = transformers()
    trainer.model.train()
    decode = trainer.processing_class.tokenizer.batch_decode
    return {"vllm": decode(completions, skip_special_tokens=True), "transformers": expected}


def prompts(trainer: Any) -> Any:
    """Token ids, images and image features of all training prompts."""
    rows = decode_once(list(trainer.train_dataset))
    chats = [prepare_multimodal_messages(row["prompt"], images=[row["image"]]) for row in rows]
    return trainer._tokenize_prompts(chats)


def image_tokens_sampled(trainer: Any, options: dict[str, Any]) -> int:
    """How many there are among many tokens drawn from as flat a distribution as vLLM allows."""
    engine = trainer.vllm_generation
    told = engine.generation_kwargs, engine.temperature
    engine.generation_kwargs, engine.temperature = {"ignore_eos": True, **options}, 2.0
    completions = [
        completion
        for _ in range(4)
        for completion in trainer._generate_single_turn(*prompts(trainer), 1)[0]
    ]
    engine.generation_kwargs, engine.temperature = told
    banned = banned_token_ids(trainer.processing_class, trainer.family)
    return sum(token in banned for row in completions for token in row)


def run(scenes: Path, out: Path) -> None:
    trainer, transformers = build_trainer(scenes, out)
    before = both(trainer, transformers)
    image_tokens = {
        "banned": image_tokens_sampled(trainer, trainer.vllm_generation.generation_kwargs),
        "free": image_tokens_sampled(trainer, {}),
    }
    trainer.train()
    figures = {
        "before": before,
        "after": both(trainer, transformers),
        "log_prob_difference": [
            log["sampling/sampling_logp_difference/mean"]
            for log in trainer.state.log_history
            if "loss" in log
        ],
        "image_tokens": image_tokens,
    }
    (out / "both.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    quiet()
    vllm._custom_ops._supports_onednn = False
    vllm_generation.LLM = partial(vllm_generation.LLM, dtype="float32", enforce_eager=True)
    run(Path(sys.argv[1]), Path(sys.argv[2]))
