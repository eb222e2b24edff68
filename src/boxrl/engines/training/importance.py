"""What vLLM's probabilities are corrected by, out of the training's own forward pass.

TRL scores completions that vLLM sampled once more before they are learned from, to weigh them by
how much likelier the trained model finds them than vLLM did. While the weights rest, that pass and
the training's own give the same numbers, so one of them is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Correction(NamedTuple):
    """TRL's options.

    Attributes:
        mode: `token_truncate`, `token_mask`, `sequence_truncate` or `sequence_mask`.
        lowest, highest: ratios beyond them are truncated or masked; None for no limit.
    """

    mode: str
    lowest: float | None
    highest: float | None

    def ratio(self, trained: Tensor, sampled: Tensor, mask: Tensor) -> Tensor:
        """The factor of each token's loss, Float "b c", or "b 1" where a sequence has one.

        Args:
            trained: Float "b c", log-probabilities under the trained model.
            sampled: Float "b c", as vLLM gave them; NaN where it gave none.
            mask: "b c", 0 on padding.
        """
        difference = ((trained - sampled) * mask).nan_to_num(nan=0.0)
        if self.mode.startswith("sequence"):
            difference = difference.sum(-1, keepdim=True)
        ratio = difference.exp()
        if self.mode.endswith("truncate"):
            return ratio.clamp(min=self.lowest, max=self.highest)
        low = -math.inf if self.lowest is None else self.lowest
        high = math.inf if self.highest is None else self.highest
        return ratio.masked_fill((ratio < low) | (ratio > high), 0.0)


class Divergence:
    """How far vLLM and the trained model are apart on the completions of a generation."""

    def __init__(self) -> None:
        self._differences: list[Tensor] = []
        self._ratios: list[Tensor] = []

    def add(self, trained: Tensor, sampled: Tensor, mask: Tensor, ratio: Tensor) -> None:
        """Take in a micro-batch.

        Args:
            trained: "b c", as of `Correction.ratio`.
            sampled: "b c", likewise.
            mask: "b c", likewise.
            ratio: what that returned.
        """
        difference = (trained - sampled).abs()
        self._differences.append(difference[mask.bool() & ~difference.isnan()])
        self._ratios.append(ratio[mask.bool()] if ratio.shape == mask.shape else ratio.flatten())

    def take(self, accelerator: Any) -> dict[str, float]:
        """TRL's figures of what was taken in by all processes, by name; nothing is kept."""
        difference, ratio = torch.cat(self._differences), torch.cat(self._ratios)
        self._differences, self._ratios = [], []

        def of(values: Tensor, figure: Callable[[Tensor], Tensor]) -> Tensor:
            own = figure(values) if len(values) else values.new_zeros(())
            found: Tensor = accelerator.gather(own[None])
            return found

        return {
            "sampling/sampling_logp_difference/mean": of(difference, torch.mean).mean().item(),
            "sampling/sampling_logp_difference/max": of(difference, torch.max).max().item(),
            "sampling/importance_sampling_ratio/min": of(ratio, torch.min).min().item(),
            "sampling/importance_sampling_ratio/mean": of(ratio, torch.mean).mean().item(),
            "sampling/importance_sampling_ratio/max": of(ratio, torch.max).max().item(),
        }


def correction_of_forward(trainer: Any) -> Correction | None:
    """TRL's, where the training's own forward pass has what it asks for; else None.

    Generations that several updates learn from need a pass before the first, and where dropout
    has two passes differ they are not one.

    Args:
        trainer: TRL's of GRPO.
    """
    if not (trainer.use_vllm and trainer.vllm_importance_sampling_correction):
        return None
    updates = trainer.args.steps_per_generation * trainer.num_iterations
    if trainer.args.gradient_accumulation_steps % updates or has_dropout(trainer.model):
        return None
    return Correction(
        trainer.vllm_importance_sampling_mode,
        trainer.vllm_importance_sampling_clip_min,
        trainer.vllm_importance_sampling_clip_max,
    )


def has_dropout(model: nn.Module) -> bool:
    """Whether two forward passes of a training differ.

    Args:
        model: wrapped or not.
    """
    for module in model.modules():
        rates = [getattr(module, name, 0.0) for name in ("dropout", "attention_dropout")]
        rates.append(module.p if isinstance(module, nn.Dropout) else 0.0)
        if any(isinstance(rate, float) and rate > 0 for rate in rates):
            return True
    return False
