"""Numbers on the command line, with their ranges: a wrong one is told before anything is read."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Callable


def whole(lowest: int) -> Callable[[str], int]:
    """An argparse type: a whole number of `lowest` or more."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = lowest - 1
        if value < lowest:
            raise ArgumentTypeError(f"expected a whole number of {lowest} or more, got {text!r}")
        return value

    return parse


def number(
    lowest: float, highest: float = math.inf, *, open_below: bool = False
) -> Callable[[str], float]:
    """An argparse type: a finite number from `lowest` (above it, where open) to `highest`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if (
            not (lowest <= value <= highest)
            or math.isinf(value)
            or (open_below and value == lowest)
        ):
            start = f"above {lowest:g}" if open_below else f"of {lowest:g} or more"
            end = f", at most {highest:g}" if math.isfinite(highest) else ""
            raise ArgumentTypeError(f"expected a number {start}{end}, got {text!r}")
        return value

    return parse
