"""`evaluate`, `coco-eval` and `compare`: predictions to numbers."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from boxrl.cli.numbers import whole
from boxrl.cli.options import add_json, print_json
from boxrl.errors import UsageError


def add_verbs(verbs: Any) -> None:
    """Declare the verbs of this module."""
    _add_evaluate(verbs)
    _add_coco_eval(verbs)
    _add_compare(verbs)


def _add_evaluate(verbs: Any) -> None:
    verb = verbs.add_parser("evaluate", help="score predictions: AP, precision, recall, ...")
    verb.add_argument("--samples", type=Path, required=True, metavar="F", help="samples file")
    verb.add_argument(
        "--predictions", type=Path, required=True, metavar="P", help="file of boxrl predict"
    )
    verb.add_argument("--out", type=Path, metavar="DIR", help="write metrics.json and rows.jsonl")
    verb.add_argument("--family", metavar="NAME", help="where the predictions do not say it")
    verb.add_argument(
        "--confidence",
        choices=("constant", "order", "logprob"),
        default="constant",
        help="confidence of a box for AP (default: constant)",
    )
    verb.add_argument(
        "--answer-tag",
        choices=("optional", "required"),
        default="optional",
        help="optional reads completions without <answer> as a whole (default)",
    )
    verb.add_argument(
        "--control",
        type=Path,
        action="append",
        default=[],
        metavar="P",
        help="predictions made with predict --control, shown beside; may be repeated",
    )
    verb.add_argument(
        "--seed", type=whole(0), default=0, help="of the bootstrap and the blind policy"
    )
    verb.add_argument("--resamples", type=whole(0), default=1000, help="0 leaves intervals out")
    add_json(verb)
    verb.set_defaults(run=evaluate)


def _add_coco_eval(verbs: Any) -> None:
    verb = verbs.add_parser("coco-eval", help="AP and NMS-AP of a COCO results file")
    verb.add_argument("--annotations", type=Path, required=True, metavar="A.json")
    verb.add_argument("--predictions", type=Path, required=True, metavar="P.json")
    verb.add_argument(
        "--nms-ap", action="store_true", help="add NMS-AP; both as OVDEval's script gives them"
    )
    add_json(verb)
    verb.set_defaults(run=coco_eval)


def _add_compare(verbs: Any) -> None:
    verb = verbs.add_parser("compare", help="runs over the same samples, paired with the first")
    verb.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="run folder, RUN/evals/NAME, or folder of evaluate --out",
    )
    verb.add_argument("--out", type=Path, metavar="FILE.html", help="also write it as one page")
    verb.add_argument("--force", action="store_true", help="compare although protocols differ")
    verb.add_argument("--seed", type=whole(0), default=0)
    verb.add_argument("--resamples", type=whole(1), default=1000)
    add_json(verb)
    verb.set_defaults(run=compare)


def evaluate(args: argparse.Namespace) -> None:
    """Score a predictions file and its controls."""
    from boxrl.data.predictions import read_predictions
    from boxrl.data.samples import read_samples
    from boxrl.evaluate import evaluate as score
    from boxrl.evaluate.controls import against
    from boxrl.evaluate.files import read_settings, settings_family, write_evaluation

    samples = read_samples(args.samples)

    def run(path: Path) -> Any:
        settings = read_settings(path)
        return score(
            samples,
            read_predictions(path),
            settings_family(settings, args.family, str(path)),
            confidence=args.confidence,
            answer_tag=args.answer_tag,
            seed=args.seed,
            settings=settings,
            resamples=args.resamples,
        )

    for path in args.control:
        if not read_settings(path).get("control"):
            raise UsageError(
                f"--control: {path} is no control; make one with boxrl predict --control"
            )
    evaluation = run(args.predictions)
    controls = [run(path) for path in args.control]
    if controls:
        evaluation.metrics["controls"] = against(evaluation, controls, args.seed, args.resamples)
    if args.out:
        write_evaluation(args.out, evaluation)
    if args.json:
        print_json(evaluation.metrics)
    else:
        from boxrl.cli.tables import print_evaluation

        print_evaluation(evaluation.metrics)


def coco_eval(args: argparse.Namespace) -> None:
    """Score a COCO results file."""
    from boxrl.evaluate.coco import evaluate_coco

    figures = evaluate_coco(args.annotations, args.predictions, nms_ap=args.nms_ap)
    if args.json:
        print_json(figures)
    else:
        from boxrl.cli.tables import print_coco

        print_coco(figures)


def compare(args: argparse.Namespace) -> None:
    """Pair evaluations of the same name, each run with the first."""
    first, *others = args.runs
    if not others or (args.json and len(others) > 1):
        takes = "two runs" if args.json else "at least two runs"
        raise UsageError(f"compare takes {takes}{' with --json' * args.json}, got {len(args.runs)}")
    for other in others:
        _compare_runs(args, first, other)
    if args.out:
        from boxrl.report import build_comparison

        build_comparison(args.runs, args.out)
        print(f"report: {args.out}", file=sys.stderr if args.json else sys.stdout)


def _compare_runs(args: argparse.Namespace, first: Path, second: Path) -> None:
    """Print every evaluation that two runs share: a table each, or one JSON object of all."""
    from boxrl.cli.tables import print_comparison
    from boxrl.evaluate import compare as pair
    from boxrl.evaluate.opening import open_evaluation, paired_folders

    found = {}
    for name, folders in paired_folders(first, second).items():
        a, b = map(open_evaluation, folders)
        found[name] = pair(a, b, seed=args.seed, resamples=args.resamples, force=args.force)
        if not args.json:
            print_comparison(found[name], [str(folder) for folder in folders])
    if args.json:
        print_json(found.get("", found))
