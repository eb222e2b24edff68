"""`boxrl data`: archives to samples files, their defects, their figures."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boxrl.data.lint_rows import Defect

# Names of the options' values stand here as well, so that --help imports no room.
SUBSETS = ("pos_1", "pos_2", "pos_3", "small", "single_box")
MODES = ("all", "positive", "one_box", "single_class")

SHOWN = 40
"""Defects or labels that a table shows; --json gives all."""


def add_verbs(verbs: Any) -> None:
    """Declare `boxrl data convert|lint|stats`."""
    data = verbs.add_parser("data", help="convert, check and describe samples files")
    actions = data.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_convert(actions)
    _add_lint(actions)
    stats = actions.add_parser("stats", help="samples, labels, boxes, sizes, negatives")
    stats.add_argument("samples", type=Path, metavar="FILE.jsonl")
    _add_json(stats)
    stats.set_defaults(run=run_stats)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def _add_convert(actions: Any) -> None:
    convert = actions.add_parser("convert", help="an archive's annotations to a samples file")
    formats = convert.add_subparsers(title="formats", metavar="FORMAT", required=True)
    coco = _add_format(formats, "coco", "a COCO instances file", "FILE.json")
    coco.add_argument(
        "--subset", type=_comma_separated, default=(), metavar="|".join(SUBSETS),
        help="one or several, comma-separated, applied in that order",
    )  # fmt: skip
    coco.add_argument("--mode", choices=MODES, default="positive", help="labels asked for")
    coco.add_argument("--task", choices=("detection", "region"), default="detection")


def _add_format(formats: Any, name: str, summary: str, annotations: str) -> Any:
    """A format with the options that all have."""
    parser = formats.add_parser(name, help=summary)
    parser.add_argument("--annotations", type=Path, required=True, metavar=annotations)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl")
    parser.add_argument("--limit", type=_positive, metavar="N", help="at most N samples")
    parser.add_argument(
        "--seed", type=int, metavar="N",
        help="of everything drawn at random; with --limit, samples are drawn too",
    )  # fmt: skip
    parser.add_argument(
        "--on-error", choices=("stop", "skip"), default="stop",
        help="at a bad row: stop (default), or leave it out and list it in FILE.rejected.jsonl",
    )  # fmt: skip
    _add_json(parser)
    parser.set_defaults(run=run_convert, format=name)
    return parser


def _add_lint(actions: Any) -> None:
    lint = actions.add_parser("lint", help="every defect with its line and what to do about it")
    lint.add_argument("samples", type=Path, metavar="FILE.jsonl")
    lint.add_argument("--images", type=Path, metavar="DIR", help="read every image as well")
    lint.add_argument(
        "--validation", type=Path, metavar="FILE.jsonl", help="must share no image with FILE"
    )
    lint.add_argument(
        "--fix", type=Path, metavar="NEW.jsonl",
        help="write a mended file and NEW.changes.jsonl; never over an existing file",
    )  # fmt: skip
    _add_json(lint)
    lint.set_defaults(run=run_lint)


def _comma_separated(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {value}")
    return number


_COMMON = {"run", "format", "annotations", "images", "out", "limit", "on_error", "json", "debug"}


def run_convert(args: argparse.Namespace) -> None:
    """`boxrl data convert FORMAT`."""
    from dataclasses import asdict

    from boxrl.data import READERS
    from boxrl.data.convert import convert, rejected_path
    from boxrl.progress import progress_bar

    reader = READERS[args.format]
    options = {key: value for key, value in vars(args).items() if key not in _COMMON}
    seed = options.pop("seed")
    if "seed" in (reader.__kwdefaults__ or {}):
        options["seed"] = seed or 0
    print(f"reading {args.annotations}", file=sys.stderr)
    reading = reader(args.annotations, args.images, **options)
    with progress_bar(f"convert {args.format}", reading.total) as bar:
        done = convert(
            reading, args.out,
            on_error=args.on_error, limit=args.limit, seed=seed, advance=bar.advance,
        )  # fmt: skip
    rejected = str(rejected_path(args.out)) if done.rejected else None
    if args.json:
        print(json.dumps({"out": str(args.out), **asdict(done), "rejected_file": rejected}))
        return
    print(
        f"{args.out}: {done.samples:,} samples, {done.objects:,} boxes, "
        f"{done.negatives:,} negatives"
    )
    if rejected:
        print(f"{rejected}: {done.rejected:,} rows left out, each with its reason")


def run_lint(args: argparse.Namespace) -> int:
    """`boxrl data lint`; 1 where there are errors."""
    from boxrl.data.lint import lint
    from boxrl.progress import progress_bar

    with progress_bar("lint", _count_lines(args.samples)) as bar:
        outcome = lint(
            args.samples, args.images,
            validation=args.validation, fixed=args.fix, advance=bar.advance,
        )  # fmt: skip
    warnings = len(outcome.defects) - outcome.errors
    if args.json:
        counts = {"rows": outcome.rows, "errors": outcome.errors, "warnings": warnings}
        defects = [
            {"where": f"{args.samples}:{defect.line}", **defect._asdict()}
            for defect in outcome.defects
        ]
        print(json.dumps({**counts, "defects": defects}, ensure_ascii=False))
    else:
        _print_defects(args.samples, outcome.defects)
        print(
            f"{args.samples}: {outcome.rows:,} rows, {outcome.errors} errors, {warnings} warnings"
        )
    return 1 if outcome.errors else 0


def _print_defects(path: Path, defects: list[Defect]) -> None:
    for defect in defects[:SHOWN]:
        print(
            f"{path}:{defect.line}: {defect.severity}: {defect.message} [{defect.rule}]\n"
            f"    {defect.fix}"
        )
    if len(defects) > SHOWN:
        print(f"... and {len(defects) - SHOWN} more; --json lists all")


def run_stats(args: argparse.Namespace) -> None:
    """`boxrl data stats`."""
    from boxrl.data.samples import read_samples
    from boxrl.data.stats import describe

    figures = describe(read_samples(args.samples))
    if args.json:
        print(json.dumps(figures, ensure_ascii=False))
        return
    _print_stats(args.samples, figures)


def _print_stats(path: Path, figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    tasks = ", ".join(f"{count:,} {task}" for task, count in figures["tasks"].items())
    console.print(
        f"{path}: {figures['samples']:,} samples ({tasks}) of {figures['images']:,} images, "
        f"{figures['boxes']:,} boxes, {figures['crowd']:,} crowd regions, "
        f"{figures['negatives']:,} negatives",
        soft_wrap=True, highlight=False, markup=False,
    )  # fmt: skip
    spread = Table("", "min", "mean", "median", "max")
    for key in ("boxes_per_sample", "labels_asked"):
        spread.add_row(key.replace("_", " "), *(f"{v:g}" for v in figures[key].values()))
    sizes = Table("size", "boxes")
    meanings = {
        "small": "small (under 32 x 32 px)",
        "medium": "medium",
        "large": "large (96 x 96 px and more)",
        "tiny": "under 0.5 % of the image",
    }
    for key, count in figures["sizes"].items():
        sizes.add_row(meanings[key], f"{count:,}")
    labels = Table("label", "boxes", "asked in", "absent from")
    for name, row in list(figures["labels"].items())[:SHOWN]:
        labels.add_row(name, f"{row['boxes']:,}", f"{row['asked']:,}", f"{row['negatives']:,}")
    for table in (spread, sizes, labels):
        console.print(table)
    if len(figures["labels"]) > SHOWN:
        console.print(f"... and {len(figures['labels']) - SHOWN} labels more; --json lists all")


def _count_lines(path: Path) -> int:
    """Lines of the file, for the bar; 0 where it cannot be read, which the verb will report."""
    if not path.is_file():
        return 0
    with path.open("rb") as handle:
        return sum(block.count(b"\n") for block in iter(lambda: handle.read(1 << 20), b""))
