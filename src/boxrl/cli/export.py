"""`boxrl export`: trained weights as a plain model folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from boxrl.cli.parser import add_command
from boxrl.errors import require_train_extra


def add_verb(verbs: Any) -> None:
    """Declare `boxrl export`."""
    verb = add_command(
        verbs, "export", "write trained weights as a plain model folder",
        example="boxrl export runs/train-grpo --out my_model",
    )  # fmt: skip
    verb.add_argument(
        "source", type=Path, metavar="RUN_OR_CHECKPOINT", help="run folder, or one checkpoint"
    )
    verb.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="model folder to write"
    )
    verb.add_argument(
        "--which", choices=("final", "best", "last"), default="final",
        help="weights of a run folder: at the end, best on validation, or the last checkpoint's",
    )  # fmt: skip
    verb.add_argument(
        "--base", metavar="MODEL", help="base model of an adapter (default: the one it names)"
    )
    verb.set_defaults(run=run_export)


def run_export(args: argparse.Namespace) -> None:
    """Write the model folder."""
    require_train_extra("boxrl export")
    from boxrl.engines.loading import quiet
    from boxrl.engines.training.export import export

    quiet()
    weights = export(args.source, args.out, args.which, args.base)
    print(f"from: {weights}")
    print(f"model: {args.out}")
