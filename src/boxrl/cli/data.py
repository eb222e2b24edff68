"""`boxrl data`: defects, figures and pages of samples files, mixtures and splits of them."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxrl.cli.convert import add_convert, add_export
from boxrl.cli.options import (
    Input,
    add_images,
    add_json,
    add_limits,
    add_prompt,
    add_seed,
    integer,
    print_json,
)
from boxrl.cli.parser import add_command
from boxrl.errors import tally
from boxrl.guard.outputs import check_outputs

if TYPE_CHECKING:
    from boxrl.data.lint import Lint

SHOWN = 40
"""Defects or labels that a table shows; --json gives all."""
FEW_HELD_OUT = 30
"""Held-out samples below which intervals say little."""


def add_verb(verbs: Any) -> None:
    """Declare `boxrl data ACTION`."""
    verb = add_command(
        verbs, "data", "convert, check, mix, split and export samples",
        example="boxrl data stats train.jsonl",
    )  # fmt: skip
    actions = verb.add_subparsers(title="actions", metavar="ACTION")
    add_convert(actions)
    _add_lint(actions)
    _add_stats(actions)
    _add_show(actions)
    _add_mix(actions)
    _add_split(actions)
    add_export(actions)


def _add_lint(actions: Any) -> None:
    lint = add_command(
        actions, "lint", "list every defect with its line and how to fix it",
        example="boxrl data lint train.jsonl --images images/",
    )  # fmt: skip
    _add_file(lint)
    lint.add_argument(
        "--images", type=Input, metavar="DIR", help="images folder; opens every image as well"
    )
    lint.add_argument(
        "--validation", type=Input, metavar="FILE.jsonl",
        help="samples file that must share no image with the first, nor hold a copy of one; with "
        "--images, contents and looks are compared too",
    )  # fmt: skip
    lint.add_argument(
        "--validation-images", type=Input, metavar="DIR",
        help="images folder of the validation file (default: --images)",
    )  # fmt: skip
    lint.add_argument(
        "--fix", type=Path, metavar="NEW.jsonl",
        help="write a repaired file and NEW.changes.jsonl; never over an existing file",
    )  # fmt: skip
    add_prompt(lint)
    add_json(lint)
    lint.set_defaults(run=run_lint)


def _add_file(action: Any) -> None:
    action.add_argument("samples", type=Input, metavar="FILE.jsonl", help="samples file")


def _add_stats(actions: Any) -> None:
    stats = add_command(
        actions, "stats", "count samples, labels, boxes, sizes, negatives",
        example="boxrl data stats train.jsonl",
    )  # fmt: skip
    _add_file(stats)
    add_json(stats)
    stats.set_defaults(run=run_stats)


def _add_mix(actions: Any) -> None:
    mix = add_command(
        actions, "mix", "draw one samples file from several",
        example="boxrl data mix coco.jsonl d3.jsonl --weights 2 1 --out mixed.jsonl",
    )  # fmt: skip
    mix.add_argument(
        "samples", type=Input, nargs="+", metavar="FILE.jsonl", help="samples files to mix"
    )
    mix.add_argument(
        "--out", type=Path, required=True, metavar="FILE.jsonl", help="samples file to write"
    )
    share = mix.add_mutually_exclusive_group()
    share.add_argument(
        "--weights", type=float, nargs="+", metavar="W",
        help="share of each file (default: by its size)",
    )  # fmt: skip
    share.add_argument("--counts", type=int, nargs="+", metavar="N", help="samples of each file")
    mix.add_argument(
        "--total", type=integer(1), metavar="N",
        help="samples of the mixture (default: as many as the weights allow)",
    )  # fmt: skip
    mix.add_argument(
        "--images", type=Path, nargs="+", metavar="DIR",
        help="images folder of each file, where they differ; no image is copied",
    )  # fmt: skip
    mix.add_argument(
        "--root", type=Path, metavar="DIR", help="images folder of the mixture; holds all --images"
    )
    add_seed(mix, "of what is drawn and its order")
    add_json(mix)
    mix.set_defaults(run=run_mix)


def _add_split(actions: Any) -> None:
    split = add_command(
        actions, "split", "hold out images for validation",
        example="boxrl data split coco.jsonl --train train.jsonl --validation val.jsonl",
    )  # fmt: skip
    _add_file(split)
    split.add_argument(
        "--share", type=float, default=0.1, metavar="X", help="share of the images to hold out"
    )
    split.add_argument(
        "--train", type=Path, required=True, metavar="FILE.jsonl",
        help="samples file to write for training",
    )  # fmt: skip
    split.add_argument(
        "--validation", type=Path, required=True, metavar="FILE.jsonl",
        help="samples file to write for validation",
    )  # fmt: skip
    split.add_argument(
        "--group-by", metavar="REGEX",
        help="images whose paths give the same match (its first group, if any) stay together "
        "(default: Roboflow's copies of one photo, NAME.rf.HASH)",
    )  # fmt: skip
    split.add_argument(
        "--images", type=Input, metavar="DIR",
        help="images folder; images of equal content stay together too",
    )  # fmt: skip
    add_seed(split, "of the images held out")
    add_json(split)
    split.set_defaults(run=run_split)


def _add_show(actions: Any) -> None:
    show = add_command(
        actions, "show", "write samples as one page: boxes, questions, gold answers, figures",
        example="boxrl data show train.jsonl --images images/ --out train.html",
    )  # fmt: skip
    _add_file(show)
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


def run_lint(args: argparse.Namespace) -> int:
    """`boxrl data lint`; 1 where there are errors."""
    from boxrl.data.kinds import way_out
    from boxrl.data.lint import changes_path, lint
    from boxrl.families import build_family
    from boxrl.progress import progress_bar
    from boxrl.prompts import build_prompt

    if args.fix:
        read = [args.samples, *([args.validation] if args.validation else [])]
        check_outputs([(args.fix, "samples"), (changes_path(args.fix), "changes")], read)
    prompt, family = build_prompt(args.prompt), build_family(args.family)
    with progress_bar("lint", _count_lines(args.samples)) as bar:
        outcome = lint(
            args.samples, args.images,
            validation=args.validation, validation_images=args.validation_images,
            fixed=args.fix, prompt=prompt, family=family, advance=bar.advance,
        )  # fmt: skip
    if args.json:
        print_json(_lint_row(args.samples, outcome))
    else:
        _print_lint(args.samples, outcome)
        if args.fix:
            print(f"{args.fix}: the repaired file; {changes_path(args.fix)} lists every change; "
                  f"{_count_lines(args.fix):,} of {tally(outcome.rows, 'row')} stay")  # fmt: skip
        elif not outcome.kept and (kind := way_out(args.samples, "samples")):
            print(f"{args.samples}: no row is a sample{kind}")
        elif outcome.errors:
            images = ["--images", str(args.images)] if args.images else []
            mended = str(args.samples.with_suffix(".mended.jsonl"))
            words = ["boxrl", "data", "lint", str(args.samples), *images, "--fix", mended]
            print(f"next: {shlex.join(words)}\n"
                  "      repairs what it can and leaves out the rows that it cannot")  # fmt: skip
    return 1 if outcome.errors else 0


def _count_lines(path: Path) -> int:
    """Lines of the file, for the bar; 0 where it cannot be read, which the verb will report."""
    if not path.is_file():
        return 0
    with path.open("rb") as handle:
        return sum(block.count(b"\n") for block in iter(lambda: handle.read(1 << 20), b""))


def _lint_row(path: Path, outcome: Lint) -> dict[str, Any]:
    return {
        "rows": outcome.rows,
        "errors": outcome.errors,
        "warnings": len(outcome.defects) - outcome.errors,
        "notes": outcome.notes,
        "defects": [
            {"where": f"{path}:{defect.line}", **defect._asdict()} for defect in outcome.defects
        ],
    }


def _print_lint(path: Path, outcome: Lint) -> None:
    for defect in outcome.defects[:SHOWN]:
        print(
            f"{path}:{defect.line}: {defect.severity}: {defect.message} [{defect.rule}]\n"
            f"    {defect.fix}"
        )
    for note in outcome.notes:
        print(f"note: {note}")
    if len(outcome.defects) > SHOWN:
        print(f"... and {len(outcome.defects) - SHOWN} more; --json lists all")
    warnings = len(outcome.defects) - outcome.errors
    counts = {"row": outcome.rows, "error": outcome.errors, "warning": warnings}
    told = ", ".join(tally(n, what) for what, n in counts.items())
    print(f"{path}: {told}")


def run_stats(args: argparse.Namespace) -> None:
    """`boxrl data stats`."""
    from boxrl.data.samples import read_samples
    from boxrl.data.stats import describe

    figures = describe(read_samples(args.samples))
    if args.json:
        print_json(figures)
        return
    _print_stats(args.samples, figures)


def _print_stats(path: Path, figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from boxrl.cli.tables import PlainTable

    console = Console()
    tasks = ", ".join(f"{count:,} {task}" for task, count in figures["tasks"].items())
    console.print(
        f"{path}: {tally(figures['samples'], 'sample')} ({tasks}) of "
        f"{tally(figures['images'], 'image')}, {tally(figures['boxes'], 'box', 'boxes')}, "
        f"{tally(figures['crowd'], 'crowd region')}, {tally(figures['negatives'], 'negative')}",
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
    labels = PlainTable("label", "boxes", "asked in", "absent from")
    for name, row in list(figures["labels"].items())[:SHOWN]:
        labels.add_row(name, f"{row['boxes']:,}", f"{row['asked']:,}", f"{row['negatives']:,}")
    for table in (spread, sizes, labels, _token_table(figures["image_tokens"])):
        console.print(table)
    if len(figures["labels"]) > SHOWN:
        console.print(f"... and {len(figures['labels']) - SHOWN} more labels; --json lists all")


def _token_table(tokens: dict[str, Any]) -> Any:
    """Mean and largest tokens of an image, a row per family, a column per pixel limit."""
    from rich.table import Table

    limits = list(dict.fromkeys(name for row in tokens.values() for name in row))
    heads = [name if name == "own" else f"{int(name):,} px" for name in limits]
    table = Table("tokens of an image, mean / most", *heads)
    for family, row in tokens.items():
        cells = [row.get(name) for name in limits]
        table.add_row(family, *(f"{c['mean']:,.0f} / {c['max']:,}" if c else "" for c in cells))
    return table


def run_mix(args: argparse.Namespace) -> None:
    """`boxrl data mix`."""
    from boxrl.data.mixing import (
        Source,
        counts_by_weight,
        mix,
        relative_folder,
        shared_images,
    )
    from boxrl.data.samples import read_samples, write_samples
    from boxrl.errors import UsageError

    check_outputs([(args.out, "samples")], args.samples)
    folders = [""] * len(args.samples)
    images = args.images or []
    if images or args.root is not None:
        if args.root is None or len(images) != len(args.samples):
            raise UsageError(
                f"--images names {tally(len(images), 'folder')} for {len(args.samples)} files; "
                "expected one each, and --root for the folder that holds them"
            )
        for folder in images:
            if not folder.is_dir():
                raise UsageError(f"--images {folder}: no such folder; it holds the images")
        folders = [relative_folder(folder, args.root) for folder in images]
    sources = [
        Source(path.stem, read_samples(path), folder)
        for path, folder in zip(args.samples, folders, strict=True)
    ]
    if shared := shared_images(sources):
        print(
            f"note: {tally(len(shared), 'image path')} in several files, such as {shared[0]!r}; "
            "where they are different images, name their folders with --images and --root",
            file=sys.stderr,
        )
    for folder, source in zip(images, sources, strict=False):
        paths = {sample.image for sample in source.samples}
        found = sum((folder / path).is_file() for path in paths)
        told = f"{found:,} of {tally(len(paths), 'image')} of {source.name} found under {folder}"
        print(f"note: {told}", file=sys.stderr)
    sizes = [len(source.samples) for source in sources]
    weights = args.weights or sizes
    counts = args.counts or counts_by_weight(sizes, weights, args.total)
    if len(counts) != len(sources):
        raise UsageError(f"--counts gives {len(counts)} numbers for {len(sources)} files")
    written = write_samples(args.out, mix(sources, counts, args.seed))
    taken = dict(zip([source.name for source in sources], counts, strict=True))
    if args.json:
        print_json({"out": str(args.out), "samples": written, "taken": taken})
        return
    shares = ", ".join(f"{count:,} of {name}" for name, count in taken.items())
    print(f"{args.out}: {tally(written, 'sample')}: {shares}")


def run_split(args: argparse.Namespace) -> None:
    """`boxrl data split`."""
    from boxrl.data.samples import read_samples, write_samples
    from boxrl.data.splitting import ROBOFLOW, split

    outputs = [(args.train, "samples"), (args.validation, "samples")]
    check_outputs(outputs, [args.samples])
    group_by = ROBOFLOW if args.group_by is None else args.group_by
    parts = split(
        read_samples(args.samples), args.share, args.seed, group_by=group_by, images=args.images
    )
    counts = {
        str(args.train): write_samples(args.train, parts.training),
        str(args.validation): write_samples(args.validation, parts.validation),
    }
    if args.json:
        print_json(counts)
        return
    for path, count in counts.items():
        print(f"{path}: {tally(count, 'sample')}")
    print_few_held_out(len(parts.validation), len(parts.training))
    if parts.groups < parts.images:
        groups = tally(parts.groups, "group")
        print(f"{tally(parts.images, 'image')} in {groups}, each on one side")


def print_few_held_out(held_out: int, kept: int) -> None:
    """A note where intervals over the held-out samples would be wide, with the share to take."""
    wanted = min(0.5, math.ceil(10 * FEW_HELD_OUT / (held_out + kept)) / 10)
    if held_out < min(FEW_HELD_OUT, int(wanted * (held_out + kept))):
        print(
            f"note: intervals over {tally(held_out, 'sample')} are wide; --share {wanted:g} "
            "holds out more"
        )


def run_show(args: argparse.Namespace) -> None:
    """`boxrl data show`."""
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
