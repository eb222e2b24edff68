"""What a reward selects for among the completions of one policy, without training on it.

A group-normalised policy gradient moves the mean of a trait, to first order, by the covariance
within groups of advantage and trait: the selection differential of Price's equation. It tells what
a reward asks for at this policy, not where training ends.

Source: Price 1970; advantages as TRL's GRPOTrainer normalises them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from boxrl.data.predictions import Prediction
from boxrl.errors import DataError
from boxrl.evaluate.judging import Question, judge_completion
from boxrl.evaluate.pass_at_k import draws_per_sample
from boxrl.evaluate.summary import image_groups
from boxrl.families import Family
from boxrl.parsing import AnswerTag, parse
from boxrl.parsing.answers import as_read
from boxrl.rewards import Reward
from boxrl.types import Asked, Completion, Sample, Target

Floats = npt.NDArray[np.float64]

TRAITS = ("tokens", "boxes too many", "precision", "recall", "F1", "format")
"""What is followed: completion tokens, false boxes, the rest at IoU .5 within the label."""

EPSILON = 1e-4
"""Added to the spread of a group's rewards, as TRL does."""

NORMAL_975 = 1.96


def measure_selection(
    samples: Sequence[Sample],
    predictions: Mapping[str, Prediction],
    family: Family,
    rewards: Sequence[Reward],
    *,
    answer_tag: AnswerTag = "required",
    opened: bool = False,
) -> dict[str, Any]:
    """Selection differentials of every reward, on the same completions.

    Args:
        samples: what was asked; detection and grounding samples count.
        predictions: by draw, ids `ID#0` to `ID#n-1`, for every sample.
        family: the frame in which the model answered.
        rewards: built rewards; with several, `sum` stands for all of them together.
        answer_tag: as of `parse`; training requires tags where the prompt asks for them.
        opened: whether the prompt had opened the thought.

    Returns:
        `{"n", "draws", "rewards": {NAME: {"flat_groups", "traits": {TRAIT: {"mean", "low",
        "high", "n"}}}}, "beside": {"NAME - FIRST": {TRAIT: ...}}}`: by how much of a trait's unit
        a step of unit size moves its mean, with the 95 % interval over images; `flat_groups` is
        the share of samples all of whose completions earn the same, which teach nothing;
        `beside` holds differences from the first reward, paired by sample. A trait is None where
        no sample has it.

    Raises:
        UsageError: the file holds single answers.
        DataError: draws are missing or ended in error, or no sample asks for boxes.
    """
    asked = [sample for sample in samples if sample.task in ("detection", "grounding")]
    if not asked:
        raise DataError("no detection or grounding samples; selection is told of boxes")
    draws = draws_per_sample(asked, predictions)
    names = [reward.name for reward in rewards] + (["sum"] if len(rewards) > 1 else [])
    moved: dict[str, list[Floats]] = {name: [] for name in names}
    flat = dict.fromkeys(names, 0)
    for sample in asked:
        answers = [predictions[f"{sample.id}#{k}"] for k in range(draws)]
        group = [_read(sample, answer, family, answer_tag, opened) for answer in answers]
        traits = np.array([_traits(sample, completion) for completion in group])
        for name, paid in _pay(rewards, group, Target.from_sample(sample)).items():
            flat[name] += int(np.ptp(paid) == 0)
            moved[name].append(_differentials(paid, traits))
    stacked = {name: np.array(values) for name, values in moved.items()}
    images = np.array(image_groups(asked)[0])
    return {
        "n": len(asked),
        "draws": draws,
        "rewards": {
            name: {"flat_groups": flat[name] / len(asked), "traits": _summarize(values, images)}
            for name, values in stacked.items()
        },
        "beside": {
            f"{name} - {names[0]}": _summarize(stacked[name] - stacked[names[0]], images)
            for name in names[1:]
        },
    }


def _read(
    sample: Sample, answer: Prediction, family: Family, answer_tag: AnswerTag, opened: bool
) -> Completion:
    """The draw as training reads it."""
    text = as_read(answer.completion, opened)
    size, asked = sample.size_wh, Asked.from_sample(sample)
    parsed = parse(text, family, size, answer.input_size_wh, answer_tag, asked)
    return Completion(text, parsed, answer.n_tokens)


def _traits(sample: Sample, completion: Completion) -> list[float]:
    """One number per trait; NaN where it is not defined."""
    boxes = len(completion.parsed.detections)
    row = judge_completion(
        Question.from_sample(sample), completion, (1.0,) * boxes, truncated=False
    )
    found, right = row.tp + row.fp, row.tp + row.fn
    return [
        math.nan if row.n_tokens is None else row.n_tokens,
        row.fp,
        row.tp / found if found else math.nan,
        row.tp / right if right else math.nan,
        2 * row.tp / (found + right) if found + right else 1.0,
        row.formatted,
    ]


def _pay(
    rewards: Sequence[Reward], group: Sequence[Completion], target: Target
) -> dict[str, Floats]:
    """Each reward of a group, "draws", and their sum; one that does not apply pays 0."""
    paid = {
        reward.name: np.array([reward(completion, target) or 0.0 for completion in group])
        for reward in rewards
    }
    return paid | ({"sum": sum(paid.values(), np.zeros(len(group)))} if len(rewards) > 1 else {})


def _differentials(paid: Floats, traits: Floats) -> Floats:
    """Covariance of advantage and each trait in one group, "traits"; NaN under two values."""
    spread = float(paid.std(ddof=1))
    advantage = (paid - paid.mean()) / (spread + EPSILON)
    found = np.full(traits.shape[1], np.nan)
    for place in range(traits.shape[1]):
        known = ~np.isnan(traits[:, place])
        if known.sum() > 1:
            trait = traits[known, place]
            found[place] = np.mean(advantage[known] * (trait - trait.mean()))
    return found


def _summarize(values: Floats, images: npt.NDArray[np.int64]) -> dict[str, dict[str, float] | None]:
    """Mean and interval over images of every trait; values are "samples traits"."""
    found: dict[str, dict[str, float] | None] = {}
    for place, trait in enumerate(TRAITS):
        told = ~np.isnan(values[:, place])
        known, asked = values[told, place], images[told]
        n_images = len(np.unique(asked))
        if n_images < 2:
            found[trait] = None
            continue
        mean = float(known.mean())
        # Samples of one image stray together: their sum is one piece of evidence.
        strayed = np.bincount(asked, known - mean)
        spread = math.sqrt(n_images / (n_images - 1) * float((strayed**2).sum()))
        reach = NORMAL_975 * spread / len(known)
        found[trait] = {"mean": mean, "low": mean - reach, "high": mean + reach, "n": len(known)}
    return found
