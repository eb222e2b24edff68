"""`boxrl data convert` and `data export`: other tools' files to samples, and back."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from boxrl.cli.options import (
    Input,
    add_images,
    add_json,
    add_limits,
    add_prompt,
    integer,
    number,
    print_json,
)
from boxrl.cli.parser import add_command
from boxrl.errors import tally
from boxrl.guard.outputs import check_outputs

# Names of the options' values stand here as well, so that --help stays quick; a test compares.
SUBSETS = ("pos_1", "pos_2", "pos_3", "small", "single_box")
MODES = ("all", "positive", "one_box", "single_class")
MODE = "labels asked for: all of the file, those present, those with one box, or one per sample"
EXPORTS = ("coco", "vlmr1", "ms-swift", "easyr1")


def add_convert(actions: Any) -> None:
    """Declare `data convert FORMAT`; `actions` are the subparsers of `data`."""
    verb = add_command(
        actions, "convert", "convert an archive's annotations to a samples file",
        example=_example("coco", "instances_train.json"),
    )  # fmt: skip
    formats = verb.add_subparsers(title="formats", metavar="FORMAT")
    for name, source, taken, example, *options in FORMATS:
        parser = _add_format(formats, name, source, taken, example)
        for declare in options:
            declare(parser)


def _example(name: str, annotations: str) -> str:
    return (
        f"boxrl data convert {name} --annotations {annotations} --images images/ --out train.jsonl"
    )


def _add_format(formats: Any, name: str, source: str, taken: str, example: str) -> Any:
    """A format with the options that all have; `taken` is the kind that --annotations names."""
    parser = add_command(formats, name, f"convert {source}", example=_example(name, example))
    parser.add_argument(
        "--annotations", type=Input, required=True, metavar=taken,
        help="annotations, as published",
    )  # fmt: skip
    add_images(parser, "where data.yaml says the data set lies" if name == "yolo" else "")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.jsonl", help="samples file to write"
    )
    parser.add_argument("--limit", type=integer(1), metavar="N", help="at most N samples")
    parser.add_argument(
        "--seed", type=integer(0), metavar="N",
        help="random seed; with --limit, draw N samples at random instead of taking the first N",
    )  # fmt: skip
    parser.add_argument(
        "--on-error", choices=("stop", "skip"), default="stop",
        help="at a bad row: stop, or skip it and list it in OUT.rejected.jsonl",
    )  # fmt: skip
    parser.add_argument(
        "--max-rejected", type=number(0, 1), default=0.1, metavar="X",
        help="with skip, stop where more than this share of the annotations is bad",
    )  # fmt: skip
    add_json(parser)
    parser.set_defaults(run=run_convert, format=name)
    return parser


def _asking(parser: Any) -> None:
    """Options of every format of annotated images."""
    parser.add_argument(
        "--subset", type=_comma_separated, default=(), metavar="NAME,...",
        help=f"keep a subset: {', '.join(SUBSETS)}; several apply in the order given",
    )  # fmt: skip
    parser.add_argument("--mode", choices=MODES, default="positive", help=MODE)
    parser.add_argument(
        "--negatives", type=integer(0), default=0, metavar="K",
        help="absent labels to ask for as well, drawn at random per image",
    )  # fmt: skip


def _task(parser: Any) -> None:
    parser.add_argument(
        "--task", choices=("detection", "region"), default="detection",
        help="region: name what a given box shows",
    )  # fmt: skip


def _ovdeval(parser: Any) -> None:
    parser.add_argument("--mode", choices=("all", "positive"), default="all", help=MODE)


def _d3(parser: Any) -> None:
    parser.add_argument(
        "--setting", choices=("intra", "inter"), default="intra",
        help="sentences asked for: those of the image's group, or all",
    )  # fmt: skip
    parser.add_argument(
        "--mode", choices=("all", "single_class"), default="all",
        help="one sample that asks for all of them, or one for each",
    )  # fmt: skip
    parser.add_argument(
        "--negatives", type=integer(0), metavar="K",
        help="absent sentences to ask for, drawn at random per image (default: all)",
    )  # fmt: skip


def _refcoco(parser: Any) -> None:
    parser.add_argument(
        "--dataset", choices=("refcoco", "refcoco+", "refcocog"), default="refcoco",
        help="which of the three",
    )  # fmt: skip
    parser.add_argument(
        "--split-by", choices=("unc", "google", "umd"), default="unc", help="who split it"
    )
    _split(parser)


def _split(parser: Any) -> None:
    parser.add_argument("--split", default="val", metavar="NAME", help="split of the data set")


def _listed_split(parser: Any) -> None:
    parser.add_argument(
        "--split", metavar="NAME",
        help="a split that data.yaml or ImageSets/Main lists (default: every image)",
    )  # fmt: skip


def _boxes(parser: Any) -> None:
    parser.add_argument(
        "--boxes", choices=("xywh", "xyxy"),
        help="form of the boxes, where nothing in the files tells",
    )  # fmt: skip


def _names(parser: Any) -> None:
    parser.add_argument(
        "--names", type=Input, metavar="FILE",
        help="names of labels that are numbers: classes.txt, or a YAML file with names",
    )  # fmt: skip


def _label(parser: Any) -> None:
    parser.add_argument(
        "--label", metavar="NAME", help="label of every box, where no column names one"
    )


def _family(parser: Any) -> None:
    parser.add_argument(
        "--family", metavar="NAME|FILE.yaml",
        help="model family that the rows were written for, whose frame boxes in JSON are in",
    )  # fmt: skip


FORMATS: tuple[tuple[Any, ...], ...] = (
    ("coco", "a COCO instances file", "FILE.json|DIR", "instances_train.json", _asking, _task),
    ("ovdeval", "one file of OVDEval", "FILE.json", "celebrity.json", _ovdeval),
    ("d3", "D3, its pickles or one of its JSON files", "DIR|FILE.json", "d3_pkl/", _d3),
    ("refcoco", "RefCOCO, RefCOCO+ or RefCOCOg", "DIR", "refer/data/", _refcoco),
    ("refgta", "RefGTA", "DIR", "refgta/", _split),
    ("lisa", "ReasonSeg / LISA-Grounding", "DIR", "ReasonSeg/val/"),
    ("clevr", "CLEVR and SuperCLEVR counting", "FILE.jsonl", "superclevr_test.jsonl"),
    ("vlmr1", "VLM-R1's list or conversations", "FILE.json|FILE.jsonl", "rec.jsonl"),
    ("yolo", "a YOLO data set", "DIR|data.yaml", "data.yaml", _asking, _listed_split),
    ("voc", "a Pascal VOC data set", "DIR", "Annotations/", _asking, _listed_split),
    ("lvis", "an LVIS file", "FILE.json", "lvis_v1_train.json", _asking, _task),
    ("hf", "a Hugging Face image folder or parquet files", "DIR|FILE", "data/", _asking, _boxes,
     _names),
    ("chat", "training rows of vision-language models", "FILE.json|FILE.jsonl", "train_rows.jsonl",
     _family),
    ("labelme", "LabelMe files", "DIR|FILE.json", "labelme/", _asking),
    ("labelstudio", "a Label Studio export", "FILE.json", "export.json", _asking),
    ("cvat", "CVAT for images", "FILE.xml|DIR", "annotations.xml", _asking),
    ("csv", "a table of boxes", "FILE.csv|DIR", "_annotations.csv", _asking, _boxes, _label),
    ("odvg", "ODVG rows, or MDETR's file", "FILE.jsonl|FILE.json", "odvg.jsonl", _asking),
    ("rexomni", "a file of Rex-Omni-EvalData", "FILE.jsonl", "box_eval/COCO.jsonl"),
    ("visdrone", "VisDrone", "DIR", "annotations/", _asking),
)  # fmt: skip
"""(name, what it is, what --annotations takes, an example of that, its own options...)."""


def _comma_separated(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def add_export(actions: Any) -> None:
    """Declare `data export FORMAT`; `actions` are the subparsers of `data`."""
    export = add_command(
        actions, "export", "write samples as a file of another tool",
        example="boxrl data export coco val.jsonl --out instances_val.json",
    )  # fmt: skip
    export.add_argument("format", choices=EXPORTS, help="whose format")
    export.add_argument("samples", type=Input, metavar="FILE.jsonl", help="samples file")
    export.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write")
    export.add_argument(
        "--like", type=Input, metavar="ORIGINAL.json",
        help="coco: the file that the samples were converted from; keeps its segmentations, "
        "licences and every other field",
    )  # fmt: skip
    add_prompt(export)
    add_limits(export)
    add_json(export)
    export.set_defaults(run=export_samples)


_COMMON = {
    "run", "format", "annotations", "images", "out", "limit", "on_error", "max_rejected", "json",
    "debug",
}  # fmt: skip


def run_convert(args: argparse.Namespace) -> None:
    """`boxrl data convert FORMAT`."""
    from dataclasses import asdict

    from boxrl.data.convert import convert, rejected_path
    from boxrl.data.formats import READERS
    from boxrl.data.kinds import way_out
    from boxrl.errors import DataError, UsageError
    from boxrl.guard.texts import visible
    from boxrl.progress import progress_bar

    outputs = [(args.out, "samples"), (rejected_path(args.out), "rejected rows")]
    check_outputs(outputs, [args.annotations])
    known = args.images is None or args.images.is_dir()
    if not known and args.format != "hf":  # which writes images of parquet files
        raise UsageError(f"--images {args.images}: no such folder; it holds the images")
    reader = READERS[args.format]
    options = {key: value for key, value in vars(args).items() if key not in _COMMON}
    seed = options.pop("seed")
    if "seed" in (reader.__kwdefaults__ or {}):
        options["seed"] = seed or 0
    print(f"reading {args.annotations}", file=sys.stderr)
    try:
        reading = reader(args.annotations, args.images, **options)
        with progress_bar(f"convert {args.format}", reading.total) as bar:
            done = convert(
                reading, args.out,
                on_error=args.on_error, max_rejected=args.max_rejected,
                limit=args.limit, seed=seed, advance=bar.advance,
            )  # fmt: skip
    except DataError as error:
        raise DataError(f"{error}{way_out(args.annotations, args.format)}") from error
    rejected = str(rejected_path(args.out)) if done.rejected else None
    for note in done.notes:
        print(f"note: {visible(note)}", file=sys.stderr)
    if args.json:
        print_json({"out": str(args.out), **asdict(done), "rejected_file": rejected})
        return
    print(
        f"{args.out}: {tally(done.samples, 'sample')}, {tally(done.objects, 'box', 'boxes')}, "
        f"{tally(done.crowd, 'crowd region')}, {tally(done.negatives, 'negative')}"
    )
    if rejected:
        print(f"{rejected}: {tally(done.rejected, 'row')} left out, each with its reason")
    positive = options.get("mode") == "positive" and options.get("task", "detection") == "detection"
    if positive and options.get("negatives") == 0:
        print(
            "no absent label is asked for, so the model never learns to leave one out; "
            "--negatives K adds K absent labels per image (docs/data.md)"
        )
    folder = reading.images.folder if reading.images else args.images
    images = ["--images", str(folder)] if folder else []
    print(f"next: {shlex.join(['boxrl', 'data', 'lint', str(args.out), *images])}")


def export_samples(args: argparse.Namespace) -> None:
    """`boxrl data export FORMAT`."""
    from boxrl.data.formats import exports
    from boxrl.data.formats.coco_export import write_coco
    from boxrl.data.samples import read_samples
    from boxrl.errors import UsageError
    from boxrl.families import build_family
    from boxrl.families.image_paths import build_image_path
    from boxrl.prompts import build_prompt

    prompt, family = build_prompt(args.prompt), build_family(args.family)
    path = build_image_path("easyr1", family, args.min_pixels, args.max_pixels)
    if args.like is not None and args.format != "coco":
        raise UsageError(f"--like {args.like}: only the format coco takes an original file")
    lines = args.format == "vlmr1" and args.out.suffix != ".json"
    kind = "vlmr1 conversations" if lines else args.format
    check_outputs([(args.out, kind)], [args.samples, *([args.like] if args.like else [])])
    samples = read_samples(args.samples)
    if args.format == "coco":
        written = write_coco(args.out, samples, args.like)
        counts = {"annotations": written.annotations}
        counts |= {"as_original": written.as_original} if args.like else {}
    else:
        write = {
            "vlmr1": lambda: exports.write_vlmr1(args.out, samples),
            "ms-swift": lambda: exports.write_swift(args.out, samples, prompt),
            "easyr1": lambda: exports.write_easyr1(args.out, samples, prompt, path),
        }
        counts = {"rows": write[args.format]()}
    if args.json:
        print_json({"out": str(args.out), "samples": len(samples), **counts})
        return
    told = ", ".join(f"{count:,} {noun.replace('_', ' ')}" for noun, count in counts.items())
    print(f"{args.out}: {told}")
