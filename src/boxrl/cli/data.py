"""`boxrl data`: archives to samples files, their defects and figures, other tools' files."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boxrl.data.lint import Lint

# Names of the options' values stand here as well, so that --help imports no room; a test compares.
SUBSETS = ("pos_1", "pos_2", "pos_3", "small", "single_box")
MODES = ("all", "positive", "one_box", "single_class")
EXPORTS = ("coco", "vlmr1", "ms-swift", "easyr1")

SHOWN = 40
"""Defects or labels that a table shows; --json gives all."""


def add_verbs(verbs: Any) -> None:
    """Declare `boxrl data ACTION`."""
    data = verbs.add_parser("data", help="convert, check, describe, mix, split and export samples")
    actions = data.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_convert(actions)
    _add_lint(actions)
    _add_stats(actions)
    _add_mix(actions)
    _add_split(actions)
    _add_export(actions)


def _add_convert(actions: Any) -> None:
    convert = actions.add_parser("convert", help="an archive's annotations to a samples file")
    formats = convert.add_subparsers(title="formats", metavar="FORMAT", required=True)
    coco = _add_format(formats, "coco", "a COCO instances file", "FILE.json")
    _add_subset_and_mode(coco)
    coco.add_argument("--task", choices=("detection", "region"), default="detection")
    coco.add_argument(
        "--negatives", type=int, default=0, metavar="K", help="absent labels drawn per image"
    )
    ovdeval = _add_format(formats, "ovdeval", "one file of OVDEval", "ASPECT.json")
    ovdeval.add_argument("--mode", choices=("all", "positive"), default="all")
    d3 = _add_format(formats, "d3", "D3: its pickles or one of its JSON files", "PKL_DIR|FILE.json")
    d3.add_argument("--setting", choices=("intra", "inter"), default="intra")
    d3.add_argument("--negatives", type=int, metavar="K", help="absent sentences drawn per image")
    refcoco = _add_format(formats, "refcoco", "RefCOCO, RefCOCO+ or RefCOCOg", "ROOT")
    refcoco.add_argument(
        "--dataset", choices=("refcoco", "refcoco+", "refcocog"), default="refcoco"
    )
    refcoco.add_argument("--split-by", choices=("unc", "google", "umd"), default="unc")
    refcoco.add_argument("--split", default="val", metavar="S")
    refgta = _add_format(formats, "refgta", "RefGTA", "ROOT")
    refgta.add_argument("--split", default="val", metavar="S")
    _add_format(formats, "lisa", "ReasonSeg / LISA-Grounding", "DIR")
    _add_format(formats, "clevr", "CLEVR and SuperCLEVR counting", "FILE.jsonl")
    _add_format(formats, "vlmr1", "VLM-R1's list or conversations", "FILE.json|FILE.jsonl")
    _add_subset_and_mode(_add_format(formats, "yolo", "a YOLO data set", "DIR|data.yaml"))
    _add_subset_and_mode(_add_format(formats, "voc", "a Pascal VOC data set", "DIR"))


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


def _add_subset_and_mode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--subset", type=_comma_separated, default=(), metavar="|".join(SUBSETS),
        help="one or several, comma-separated, applied in that order",
    )  # fmt: skip
    parser.add_argument("--mode", choices=MODES, default="positive", help="labels asked for")


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
    _add_prompt(lint)
    _add_json(lint)
    lint.set_defaults(run=run_lint)


def _add_stats(actions: Any) -> None:
    stats = actions.add_parser("stats", help="samples, labels, boxes, sizes, negatives")
    stats.add_argument("samples", type=Path, metavar="FILE.jsonl")
    _add_json(stats)
    stats.set_defaults(run=run_stats)


def _add_mix(actions: Any) -> None:
    mix = actions.add_parser("mix", help="several samples files as one, drawn by a seed")
    mix.add_argument("samples", type=Path, nargs="+", metavar="FILE.jsonl")
    mix.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl")
    share = mix.add_mutually_exclusive_group()
    share.add_argument("--weights", type=float, nargs="+", metavar="W", help="shares, one per file")
    share.add_argument("--counts", type=int, nargs="+", metavar="N", help="samples, one per file")
    mix.add_argument("--total", type=_positive, metavar="N", help="of the mixture, with --weights")
    mix.add_argument(
        "--images", type=Path, nargs="+", metavar="DIR",
        help="images folder of each file, where they differ; no image is copied",
    )  # fmt: skip
    mix.add_argument(
        "--root", type=Path, metavar="DIR", help="images folder of the mixture; holds all --images"
    )
    mix.add_argument("--seed", type=int, default=0, metavar="N")
    _add_json(mix)
    mix.set_defaults(run=run_mix)


def _add_split(actions: Any) -> None:
    split = actions.add_parser("split", help="hold out images for validation")
    split.add_argument("samples", type=Path, metavar="FILE.jsonl")
    split.add_argument("--share", type=float, default=0.1, metavar="0.1", help="of the images")
    split.add_argument("--train", type=Path, required=True, metavar="TRAIN.jsonl")
    split.add_argument("--validation", type=Path, required=True, metavar="VAL.jsonl")
    split.add_argument("--seed", type=int, default=0, metavar="N")
    _add_json(split)
    split.set_defaults(run=run_split)


def _add_export(actions: Any) -> None:
    export = actions.add_parser("export", help="samples to the files of other tools")
    export.add_argument("format", choices=EXPORTS)
    export.add_argument("samples", type=Path, metavar="FILE.jsonl")
    export.add_argument("--out", type=Path, required=True, metavar="FILE")
    export.add_argument(
        "--like", type=Path, metavar="ORIGINAL.json",
        help="coco: the file that the samples were converted from; keeps its segmentations, "
        "licences and every other field",
    )  # fmt: skip
    _add_prompt(export)
    _add_json(export)
    export.set_defaults(run=run_export)


def _add_prompt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt", default="standard", metavar="NAME|FILE.yaml")
    parser.add_argument("--family", default="plain", metavar="NAME", help="frame and syntax")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def _comma_separated(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _positive(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, 1 or more, got {value!r}")
    return int(value)


_COMMON = {"run", "format", "annotations", "images", "out", "limit", "on_error", "json", "debug"}


def run_convert(args: argparse.Namespace) -> None:
    """`boxrl data convert FORMAT`."""
    from dataclasses import asdict

    from boxrl.data import READERS
    from boxrl.data.convert import convert, rejected_path
    from boxrl.progress import progress_bar

    _check_outputs([args.out, rejected_path(args.out)], [args.annotations])
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
        f"{done.crowd:,} crowd regions, {done.negatives:,} negatives"
    )
    if rejected:
        print(f"{rejected}: {done.rejected:,} rows left out, each with its reason")
    positive = args.format == "coco" and args.task == "detection" and args.mode == "positive"
    if positive and not args.negatives:
        print(
            "no label is asked for that is absent, so nothing teaches the model to leave one out; "
            "--negatives K asks for K absent labels too (docs/data.md)"
        )


def run_lint(args: argparse.Namespace) -> int:
    """`boxrl data lint`; 1 where there are errors."""
    from boxrl.data.lint import changes_path, lint
    from boxrl.families import build_family
    from boxrl.progress import progress_bar
    from boxrl.prompts import build_prompt

    prompt, family = build_prompt(args.prompt), build_family(args.family)
    with progress_bar("lint", _count_lines(args.samples)) as bar:
        outcome = lint(
            args.samples, args.images,
            validation=args.validation, fixed=args.fix, prompt=prompt, family=family,
            advance=bar.advance,
        )  # fmt: skip
    if args.json:
        print(json.dumps(_lint_row(args.samples, outcome), ensure_ascii=False))
    else:
        _print_lint(args.samples, outcome)
        if args.fix:
            print(f"{args.fix}: the mended file; {changes_path(args.fix)} lists every change")
    return 1 if outcome.errors else 0


def _check_outputs(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Results may replace results of earlier calls, but nothing that this call reads or writes."""
    from boxrl.errors import UsageError

    taken = {path.resolve(): "is read by this call" for path in inputs}
    for path in outputs:
        if path.resolve() in taken:
            raise UsageError(f"{path}: {taken[path.resolve()]}; name another file to write")
        taken[path.resolve()] = "is written by this call already"


