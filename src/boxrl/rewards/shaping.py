"""Rewards that shape how an answer is given: its length, its repetitions."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np

from boxrl import boxes
from boxrl.matching import counted
from boxrl.rewards.localization import weighted_sum
from boxrl.types import Completion, Target, fold_label

MAX_WORDS = 32_768
"""Words that are looked at for repetitions; bounds hostile input."""

BLOCK = 256
"""Boxes compared at once with those before them; bounds the memory of huge answers."""

WINDOW = 512
"""Boxes before a box that it is compared with; bounds the time of huge answers."""


def cosine(
    completion: Completion,
    target: Target,
    *,
    correctness: Literal["weighted_sum", "always"] = "weighted_sum",
    threshold: float = 0.7,
    max_length: int = 1024,
    correct: Sequence[float] = (1.0, 0.5),
    wrong: Sequence[float] = (-0.5, 0.0),
    exceed: float | None = None,
) -> float | None:
    """Short right answers earn more than long ones, long wrong answers more than short ones.

    end + (start - end) * (1 + cos(pi * L / max_length)) / 2 with L = min(tokens, max_length).
    Range [-.5, 1]. None where the tokens were not counted or boxes are not asked for.

    Args:
        completion: needs `n_tokens`.
        target: what is right.
        correctness: `weighted_sum`: right iff that reward is at least `threshold`; `always`:
            every answer counts as right, as in the published code.
        threshold: see `correctness`.
        max_length: tokens from which the curve is flat.
        correct: reward of a right answer at length 0 and at `max_length`.
        wrong: reward of a wrong answer at length 0 and at `max_length`.
        exceed: reward at `max_length` and beyond, right or wrong; None leaves the curve's end.

    Source: Yeo et al. 2025 (arXiv 2502.03373) section 4.2, whose own constants are
    max_length=14336, correct=(2, 1), wrong=(-10, 0), exceed=-10.
    """
    accuracy = 1.0 if correctness == "always" else weighted_sum(completion, target)
    if completion.n_tokens is None or accuracy is None:
        return None
    if exceed is not None and completion.n_tokens >= max_length:
        return exceed
    start, end = correct if accuracy >= threshold or correctness == "always" else wrong
    progress = min(completion.n_tokens / max_length, 1.0)
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def repetition(completion: Completion, target: Target, *, near_iou: float | None = None) -> float:
    """-(1 - unique / total) over the answer's (box, label) items. Range [-1, 0].

    Where the answer holds no items, over the lower-cased word 6-grams of the whole completion,
    and 0 under 6 words; words beyond the first 32,768 do not count. Any target will do.

    Args:
        completion: what the model wrote.
        target: not looked at.
        near_iou: an item also repeats an earlier one of its label from this IoU on (of the last
            512 distinct ones); None counts exact repetitions only.

    Source: the sparse form of Yeo et al. 2025, algorithm 1.
    """
    items: Sequence[Hashable] = completion.parsed.items
    if not items:
        words = completion.text.lower().split(maxsplit=MAX_WORDS)[:MAX_WORDS]
        items = list(zip(*[words[start:] for start in range(6)], strict=False))
    if not items:
        return 0.0
    unique = set(items)
    near = 0 if near_iou is None else count_near(completion.parsed.items, near_iou)
    return (len(unique) - near) / len(items) - 1


def absent_labels(completion: Completion, target: Target) -> float | None:
    """-(predicted boxes whose label no target has / predicted boxes). Range [-1, 0].

    What `ap` does not charge for. 0 without boxes; None where boxes are not asked for.

    Source: boxrl.
    """
    if target.answer is not None:
        return None
    labels = counted(completion.parsed.detections, target).labels
    present = {fold_label(label) for label in target.detections.labels}
    absent = sum(fold_label(label) not in present for label in labels)
    return -absent / len(labels) if labels else 0.0


def count_near(items: Sequence[tuple[tuple[float, ...], str]], near_iou: float) -> int:
    """How many distinct items overlap a recent distinct item of their label that much."""
    groups: dict[str, list[tuple[float, ...]]] = {}
    for box, label in dict.fromkeys(items):
        groups.setdefault(label, []).append(box)
    count = 0
    for group in groups.values():
        group_boxes = boxes.order_corners(np.array(group, dtype=np.float64))
        for start in range(1, len(group), BLOCK):
            first = max(0, start - WINDOW)
            block = group_boxes[start : start + BLOCK]
            near = boxes.iou(block, group_boxes[first : start + BLOCK]) >= near_iou
            count += int(np.tril(near, start - first - 1).any(axis=1).sum())
    return count
