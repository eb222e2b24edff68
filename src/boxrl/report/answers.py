"""Section Answers: what an evaluation's answers look like: errors, parse status, length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from boxrl.errors import tally
from boxrl.evaluate.behaviour import behaviour, describe_behaviour
from boxrl.evaluate.rows import Row
from boxrl.evaluate.summary import STATUSES, calibration, count_errors, count_unread
from boxrl.metrics.box_errors import BoxKind
from boxrl.metrics.tokens import LONG, token_table
from boxrl.report.glyphs import reliability_plot, shares
from boxrl.report.plots import histogram

PASSED_OVER: dict[BoxKind, str] = {
    "crowd": "boxes lie inside crowd regions",
    "no_category": "boxes bear labels that nothing asks for",
}
"""Kinds of boxes that AP passes over, and how they are told of beside the errors."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one evaluation's answers look like.

    Attributes:
        title: name of the evaluation.
        outcomes: (kind, count) of right boxes and of TIDE's errors; those of metrics.json.
        besides: what else is to be said of the boxes, in words.
        statuses: (status, share) of the answers that are boxes; empty where none is.
        unread: what was not read of them and why, in words; empty where all was.
        outcome_bar, status_bar, tokens: charts.
        lengths: the last one in words.
        reliability: precision over confidence; None where every box has the same one.
        calibration: that one in words.
        behaviour: duplicates, boxes around everything and the like, in words; empty without any.
    """

    title: str
    outcomes: list[tuple[str, int]]
    besides: list[str]
    statuses: list[tuple[str, float]]
    unread: list[str]
    outcome_bar: Markup
    status_bar: Markup
    tokens: Markup
    lengths: str
    reliability: Markup | None
    calibration: str
    behaviour: str


def tabulate_answers(title: str, rows: Sequence[Row], longest: int) -> Answers:
    """Count and draw; at least one row.

    Args:
        title: name of the evaluation.
        rows: its answers.
        longest: tokens of the longest completion of the page, so that axes are alike.
    """
    asked = [row for row in rows if row.f1 is not None]
    kinds = Counter(box.kind for row in asked for box in row.predictions)
    errors = count_errors(rows)
    outcomes = {"right": kinds["right"], **errors["counts"]}
    besides = {"of these boxes lie on objects that were not asked for": errors["on_unasked"]}
    besides |= {f"more {words}": kinds[kind] for kind, words in PASSED_OVER.items()}
    statuses = {status: sum(row.status == status for row in asked) for status in STATUSES}
    n_tokens = [row.n_tokens for row in rows if row.n_tokens is not None]
    calibrated = calibration(rows) if _has_confidences(rows) else None
    return Answers(
        title=title,
        outcomes=list(outcomes.items()),
        besides=[f"{count:,} {words}" for words, count in besides.items() if count],
        statuses=[(status, n / len(asked)) for status, n in statuses.items() if asked],
        unread=list(_unread(rows)),
        outcome_bar=_bar("Boxes and missed objects", outcomes),
        status_bar=_bar("How answers read", statuses),
        tokens=histogram(n_tokens, "tokens", LONG, longest),
        lengths=_lengths(n_tokens),
        reliability=reliability_plot(calibrated["bins"]) if calibrated else None,
        calibration=_calibration(calibrated) if calibrated else "",
        behaviour=describe_behaviour(behaviour(rows)),
    )


def _has_confidences(rows: Sequence[Row]) -> bool:
    """Whether boxes differ in what ranks them."""
    return len({box.confidence for row in rows for box in row.predictions}) > 1


def _calibration(found: Mapping[str, Any]) -> str:
    if found["D-ECE"] is None:
        return "No box."
    return (
        f"Detection ECE {found['D-ECE']:.3f}, Brier score {found['Brier']:.3f}: a box on the "
        "diagonal is right as often as its confidence says."
    )


def _unread(rows: Sequence[Row]) -> Iterator[str]:
    found = count_unread(rows)
    for reason, count in found["unreadable"].items():
        yield f"{count:,} not read: {reason or 'reason unknown'}"
    if found["dropped"]:
        yield f"{tally(found['dropped'], 'item')} of answers could not be used"
    if untagged := sum(not row.parse.tagged for row in rows):
        yield f"{untagged:,} of {len(rows):,} stand in no answer tags"


def _lengths(n_tokens: Sequence[int]) -> str:
    table = token_table(n_tokens)
    long = f"{table['long']:,} of {len(n_tokens):,} have {LONG:,} tokens and more"
    if table["mean"] is None:
        return f"{long}."
    return f"{table['min']:,} to {table['max']:,} tokens, mean {table['mean']:,.1f}; {long}."


def _bar(title: str, counts: Mapping[str, int]) -> Markup:
    parts = [(name, count, f"k-{name}") for name, count in counts.items()]
    return shares(parts, title) if any(counts.values()) else Markup("")
