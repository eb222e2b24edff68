"""Five steps of GRPO and SFT in several settings, run by one process or by each of several.

    accelerate launch --config_file FILE -m tests.engines.training.dealt_out FOLDER

FOLDER holds samples.jsonl and images/. The first process writes SETTING/found.json there, and all
of them SETTING/model.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, is_deepspeed_available
from transformers import PrinterCallback, TrainerCallback
from trl.distributed import DistributedBackend

from boxrl.config import Recipe
from boxrl.engines.loading import load, quiet
from boxrl.engines.training.train import BUILD_TRAINER, training_samples
from boxrl.families import read_family
from boxrl.generation.model_folders import model_folder
from tests.support.random_models import (
    IMAGE_FIRST,
    KINDS,
    TOKENS,
    build_plain_model,
    build_processor,
)
from tests.support.recipes import tiny_recipe, write_questions

STEPS = 5
FIGURES = {
    "grpo": ("loss", "grad_norm", "reward"),
    "sft": ("loss", "grad_norm", "entropy", "mean_token_accuracy", "num_tokens"),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "tiny": {"beta": 0.1, "learning_rate": 1e-3},
    "tiny, LoRA": {"beta": 0.1, "lora": {"r": 2, "alpha": 4}},
    "tiny, some groups alike": {"learning_rate": 1e-3, "micro_batch_prompts": 1},
    "tiny, two prompts an image": {"beta": 0.1, "learning_rate": 1e-3, "prompts_per_image": 2},
    "tiny, SFT": {"method": "sft", "learning_rate": 1e-3, "prompts_per_image": 2},
    **{kind: {} for kind in KINDS},
}


def letters(completions: Any, **_: Any) -> list[float]:
    """What a random model can earn, unlike anything for boxes."""
    return [len(set(completion[0]["content"])) / 10 for completion in completions]


class SameDraws(TrainerCallback):
    """Stands in for torch.multinomial: a row draws the same, whichever process holds it."""

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows
        self.generator = torch.Generator()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.generator.manual_seed(state.global_step)

    def __call__(self, probabilities: torch.Tensor, num_samples: int) -> torch.Tensor:
        noise = torch.rand(self.n_rows, probabilities.shape[1], generator=self.generator)
        first = int(os.environ.get("RANK", "0")) * len(probabilities)
        own = noise[first : first + len(probabilities)]
        return (probabilities / -own.log()).argmax(1, keepdim=True)


def build_recipe(folder: Path, setting: str, **trl: Any) -> Recipe:
    """Float32 on a CPU; AdamW's eps keeps rounding out of gradients that are next to zero."""
    options = {"max_steps": STEPS, "trl": {"adam_epsilon": 1e-4, **trl}, **SETTINGS[setting]}
    recipe = tiny_recipe(folder, folder / setting, **options)
    if recipe.train.prompts_per_image == 1:
        return recipe
    data = recipe.data.model_copy(
        update={"train": write_questions(folder, folder / "questions.jsonl")}
    )
    return recipe.model_copy(update={"data": data})


def build_model(setting: str) -> tuple[Any, Any]:
    """Model and processor: random ones of an architecture, or the packaged ones."""
    model, processor = load("tiny", "float32", "cpu", 1)
    if setting not in KINDS:
        if "prompts_per_image" in SETTINGS[setting]:
            processor.chat_template = IMAGE_FIRST
        return model, processor
    tokens = {name: getattr(model.config, name) for name in TOKENS}
    vocabulary = model.config.text_config.vocab_size
    return build_plain_model(setting, 0, vocabulary, tokens), build_processor(setting)


def share_held(model: Any) -> float:
    """How much of the model's weights this process holds between two steps."""
    held = total = 0
    for parameter in model.parameters():
        part = getattr(parameter, "_local_tensor", getattr(parameter, "ds_tensor", parameter))
        held += part.numel()
        total += getattr(parameter, "ds_numel", parameter.numel())
    return held / total


def train(recipe: Recipe, setting: str, model: Any, processor: Any) -> dict[str, Any]:
    """Loss, gradient norm and reward of every step, and how the trainer shared the work."""
    recipe.out.mkdir(parents=True, exist_ok=True)
    family = read_family(model_folder("tiny"))
    build = BUILD_TRAINER[recipe.method]
    trainer = build(recipe, model, processor, family, *training_samples(recipe))
    if recipe.method == "grpo" and (setting in KINDS or recipe.train.prompts_per_image > 1):
        trainer.reward_funcs = [letters] * len(trainer.reward_funcs)
    draws = SameDraws(recipe.train.prompts_per_step * recipe.train.num_generations)
    trainer.add_callback(draws)
    trainer.remove_callback(PrinterCallback)
    torch.multinomial = draws
    trainer.train()
    trainer.save_model(str(recipe.out / "model"))
    steps = trainer.state.log_history[:STEPS]
    assert "image_trees" not in trainer.notices
    backend = DistributedBackend(trainer.accelerator)
    return {
        "processes": trainer.accelerator.num_processes,
        "zero_stage": backend.zero_stage,
        "fsdp_version": backend.fsdp_version,
        "share_held": share_held(trainer.model),
        **{name: [row[name] for row in steps] for name in FIGURES[recipe.method]},
    }


def take_cpus_for_gpus() -> None:
    """Let accelerate shard with FSDP here; 1.15 does so only where it finds an accelerator."""
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)


def main() -> None:
    folder = Path(sys.argv[1])
    quiet()
    torch.set_num_threads(1)
    trl = {}
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        take_cpus_for_gpus()
        trl["use_cpu"] = False
    if is_deepspeed_available():
        from deepspeed.ops import __compatible_ops__

        __compatible_ops__["deepspeed_shm_comm"] = False  # gloo does as well and needs no compiler
    # All before the first trainer: from then on ZeRO-3 cuts up every model that is built.
    models = {setting: build_model(setting) for setting in SETTINGS}
    for setting, built in models.items():
        found = train(build_recipe(folder, setting, **trl), setting, *built)
        if os.environ.get("RANK", "0") == "0":
            (folder / setting / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
