"""SFT on the same samples and prompts: TRL's trainer on gold completions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trl import SFTConfig, SFTTrainer

from boxrl.config import Recipe
from boxrl.engines.build import find_thinking, recipe_options
from boxrl.engines.prefix.shared_prefix import unwrap
from boxrl.engines.training.batches import mark_answers
from boxrl.engines.training.dataset import build_dataset
from boxrl.engines.training.grpo import (
    checked_config,
    common_arguments,
    common_options,
    split_step,
)
from boxrl.engines.training.preprocessing import decode_once, refusals_by_sample
from boxrl.engines.training.trainer_mixin import BoxTrainer
from boxrl.families import Family
from boxrl.prompts import build_prompt
from boxrl.types import Sample


class BoxSFTTrainer(BoxTrainer, SFTTrainer):
    """SFT whose loss is the mean over all answer tokens of a step, however it is cut up."""

    data_collator: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Qwen-VL models deny it for their own loss; TRL computes the loss itself and needs it,
        # or short answers weigh more the smaller the micro-batch is.
        self.model_accepts_loss_kwargs = True
        self._collate = self.data_collator
        self.data_collator = self._collate_answers

    def _collate_answers(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """TRL's batch; images as `predict` shows them, answers of the type that they have."""
        decoded = decode_once(rows)
        with refusals_by_sample(decoded, self.processing_class.image_processor):
            batch: dict[str, Any] = self._collate(decoded)
        mark_answers(unwrap(self.model), batch, batch["labels"] != -100)
        return batch


def build_trainer(
    recipe: Recipe,
    model: Any,
    processor: Any,
    family: Family,
    samples: Sequence[Sample],
    images: Path,
) -> BoxSFTTrainer:
    """The trainer of an SFT recipe; the loss is on the completion only.

    Arguments as `grpo.build_trainer`.
    """
    prompt = build_prompt(recipe.prompt)
    thinking = find_thinking(recipe_options(recipe, recipe.model), prompt)
    return BoxSFTTrainer(
        **common_arguments(recipe, model, processor, family),
        args=build_config(recipe, model),
        train_dataset=build_dataset(samples, images, prompt, family, gold=True, thinking=thinking),
    )


def build_config(recipe: Recipe, model: Any) -> SFTConfig:
    """The recipe in TRL's words; whatever stands under `train.trl` has the last word."""
    train = recipe.train
    micro, accumulate = split_step(recipe)
    options: dict[str, Any] = common_options(recipe, model) | {
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": accumulate,
        "completion_only_loss": True,
        "remove_unused_columns": False,  # images are decoded as their `sample` says
        "max_length": None,  # a cut image placeholder would no longer match its image
    }
    return checked_config(SFTConfig, options | train.trl)
