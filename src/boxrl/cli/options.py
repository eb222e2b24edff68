"""What options of several verbs share: `--json`, the prompt, ranges of numbers, safe outputs."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def add_json(parser: argparse.ArgumentParser, default: Any = False) -> None:
    """Declare `--json`; argparse.SUPPRESS keeps what stands before the name of a subparser."""
    parser.add_argument(
        "--json", action="store_true", default=default, help="print one JSON object on stdout"
    )


def print_json(value: Any) -> None:
    """The one object that `--json` promises; numbers that are not finite become null."""
    from boxrl.data.files import finite

    print(json.dumps(finite(value)))  # escaped: right in whatever encoding the terminal has


def add_prompt(parser: argparse.ArgumentParser) -> None:
    """Declare `--prompt` and `--family`, where no model decides them."""
    parser.add_argument("--prompt", default="standard", metavar="NAME|FILE.yaml")
    parser.add_argument("--family", default="plain", metavar="NAME", help="frame and syntax")


def check_outputs(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Results may replace results of earlier calls, but nothing that this call reads or writes.

    Raises:
        UsageError: an output is an input, or is named twice.
    """
    from boxrl.errors import UsageError

    taken = {path.resolve(): "is read by this call" for path in inputs}
    for path in outputs:
        if path.resolve() in taken:
            raise UsageError(f"{path}: {taken[path.resolve()]}; name another file to write")
        taken[path.resolve()] = "is written by this call already"


def whole(lowest: int) -> Callable[[str], int]:
    """An argparse type: a whole number of `lowest` or more."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = lowest - 1
        if value < lowest:
            raise argparse.ArgumentTypeError(
                f"expected a whole number of {lowest} or more, got {text!r}"
            )
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
            raise argparse.ArgumentTypeError(f"expected a number {start}{end}, got {text!r}")
        return value

    return parse
