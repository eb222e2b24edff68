"""What an evaluation's answers look like: error kinds, parse status, length, thoughts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from boxrl.metrics.tokens import LONG, token_table
from boxrl.report.glyphs import shares
from boxrl.report.plots import histogram
from boxrl.report.reading import Row
from boxrl.report.text import Pattern, extract_thinking, thinking_patterns

STATUSES = ("ok", "empty", "partial", "malformed", "missing")
OUTCOMES = ("right", "duplicate", "wrong_label", "loose", "false", "missed")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What one evaluation's answers look like.

    Attributes:
        title: name of the evaluation.
        n: completions.
        outcomes: (kind, count) of boxes, and of missed targets.
        statuses: (status, count) of completions.
        outcome_bar, status_bar, tokens: charts.
        lengths: the last one in words.
        patterns: the commonest thoughts.
    """

    title: str
    n: int
    outcomes: list[tuple[str, int]]
    statuses: list[tuple[str, int]]
    outcome_bar: Markup
    status_bar: Markup
    tokens: Markup
    lengths: str
    patterns: list[Pattern]


def diagnose(title: str, rows: Sequence[Row], longest: int) -> Diagnosis:
    """Count and draw; at least one row.

    Args:
        title: name of the evaluation.
        rows: its answers.
        longest: tokens of the longest completion of the page, so that axes are alike.
    """
    outcomes: Counter[str] = Counter(kind for row in rows for kind in row.verdict.kinds)
    outcomes["missed"] = sum(len(row.verdict.missed) for row in rows)
    statuses: Counter[str] = Counter(row.parsed.status for row in rows)
    thoughts = (
        (row.sample.id, extract_thinking(row.prediction.completion), row.sample.labels)
        for row in rows
    )
    n_tokens = [row.prediction.n_tokens for row in rows]
    return Diagnosis(
        title=title,
        n=len(rows),
        outcomes=[(kind, outcomes[kind]) for kind in OUTCOMES],
        statuses=[(status, statuses[status]) for status in STATUSES],
        outcome_bar=_bar("Boxes and missed objects", OUTCOMES, outcomes),
        status_bar=_bar("How answers read", STATUSES, statuses),
        tokens=histogram(n_tokens, "tokens", LONG, longest),
        lengths=_lengths(n_tokens),
        patterns=thinking_patterns(thoughts),
    )


def _lengths(n_tokens: Sequence[int]) -> str:
    table = token_table(n_tokens)
    long = f"{table['long']:,} of {len(n_tokens):,} have {LONG:,} tokens and more"
    if table["mean"] is None:
        return f"{long}."
    return f"{table['min']:,} to {table['max']:,} tokens, mean {table['mean']:,.1f}; {long}."


def _bar(title: str, names: Sequence[str], counts: Counter[str]) -> Markup:
    parts = [(name.replace("_", " "), counts[name], f"k-{name}") for name in names]
    return shares(parts, title) if sum(counts.values()) else Markup("")
