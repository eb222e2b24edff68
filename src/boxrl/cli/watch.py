"""`boxrl watch`: a run in the terminal while it trains."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from boxrl.cli.parser import add_command


def add_verb(verbs: Any) -> None:
    """Declare `boxrl watch`."""
    verb = add_command(
        verbs, "watch", "follow a run in the terminal while it trains",
        example="boxrl watch runs/train-grpo",
    )  # fmt: skip
    verb.add_argument("run_dir", type=Path, metavar="RUN", help="run folder")
    verb.set_defaults(run=run_watch)


def run_watch(args: argparse.Namespace) -> None:
    """Follow a run in the terminal."""
    from rich.console import Console

    from boxrl.report.watch import watch

    watch(args.run_dir, Console())
