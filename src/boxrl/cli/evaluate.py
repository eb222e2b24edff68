"""`boxrl evaluate`: predictions to numbers."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxrl.cli.options import (
    PREDICTED_FAMILY,
    RESAMPLES,
    Input,
    add_format,
    add_json,
    add_predictions,
    add_price,
    add_ranking,
    add_samples,
    add_seed,
    chosen_format,
    integer,
    print_json,
)
from boxrl.cli.parser import add_command
from boxrl.errors import UsageError, tally
from boxrl.guard.outputs import check_outputs

if TYPE_CHECKING:
    from rich.console import Console

    from boxrl.types import Sample

MAX_LABELS = 20
"""Rows of the table by label; the others are in the JSON."""


def add_verb(verbs: Any) -> None:
    """Declare `boxrl evaluate`."""
    verb = add_command(
        verbs, "evaluate", "score predictions: AP, precision, recall and more",
        example="boxrl evaluate --samples val.jsonl --predictions runs/val/predictions.jsonl "
        "--out runs/val",
    )  # fmt: skip
    add_samples(verb)
    add_predictions(verb)
    verb.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for metrics.json and rows.jsonl"
    )
    verb.add_argument("--family", metavar="NAME", help=PREDICTED_FAMILY)
    add_ranking(verb)
    add_price(verb)
    verb.add_argument(
        "--answer-tag", choices=("optional", "required"), default="optional",
        help="optional: without <answer> the completion is read as a whole",
    )  # fmt: skip
    verb.add_argument(
        "--reading", choices=("strict", "tolerant"), default="strict",
        help="tolerant: also what is nearly JSON (quotes, commas, other keys), as its own protocol",
    )  # fmt: skip
    verb.add_argument(
        "--errors", choices=("wrong", "skip"),
        help="predictions that ended in error: count them as unreadable answers, or leave their "
        "samples out; refused by default",
    )  # fmt: skip
    verb.add_argument(
        "--control", type=Input, action="append", default=[], metavar="FILE.jsonl",
        help="predictions of predict --control, shown beside; repeatable",
    )  # fmt: skip
    add_seed(verb, "of the bootstrap and the blind baseline")
    verb.add_argument(
        "--resamples", type=integer(0), default=1000, metavar="N",
        help=f"{RESAMPLES}; 0: no intervals",
    )  # fmt: skip
    add_json(verb)
    add_format(verb)
    verb.set_defaults(run=run_evaluate)


def run_evaluate(args: argparse.Namespace) -> None:
    """Score a predictions file and its controls."""
    form = chosen_format(args)
    from boxrl.data.samples import read_samples
    from boxrl.evaluate import evaluate
    from boxrl.evaluate.controls import compare_controls
    from boxrl.evaluate.detectors import is_results, ranked_by, read_answers, store_answers
    from boxrl.evaluate.files import settings_family, write_evaluation
    from boxrl.evaluate.tables import evaluation_table, render_tables

    _check_files(args)
    samples = read_samples(args.samples)

    def run(path: Path) -> Any:
        settings, predictions = read_answers(path, samples)
        _refuse_draws(args.samples, samples, path, predictions)
        return evaluate(
            samples,
            predictions,
            settings_family(settings, args.family, str(path)),
            confidence=ranked_by(path, args.confidence),
            answer_tag=args.answer_tag,
            reading=args.reading,
            errors=args.errors,
            nms=args.nms,
            seed=args.seed,
            settings=settings,
            resamples=args.resamples,
            price=args.price,
        )

    evaluation, kept = run(args.predictions), args.predictions
    controls = [run(path) for path in args.control]
    if controls:
        compared = compare_controls(evaluation, controls, args.seed, args.resamples)
        evaluation.metrics["controls"] = compared
    if args.out:
        if is_results(kept):
            kept = store_answers(args.out, read_answers(kept, samples))
        evaluation = write_evaluation(args.out, evaluation, samples=args.samples, predictions=kept)
    if args.json:
        print_json(evaluation.metrics)
    elif form:
        print(render_tables([evaluation_table(evaluation.metrics)], form), end="")
        for hint in evaluation.metrics["hints"]:
            print(f"hint: {hint}", file=sys.stderr)
    else:
        print_evaluation(evaluation.metrics)
        _print_end(evaluation.metrics, args.out)


def _print_end(metrics: Mapping[str, Any], out: Path | None) -> None:
    """The verdict, and what to run next."""
    from rich.console import Console

    from boxrl.cli.tables import print_next, print_verdict, shell
    from boxrl.evaluate.verdict import evaluation_verdict

    console = Console(highlight=False)
    print_verdict(console, evaluation_verdict(metrics))
    if out:
        print_next(console, f"boxrl report {shell(out)}", f"boxrl compare OTHER {shell(out)}")
    else:
        print_next(console, "the same command with --out DIR keeps it for report and compare")


def _check_files(args: argparse.Namespace) -> None:
    """Stop before anything is read where an output is another file, or a control is none.

    Raises:
        UsageError: it says which.
    """
    from boxrl.evaluate.detectors import is_results
    from boxrl.evaluate.files import METRICS_FILE, PREDICTIONS_FILE, ROWS_FILE, read_settings

    if args.out:
        outputs = [(args.out / METRICS_FILE, "metrics"), (args.out / ROWS_FILE, "rows")]
        if is_results(args.predictions):
            outputs.append((args.out / PREDICTIONS_FILE, "predictions"))
        check_outputs(outputs, [args.samples, args.predictions, *args.control])
    for path in args.control:
        if not read_settings(path).get("control"):
            raise UsageError(
                f"--control: {path} is not a control; make one with boxrl predict --control"
            )


def _refuse_draws(
    samples_path: Path, samples: Sequence[Sample], path: Path, predictions: Iterable[str]
) -> None:
    """Stop where the predictions are several per sample, whose ids are ID#0, ID#1, ...

    Raises:
        UsageError: it says what to run instead.
    """
    ids = {sample.id for sample in samples}
    if any(key not in ids and key.rpartition("#")[0] in ids for key in predictions):
        call = ["boxrl", "pass-at-k", "--samples", f"{samples_path}", "--predictions", f"{path}"]
        raise UsageError(f"{path}: holds several completions per sample; run: {shlex.join(call)}")


def print_evaluation(metrics: Mapping[str, Any]) -> None:
    """Metrics beside the blind baseline and the controls, errors, labels, protocol."""
    from rich.console import Console

    from boxrl.cli.tables import new_table, plain, print_hints, print_protocol
    from boxrl.evaluate.summary import METRICS, look_up

    console = Console(highlight=False)
    others = {"blind baseline": metrics["blind"]}
    others |= {f"{c['control']}": c for c in metrics.get("controls", ())}
    table = new_table(tally(metrics["n"], "sample"), "metric", "value", "95 % interval", *others)
    for metric in METRICS:
        value = look_up(metrics, metric.key)
        if value is not None:
            span = metric.format_ends(metrics["intervals"].get(metric.key))
            beside = [metric.format(look_up(other, metric.key)) or "-" for other in others.values()]
            table.add_row(metric.name, metric.format(value), span, *beside)
    console.print(table)
    _print_status(console, metrics)
    _print_behaviour(console, metrics.get("behaviour"))
    _print_errors(console, metrics.get("errors"))
    _print_labels(console, metrics["per_label"])
    for other in others.values():
        if verdict := other["beats_blind"]:
            console.print(plain(verdict["words"], "" if verdict["beats_blind"] else "bold red"))
    print_hints(console, metrics.get("hints", ()))
    print_protocol(console, metrics["protocol"])


def _print_status(console: Console, metrics: Mapping[str, Any]) -> None:
    """How the answers read, why some did not, and what was left out."""
    shares = ", ".join(f"{status} {rate:.1%}" for status, rate in metrics["parse"].items() if rate)
    if shares:
        console.print(f"answers: {shares}")
    if metrics["unreadable"]:
        counts = (f"{reason} {n}" for reason, n in metrics["unreadable"].items())
        console.print(f"unreadable: {', '.join(counts)}", markup=False)
    if metrics["dropped"]:
        console.print(f"{tally(metrics['dropped'], 'item')} of answers could not be used")
    failed = metrics["failed"]
    if failed["n"]:
        done = "left out" if failed["rule"] == "skip" else "counted as unreadable"
        console.print(f"{failed['n']} predictions ended in error and are {done}")


def _print_behaviour(console: Console, found: Mapping[str, Any] | None) -> None:
    from boxrl.evaluate.behaviour import describe_behaviour

    if said := describe_behaviour(found or {}):
        console.print(f"behaviour: {said}")


def _print_errors(console: Console, errors: Mapping[str, Any] | None) -> None:
    from boxrl.cli.tables import format_rate, new_table

    if not errors:
        return
    table = new_table("TIDE errors at IoU 0.5", "error", "AP50 lost", "boxes")
    for name, lost in errors["AP50_lost"].items():
        table.add_row(name, format_rate(lost), f"{errors['counts'][name]}")
    console.print(table)
    lost = errors["AP50_lost"]
    if lost["missed"] is None and lost["background"] is not None:
        console.print("AP50 is 0, so TIDE cannot weigh what is missed")
    if errors["on_unasked"]:
        console.print(
            f"{errors['on_unasked']} of these boxes lie on objects that were not asked for"
        )


def _print_labels(console: Console, labels: Mapping[str, Mapping[str, Any]]) -> None:
    from boxrl.cli.tables import format_rate, new_table

    with_targets = [(name, row) for name, row in labels.items() if row["targets"]]
    if not with_targets:
        return
    with_targets.sort(key=lambda item: -item[1]["targets"])
    table = new_table("by label", "label", "AP", "AP50", "targets", "predictions")
    for name, row in with_targets[:MAX_LABELS]:
        numbers = f"{row['targets']}", f"{row['predictions']}"
        table.add_row(name, format_rate(row["AP"]), format_rate(row["AP50"]), *numbers)
    console.print(table)
    if len(with_targets) > MAX_LABELS:
        console.print(f"and {len(with_targets) - MAX_LABELS} more labels; --json lists all")
