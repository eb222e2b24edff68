"""The mean of the weights over the last steps, beside the last ones.

What a run ends with depends on its last few samples; the mean of its last weights depends on them
less (Izmailov et al. 2018, arXiv 1803.05407).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from boxrl.engines.prefix.shared_prefix import unwrap

FILE = "average.safetensors"
"""Of a checkpoint: the mean so far, from which step on, and over how many."""


@torch.no_grad()
def add_to_mean(mean: dict[str, Tensor], count: int, model: nn.Module) -> None:
    """Move the mean of `count` steps to that of one more, in place, in float32.

    Args:
        mean: by name of a trained weight, of its own shape "n m"; empty for 0 steps.
        count: steps that it is of.
        model: with the weights of the next one.
    """
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            now = weight.detach().float()
            mean[name] = mean[name].lerp_(now, 1 / (count + 1)) if count else now.clone()


def first_step(share: float, steps: int) -> int:
    """The first step of the last `share` of them that counts; at least the last one does."""
    return steps - max(1, round(share * steps)) + 1


class AverageWeights(TrainerCallback):
    """Keeps the mean over the last `share` of the steps, through checkpoints too."""

    def __init__(self, share: float, steps: int, checkpoint: Path | None = None) -> None:
        """Go on from the mean in `checkpoint`, where it has one of these steps.

        A run that is trained further has other last steps: its mean begins anew.
        """
        self.first, self.count = first_step(share, steps), 0
        self.mean: dict[str, Tensor] = {}
        if checkpoint is None or not (checkpoint / FILE).is_file():
            return
        with safe_open(checkpoint / FILE, "pt") as stored:
            facts = stored.metadata()
            if int(facts["first"]) == self.first:
                self.count = int(facts["count"])
                names = list(stored.keys())
                self.mean = {name: stored.get_tensor(name) for name in names}

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Take in the step's weights, and put the mean into a checkpoint that is about to come.

        Arguments as TrainerCallback's.
        """
        if state.global_step < self.first:
            return
        inner = unwrap(model)
        self.mean = {name: value.to(inner.device) for name, value in self.mean.items()}
        add_to_mean(self.mean, self.count, inner)
        self.count += 1
        if control.should_save and state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            facts = {"first": str(self.first), "count": str(self.count)}
            save_file(self.mean, folder / FILE, facts)


@torch.no_grad()
def put_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Overwrite the model's weights of these names, each of the weight's own shape "n m"."""
    for name, weight in model.named_parameters():
        if name in weights:
            weight.copy_(weights[name])
