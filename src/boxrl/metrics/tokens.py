"""Length of completions.

Source: the VLM-R1-OVD blog's token table, whose columns these are.
"""

from __future__ import annotations

from collections.abc import Sequence

LONG = 3000
"""Completions of this many tokens and more are counted apart."""


def token_table(n_tokens: Sequence[int | None]) -> dict[str, float | int | None]:
    """Fewest tokens; most and mean of completions under 3,000; count of 3,000 and more.

    Args:
        n_tokens: tokens of every completion; None, where nobody counted them, is left out.
    """
    known = [n for n in n_tokens if n is not None]
    short = [n for n in known if n < LONG]
    return {
        "min": min(known, default=None),
        "max": max(short, default=None),
        "mean": sum(short) / len(short) if short else None,
        "long": len(known) - len(short),
    }
