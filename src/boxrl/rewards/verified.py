"""A reward without gold boxes: what another model says of each box at a second look."""

from __future__ import annotations

from boxrl.types import Completion, Target

NOTHING_SEEN = 0.5
"""Of an answer without boxes, about which a second look says neither yes nor no."""


def verified(completion: Completion, target: Target) -> float | None:
    """How sure a second look is of the boxes: the mean of p(yes). Range [0, 1].

    None where nobody looked. An answer that cannot be read earns 0, one without boxes .5; a box
    that no image can show counts as 0. Where the boxes truly lie is not asked.

    Args:
        completion: the answer, with `box_verify`.
        target: tells only whether boxes are asked for.

    Source: boxrl; p(yes) as in DetPO (github.com/ggare-cmu/DetPO), which ranks boxes by it.
    """
    if completion.box_verify is None or target.answer is not None:
        return None
    parsed = completion.parsed
    if not parsed.readable:
        return 0.0
    n = len(parsed.detections)
    return sum(completion.box_verify) / n if n else NOTHING_SEEN