def _lint_row(path: Path, outcome: Lint) -> dict[str, Any]:
    return {
        "rows": outcome.rows,
        "errors": outcome.errors,
        "warnings": len(outcome.defects) - outcome.errors,
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
    if len(outcome.defects) > SHOWN:
        print(f"... and {len(outcome.defects) - SHOWN} more; --json lists all")
    warnings = len(outcome.defects) - outcome.errors
    counts = {"row": outcome.rows, "error": outcome.errors, "warning": warnings}
    told = ", ".join(f"{n:,} {what}{'' if n == 1 else 's'}" for what, n in counts.items())
    print(f"{path}: {told}")


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


def run_mix(args: argparse.Namespace) -> None:
    """`boxrl data mix`."""
    from boxrl.data.mixing import Source, counts_by_weight, mix, relative_folder
    from boxrl.data.samples import read_samples, write_samples
    from boxrl.errors import UsageError

    _check_outputs([args.out], args.samples)
    folders = [""] * len(args.samples)
    if args.images:
        if args.root is None or len(args.images) != len(args.samples):
            raise UsageError(
                f"--images names {len(args.images)} folders for {len(args.samples)} files; "
                "expected one each, and --root for the folder that holds them"
            )
        folders = [relative_folder(images, args.root) for images in args.images]
    sources = [
        Source(path.stem, read_samples(path), folder)
        for path, folder in zip(args.samples, folders, strict=True)
    ]
    sizes = [len(source.samples) for source in sources]
    weights = args.weights or sizes
    counts = args.counts or counts_by_weight(sizes, weights, args.total)
    if len(counts) != len(sources):
        raise UsageError(f"--counts gives {len(counts)} numbers for {len(sources)} files")
    written = write_samples(args.out, mix(sources, counts, args.seed))
    taken = dict(zip([source.name for source in sources], counts, strict=True))
    row = {"out": str(args.out), "samples": written, "taken": taken}
    shares = ", ".join(f"{count:,} of {name}" for name, count in taken.items())
    print(json.dumps(row) if args.json else f"{args.out}: {written:,} samples: {shares}")


def run_split(args: argparse.Namespace) -> None:
    """`boxrl data split`."""
    from boxrl.data.mixing import split_by_image
    from boxrl.data.samples import read_samples, write_samples

    _check_outputs([args.train, args.validation], [args.samples])
    parts = split_by_image(read_samples(args.samples), args.share, args.seed)
    counts = {
        str(path): write_samples(path, part)
        for path, part in zip((args.train, args.validation), parts, strict=True)
    }
    lines = "\n".join(f"{path}: {count:,} samples" for path, count in counts.items())
    print(json.dumps(counts) if args.json else lines)


def run_export(args: argparse.Namespace) -> None:
    """`boxrl data export FORMAT`."""
    from boxrl.data import exports
    from boxrl.data.coco_export import write_coco
    from boxrl.data.samples import read_samples
    from boxrl.errors import UsageError
    from boxrl.families import build_family
    from boxrl.prompts import build_prompt

    prompt, family = build_prompt(args.prompt), build_family(args.family)
    if args.like is not None and args.format != "coco":
        raise UsageError(f"--like {args.like}: only the format coco takes an original file")
    _check_outputs([args.out], [args.samples, *([args.like] if args.like else [])])
    samples = read_samples(args.samples)
    if args.format == "coco":
        written = write_coco(args.out, samples, args.like)
        counts = {"annotations": written.annotations}
        counts |= {"as_original": written.as_original} if args.like else {}
    else:
        write = {
            "vlmr1": lambda: exports.write_vlmr1(args.out, samples),
            "ms-swift": lambda: exports.write_swift(args.out, samples, prompt),
            "easyr1": lambda: exports.write_easyr1(args.out, samples, prompt, family),
        }
        counts = {"rows": write[args.format]()}
    row = {"out": str(args.out), "samples": len(samples), **counts}
    told = ", ".join(f"{count:,} {noun.replace('_', ' ')}" for noun, count in counts.items())
    print(json.dumps(row) if args.json else f"{args.out}: {told}")


def _count_lines(path: Path) -> int:
    """Lines of the file, for the bar; 0 where it cannot be read, which the verb will report."""
    if not path.is_file():
        return 0
    with path.open("rb") as handle:
        return sum(block.count(b"\n") for block in iter(lambda: handle.read(1 << 20), b""))
