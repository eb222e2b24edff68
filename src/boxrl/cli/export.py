"""`boxrl export`: trained weights as a plain model folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from boxrl.errors import require_train_extra


def add_verb(verbs: Any) -> None:
    """Declare `boxrl export`."""
    export = verbs.add_parser("export", help="trained weights as a plain model folder")
    export.add_argument("source", type=Path, metavar="RUN_OR_CHECKPOINT")
    export.add_argument("--out", type=Path, required=True, metavar="DIR")
    export.add_argument(
        "--which", choices=("final", "best", "last"), default="final", help="of a run folder"
    )
    export.add_argument("--base", metavar="MODEL", help="base of an adapter; default: its own")
    export.set_defaults(run=run_export)


def run_export(args: argparse.Namespace) -> None:
    """Write the model folder."""
    require_train_extra("boxrl export")
    from boxrl.engines.loading import quiet
    from boxrl.engines.training.export import export

    quiet()
    weights = export(args.source, args.out, args.which, args.base)
    print(f"from: {weights}")
    print(f"model: {args.out}")
