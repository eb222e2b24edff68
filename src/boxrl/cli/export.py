"""`boxrl export`: trained weights as a plain model folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from boxrl.cli.parser import add_command
from boxrl.errors import UsageError, require_train_extra


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
    verb.add_argument(
        "--push-to-hub", metavar="OWNER/NAME", help="also put the folder onto the model hub"
    )
    verb.add_argument(
        "--private", action="store_true", help="with --push-to-hub: for your own eyes"
    )
    verb.set_defaults(run=run_export)


def run_export(args: argparse.Namespace) -> None:
    """Write the model folder, and push it where that is asked for."""
    from rich.console import Console

    from boxrl.cli.tables import print_next
    from boxrl.generation.hub import push_folder

    if args.private and not args.push_to_hub:
        raise UsageError("--private has no effect without --push-to-hub")
    require_train_extra("boxrl export")
    from boxrl.engines.loading import quiet
    from boxrl.engines.training.export import export

    quiet()
    found = export(args.source, args.out, args.which, args.base)
    print(f"from: {found.weights}")
    print(f"model: {args.out}; how it is asked: {args.out / 'README.md'}")
    if args.push_to_hub:
        print(f"hub: {push_folder(args.out, args.push_to_hub, args.private)}")
    print_next(Console(), *found.commands)
