"""`boxrl data show`: samples as one page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from boxrl.cli.options import add_images, add_limits, add_prompt, add_seed, integer
from boxrl.cli.parser import add_command
from boxrl.guard.outputs import check_outputs


def add_show(actions: Any) -> None:
    """Declare `data show`; `actions` are the subparsers of `data`."""
    show = add_command(
        actions, "show", "write samples as one page: boxes, questions, gold answers, figures",
        example="boxrl data show train.jsonl --images images/ --out train.html",
    )  # fmt: skip
    show.add_argument("samples", type=Path, metavar="FILE.jsonl", help="samples file")
    add_images(show)
    show.add_argument(
        "--out", type=Path, metavar="FILE.html",
        help="page to write (default: beside FILE.jsonl, under its name)",
    )  # fmt: skip
    show.add_argument(
        "--limit", type=integer(1), default=300, metavar="N",
        help="most samples of the gallery; figures are of all",
    )  # fmt: skip
    add_seed(show, "of the samples shown, where there are more")
    add_prompt(show)
    add_limits(show)
    show.set_defaults(run=run_show)


def run_show(args: argparse.Namespace) -> None:
    """Write the page of a samples file."""
    from boxrl.data.convert import rejected_path
    from boxrl.errors import UsageError
    from boxrl.families import build_family
    from boxrl.prompts import build_prompt
    from boxrl.report.samples import build_samples_page

    out = args.out or args.samples.with_suffix(".html")
    check_outputs([(out, "page")], [args.samples, rejected_path(args.samples)])
    if not args.images.is_dir():
        raise UsageError(f"--images {args.images}: no such folder; it holds the images")
    family = build_family(args.family).with_limits(args.min_pixels, args.max_pixels)
    notes = build_samples_page(
        args.samples, args.images, out, build_prompt(args.prompt), family,
        limit=args.limit, seed=args.seed,
    )  # fmt: skip
    for line in notes:
        print(f"note: {line}", file=sys.stderr)
    print(f"page: {out}")
