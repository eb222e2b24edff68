"""Whether a model is told apart from answering without the question, in figures and words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from boxrl.evaluate.evaluation import Evaluation
from boxrl.evaluate.rows import Row
from boxrl.evaluate.summary import SHARES, resample_shares, share_value
from boxrl.metrics.intervals import interval

FIGURES = ("looks", "f1")
"""What decides, where it is defined: which of several objects is chosen says more than f1."""


def told_apart(
    rows: Sequence[Row], others: Sequence[Row], name: str, seed: int, resamples: int
) -> dict[str, Any] | None:
    """The paired difference from a policy that lacks the question or the image.

    Args:
        rows: the model's.
        others: the policy's, over the same samples in the same order.
        name: of the policy, as people read it.
        seed: of the bootstrap.
        resamples: 0 gives None.

    Returns:
        `figure`, `difference`, `low`, `high`, `told_apart` (the interval lies above 0) and
        `words`; None where no figure is defined.
    """
    if not resamples:
        return None
    for figure in FIGURES:
        mine, theirs = (share_value(SHARES[figure], side) for side in (rows, others))
        if mine is None or theirs is None:
            continue
        drawn, drawn_other = (
            resample_shares(side, seed, resamples, (figure,))[figure] for side in (rows, others)
        )
        ends = interval(drawn - drawn_other)
        if ends is None:
            continue
        apart = ends.low > 0
        span = f"{mine - theirs:+.3f} (95 % interval {ends.low:+.3f} to {ends.high:+.3f})"
        return {
            "figure": figure,
            "difference": mine - theirs,
            "low": ends.low,
            "high": ends.high,
            "told_apart": apart,
            "words": f"{'Told' if apart else 'NOT told'} apart from {name}: {figure} {span}.",
        }
    return None


def against(
    evaluation: Evaluation, controls: Sequence[Evaluation], seed: int, resamples: int
) -> list[dict[str, Any]]:
    """Headline figures of control runs beside the model's, each with its verdict.

    Args:
        evaluation: the model's.
        controls: of the same samples, by predictions made with `--control`.
        seed: of the bootstrap.
        resamples: 0 gives no verdicts.

    Returns:
        Per control its name as `control`, its figures, and `told_apart` (see there).
    """
    found = []
    for control in controls:
        name = control.metrics["protocol"]["control"]
        verdict = told_apart(evaluation.rows, control.rows, f"the control {name}", seed, resamples)
        figures = {
            key: control.metrics[key]
            for key in evaluation.metrics["blind"]
            if key in control.metrics
        }
        found.append({"control": name, **figures, "told_apart": verdict})
    return found
