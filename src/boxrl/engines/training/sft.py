"""SFT on the same samples and prompts: TRL's trainer on gold completions.

The samples of a micro-batch stand in one row without padding, and those of one image share it;
the loss is TRL's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import SequentialSampler
from trl import SFTConfig, SFTTrainer

from boxrl.config import Recipe
from boxrl.engines.build import find_thinking, recipe_options
from boxrl.engines.loading import end_token_ids
from boxrl.engines.prefix.answered import UNLABELLED, pack_answered, split_answered
from boxrl.engines.prefix.shared_prefix import unwrap
from boxrl.engines.training.batches import join_rows, mark_answers
from boxrl.engines.training.dataset import build_dataset
from boxrl.engines.training.grpo import (
    checked_config,
    common_arguments,
    common_options,
    split_step,
)
from boxrl.engines.training.paths import path_of_sft
from boxrl.engines.training.preprocessing import (
    decode_once,
    in_plain_text,
    once_per_image,
    refusals_by_sample,
)
from boxrl.engines.training.trainer_mixin import BoxTrainer
from boxrl.errors import UsageError
from boxrl.families import Family
from boxrl.generation.chat_template import is_quoted
from boxrl.prompts import build_prompt
from boxrl.types import Sample

SHOWN = "shown"
"""In a batch the number of each row's image, Long "b"; of TRL's path it has none."""
ANSWER = "boxrl-looks-for-this"
"""An answer that no template has words of."""


class BoxSFTTrainer(BoxTrainer, SFTTrainer):
    """SFT whose loss is the mean over all answer tokens of a step, however it is cut up."""

    REPEATS = "pads samples to the longest of their micro-batch"

    data_collator: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Qwen-VL models deny it for their own loss; TRL computes the loss itself and needs it,
        # or short answers weigh more the smaller the micro-batch is.
        self.model_accepts_loss_kwargs = True
        self._collate = self.data_collator
        self.data_collator = self._collate_answers

    def _unshared(self) -> str | None:
        return path_of_sft(unwrap(self.model), vars(self.args))

    def _collate_answers(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """TRL's batch; images as `predict` shows them."""
        paths = [row["image"] for row in rows]
        decoded, processor = decode_once(rows), self.processing_class.image_processor
        repeated = len(set(paths)) < len(paths)
        with (
            refusals_by_sample(decoded, processor),
            once_per_image(processor) if repeated else nullcontext(),
            answers_as_text(self.processing_class),
        ):
            batch: dict[str, Any] = self._collate(decoded)
        if self.shared_prefix:
            batch[SHOWN] = torch.tensor([paths.index(path) for path in paths])
        return batch

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        """TRL's, or one that has samples of one image stand together."""
        if self.prompts_per_image == 1:
            return super()._get_train_sampler(dataset)
        dataset = dataset or self.train_dataset
        return self._bundled(SequentialSampler(dataset), dataset, self._rows_ordered)

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """TRL's, of one row without padding and with answers of the type that they have.

        Args:
            model: as it is trained.
            inputs: of the collator.
            return_outputs: the loss with the model's outputs, which are then of TRL's path.
            num_items_in_batch: labelled tokens of the whole step, of all processes.
        """
        # Here and not in the collator: the model's masks are asked for, on its device.
        mark_answers(unwrap(model), inputs, inputs["labels"] != UNLABELLED)
        images = inputs.pop(SHOWN, None)
        if images is not None and not return_outputs:
            answered = split_answered(model, inputs, images)
            if not self._bundles_seen:
                self._say_why_apart(answered.apart)
            if not self._checked:
                rows = answered.rows
                joined = join_rows(unwrap(self.model), rows, inputs)
                self._check_first(model, joined, rows.completion_ids.shape[1])
            if not self._inexact:
                inputs = pack_answered(model, answered)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def _score_plainly(self, model: Any, inputs: dict[str, Any], n: int) -> Tensor:
        """The last `n` tokens by the model itself."""
        batch = {name: x for name, x in inputs.items() if name not in ("num_images", "num_tiles")}
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, UNLABELLED)
        labels[:, :-n] = UNLABELLED
        output = model(**batch, labels=labels, fused_lm_head=True, use_cache=False)
        scored: Tensor = output.log_probs[:, -n:]
        return scored


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
    config, ends = build_config(recipe, model), end_token_ids(model, processor.tokenizer)
    if config.eos_token is not None:  # TRL has generation end there as well
        ends = [*ends, processor.tokenizer.convert_tokens_to_ids(config.eos_token)]
    ending = find_ending(processor, ends, **thinking.template_arguments)
    return BoxSFTTrainer(
        **common_arguments(recipe, model, processor, family, config),
        train_dataset=build_dataset(samples, images, prompt, family, True, thinking, ending),
    )


def answers_as_text(processor: Any) -> AbstractContextManager[None]:
    """`in_plain_text`, where the chat template would write an answer as a list of parts.

    TRL gives it every message in parts, and a template may take answers as a text alone.

    Args:
        processor: the model's.
    """
    chat = [_says("user", "?"), _says("assistant", ANSWER)]
    in_parts = is_quoted(ANSWER, processor.apply_chat_template(chat, tokenize=False))
    return in_plain_text(processor) if in_parts else nullcontext()


def find_ending(processor: Any, ends: Sequence[int], **arguments: Any) -> str:
    """What an answer has to end in by itself, where the chat template ends none.

    Without it a model would never be taught to stop.

    Args:
        processor: the model's.
        ends: tokens at which generation ends.
        arguments: of the chat template.

    Returns:
        The token that follows an answer where the user goes on, if it is one of `ends`; else the
        tokenizer's own or the first of them. "" where the template has one behind every answer.

    Raises:
        UsageError: the template drops answers.
    """
    tokenizer = processor.tokenizer

    def follows(*more: dict[str, Any]) -> list[int]:
        chat = [_says("user", "?"), _says("assistant", ANSWER), *more]
        with answers_as_text(processor):
            whole = processor.apply_chat_template(chat, tokenize=False, **arguments)
        _, found, rest = whole.partition(ANSWER)
        if not found:
            raise UsageError(
                f"{tokenizer.name_or_path}: the chat template drops answers, so SFT would learn "
                "nothing; take the template of the model that the folder was made from"
            )
        tokens: list[int] = tokenizer(rest, add_special_tokens=False)["input_ids"]
        return tokens

    if set(ends).intersection(follows()):
        return ""
    candidates = [*follows(_says("user", "?"))[:1], tokenizer.eos_token_id, *ends]
    ending: str = tokenizer.decode([next(token for token in candidates if token in ends)])
    return ending


def _says(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


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
