"""Whether a model is better than answering without the question, in numbers and words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from boxrl.errors import DataError, UsageError
from boxrl.evaluate.protocol import describe_difference, protocol_difference
from boxrl.evaluate.rows import Evaluation, Row
from boxrl.evaluate.summary import (
    METRICS,
    SHARES,
    resample_shares,
    share_value,
    with_old_names,
)
from boxrl.metrics.intervals import interval

NAMES = {metric.key: metric.name for metric in METRICS}
DECIDING = ("first_box_accuracy", "grounding_accuracy@0.5", "f1")
"""What decides, where it is defined: which of several objects is chosen says more than f1, and
grounding, where nothing else is asked, goes by the place alone."""


def beats_blind(
    rows: Sequence[Row], others: Sequence[Row], name: str, seed: int, resamples: int
) -> dict[str, Any] | None:
    """The paired difference from answers that lack the question or the image.

    Args:
        rows: the model's.
        others: the blind ones, over the same samples in the same order.
        name: of who gave those, as people read it.
        seed: of the bootstrap.
        resamples: 0 gives None.

    Returns:
        `metric`, `difference`, `low`, `high`, `beats_blind` (the interval lies above 0) and
        `words`; None where no metric is defined.
    """
    if not resamples:
        return None
    grounds = all(row.task == "grounding" for row in rows if row.f1 is not None)
    for metric in DECIDING:
        if metric == "grounding_accuracy@0.5" and not grounds:
            continue
        mine, theirs = (share_value(SHARES[metric], side) for side in (rows, others))
        if mine is None or theirs is None:
            continue
        drawn, drawn_other = (
            resample_shares(side, seed, resamples, (metric,))[metric] for side in (rows, others)
        )
        ends = interval(drawn - drawn_other)
        if ends is None:
            continue
        better = ends.low > 0
        which = "Significantly" if better or ends.high < 0 else "Not significantly"
        verdict = f"{which} {'worse' if ends.high < 0 else 'better'} than {name}"
        span = f"95 % CI {ends.low:+.3f} to {ends.high:+.3f}"
        return with_old_names(
            {
                "metric": metric,
                "difference": mine - theirs,
                "low": ends.low,
                "high": ends.high,
                "beats_blind": better,
                "words": f"{verdict} ({span}): {NAMES[metric]} {mine - theirs:+.3f}.",
            }
        )
    return None


def compare_controls(
    evaluation: Evaluation, controls: Sequence[Evaluation], seed: int, resamples: int
) -> list[dict[str, Any]]:
    """Metrics of control runs beside the model's, each with its verdict.

    Args:
        evaluation: the model's.
        controls: of the same samples, by predictions made with `--control`.
        seed: of the bootstrap.
        resamples: 0 gives no verdicts.

    Returns:
        Per control its name as `control`, its metrics, and `beats_blind` (see there).

    Raises:
        DataError: a control leaves out other samples that ended in error than the model's run.
        UsageError: it was asked or read by another protocol.
    """
    found = []
    for control in controls:
        name = control.metrics["protocol"]["control"]
        _check_alike(evaluation, control, name)
        verdict = beats_blind(evaluation.rows, control.rows, f"the control {name}", seed, resamples)
        metrics = {
            key: control.metrics[key]
            for key in evaluation.metrics["blind"]
            if key in control.metrics
        }
        found.append(with_old_names({"control": name, **metrics, "beats_blind": verdict}))
    return found


def _check_alike(evaluation: Evaluation, control: Evaluation, name: str) -> None:
    """Refuse a control that is not the same run but for what it hides; see `compare_controls`."""
    mine, theirs = ([row.id for row in run.rows] for run in (evaluation, control))
    if mine != theirs:
        apart = sorted(set(mine) ^ set(theirs))
        raise DataError(
            f"control {name}: {len(apart)} samples ended in error on one side only (one is "
            f"{apart[0]!r}), so the two are not paired; run boxrl predict again to repeat them, "
            "or count them: --errors wrong"
        )
    if differs := protocol_difference(evaluation, control):
        what = "; ".join(
            describe_difference(*item, evaluation, control) for item in differs.items()
        )
        raise UsageError(
            f"control {name}: its protocol differs from the run's ({what}), so their numbers do "
            "not compare; predict both alike, but for --control"
        )
