"""How far training has moved a model: KL divergence from the one it started as.

Small drift on questions that were not trained goes with little being unlearned (Shenfeld et al.
2025, arXiv 2509.04259).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from boxrl.engines.generate import Generator
from boxrl.generation.predict import Sampling
from boxrl.types import Sample


@torch.no_grad()
def measure_drift(
    start: Generator, trained: Generator, samples: Sequence[Sample], sampling: Sampling
) -> float:
    """Mean KL(start || trained) per token, in nats, of answers that the start draws.

    Args:
        start: the model before training.
        trained: the model after it; its tokens are the same.
        samples: what both are asked.
        sampling: how the start draws its answers, and how many at a time.
    """
    total, count = 0.0, 0
    for first in range(0, len(samples), sampling.batch_size):
        batch = samples[first : first + sampling.batch_size]
        inputs, completions = start.draw(batch, sampling)
        said = until_end(completions, start.eos)
        own = _log_probs(start.model, inputs, completions)
        other = _log_probs(trained.model, inputs, completions)
        divergence = (own.exp() * (own - other)).sum(-1)
        total += float(divergence[said].double().sum())
        count += int(said.sum())
    return total / count


def until_end(completions: Tensor, eos: Tensor) -> Tensor:
    """Which tokens of completions, "b c", were said: up to the first end, it included."""
    ended = torch.isin(completions, eos)
    return ended.cumsum(1) - ended.int() == 0


def _log_probs(model: Any, inputs: Any, completions: Tensor) -> Tensor:
    """Log-probabilities of every token at every place of the completions, "b c vocabulary"."""
    n = completions.shape[1]
    longer = {
        "input_ids": completions,
        "attention_mask": torch.ones_like(completions),
        "mm_token_type_ids": torch.zeros_like(completions),
    }
    joined = {
        key: torch.cat([value, longer[key].to(value.dtype)], 1) if key in longer else value
        for key, value in inputs.items()
    }
    logits: Tensor = model(**joined, use_cache=False).logits[:, -n - 1 : -1]
    return logits.float().log_softmax(-1)
