"""How far training has moved a model: KL divergence from the one it started as.

Small drift on questions that were not trained goes with little being unlearned (Shenfeld et al.
2025, arXiv 2509.04259).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from boxrl.engines.generate import Generator
from boxrl.errors import UsageError
from boxrl.evaluate.summary import image_groups
from boxrl.generation.predict import Sampling
from boxrl.metrics.intervals import interval, resample, resample_ratio
from boxrl.types import Sample


class Moved(NamedTuple):
    """How far a model has moved along one answer.

    Attributes:
        tokens: of the answer.
        divergence: sum of their KL, in nats.
        other_choice: of how many another token has become the likeliest.
    """

    tokens: int
    divergence: float
    other_choice: int


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
    rows = drift_by_sample(start, trained, samples, sampling)
    return sum(row.divergence for row in rows) / sum(row.tokens for row in rows)


def summarize_drift(
    rows: Sequence[Moved], samples: Sequence[Sample], seed: int, resamples: int
) -> dict[str, Any]:
    """Both figures over all answers, with 95 % intervals over images.

    Args:
        rows: of `drift_by_sample`.
        samples: those of the rows.
        seed: of the bootstrap.
        resamples: how often the images are drawn.

    Returns:
        `n` samples, their `tokens`, `kl` per token, `other_choice` as a share of them, and
        `intervals` of the two, None of one image alone.
    """
    tokens, divergence, others = np.array(rows, dtype=np.float64).T
    groups, n_images = image_groups(samples)
    draws = resample(n_images, resamples, seed)
    found: dict[str, Any] = {"n": len(rows), "tokens": int(tokens.sum()), "intervals": {}}
    for name, sums in (("kl", divergence), ("other_choice", others)):
        parts, wholes = (
            np.bincount(groups, column).astype(np.float64) for column in (sums, tokens)
        )
        ends = interval(resample_ratio(draws, parts, wholes))
        found[name] = float(sums.sum() / tokens.sum())
        found["intervals"][name] = list(ends) if ends else None
    return found


@torch.no_grad()
def drift_by_sample(
    start: Generator,
    trained: Generator,
    samples: Sequence[Sample],
    sampling: Sampling,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Moved]:
    """Of every sample's answer how far the trained model is from the start.

    Args:
        start: the model before training.
        trained: the model after it.
        samples: what both are asked.
        sampling: how the start draws its answers, and how many at a time.
        advance: called with the number of samples just done.

    Raises:
        UsageError: the models have different vocabularies.
    """
    words = [one.processor.tokenizer.get_vocab() for one in (start, trained)]
    if words[0] != words[1]:
        raise UsageError(
            "the models have different vocabularies: neither was trained from the other, so there "
            "is no drift to measure"
        )
    rows = []
    for first in range(0, len(samples), sampling.batch_size):
        batch = samples[first : first + sampling.batch_size]
        inputs, completions = start.draw(batch, sampling)
        said = until_end(completions, start.eos)
        own = _log_probs(start.model, inputs, completions)
        other = _log_probs(trained.model, inputs, completions)
        divergence = (own.exp() * (own - other)).sum(-1).double() * said
        changed = (own.argmax(-1) != other.argmax(-1)) & said
        sums = (said.sum(1).tolist(), divergence.sum(1).tolist(), changed.sum(1).tolist())
        rows += [Moved(*row) for row in zip(*sums, strict=True)]
        advance(len(batch))
    return rows


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
