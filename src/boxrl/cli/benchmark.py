"""`benchmark list` and `benchmark run`: from a model and an archive to a table, in one command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxrl.cli.options import RESAMPLES, add_json, integer, print_json
from boxrl.cli.parser import add_command
from boxrl.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from boxrl.benchmarks import Benchmark, Published
    from boxrl.evaluate.evaluation import Evaluation
    from boxrl.types import Sample


def add_verb(verbs: Any) -> None:
    """Declare `boxrl benchmark list|run`."""
    verb = add_command(
        verbs, "benchmark", "run named benchmarks, from a model to a table",
        example="boxrl benchmark list",
    )  # fmt: skip
    actions = verb.add_subparsers(title="actions", metavar="ACTION")
    listing = add_command(
        actions, "list", "show benchmarks: files, protocols, published numbers",
        example="boxrl benchmark list coco",
    )  # fmt: skip
    listing.add_argument("names", nargs="*", metavar="NAME", help="only these, in detail")
    add_json(listing)
    listing.set_defaults(run=run_list)
    run = add_command(
        actions, "run", "convert, predict, evaluate and report one benchmark",
        example="boxrl benchmark run coco --model models/Qwen2.5-VL-3B-Instruct "
        "--data-root data/coco --out runs/coco",
    )  # fmt: skip
    run.add_argument("name", metavar="NAME", help="one of boxrl benchmark list")
    run.add_argument("--model", metavar="MODEL", help="as for boxrl predict")
    run.add_argument(
        "--data-root", type=Path, required=True, metavar="DIR",
        help="folder with the files that boxrl benchmark list NAME shows",
    )  # fmt: skip
    run.add_argument(
        "--out", type=Path, required=True, metavar="DIR",
        help="run folder; the same command again goes on there",
    )  # fmt: skip
    run.add_argument(
        "--mode", metavar="MODE",
        help="labels asked for: all, positive or one_box; of d3: intra or inter "
        "(default: the benchmark's first)",
    )  # fmt: skip
    run.add_argument(
        "--limit", type=integer(1), metavar="N", help="only the first N samples of each part"
    )
    run.add_argument(
        "--predictions", type=Path, metavar="FILE.jsonl",
        help="evaluate these predictions instead of running a model",
    )  # fmt: skip
    run.add_argument(
        "--family", metavar="NAME",
        help="model family (default: read from the model's config.json or the predictions)",
    )  # fmt: skip
    run.add_argument(
        "--resamples", type=integer(0), default=1000, metavar="N",
        help=f"{RESAMPLES}; 0: no intervals",
    )  # fmt: skip
    add_json(run)
    run.add_argument(
        "--predict-options", default="", metavar="TEXT",
        help='options of boxrl predict: --predict-options="--engine vllm --max-new-tokens 2048"',
    )  # fmt: skip
    run.set_defaults(run=run_benchmark)


def run_list(args: argparse.Namespace) -> None:
    """Show benchmarks."""
    from dataclasses import asdict

    from boxrl.benchmarks import BENCHMARKS, build_benchmark
    from boxrl.benchmarks.samples import layout

    chosen = [build_benchmark(name) for name in args.names] or list(BENCHMARKS.values())
    if args.json:
        content = {
            b.name: {
                "title": b.title,
                "reader": b.reader,
                "layout": layout(b),
                "modes": list(b.modes),
                "figure": b.figure,
                "protocol": b.protocol,
                "published": [asdict(p) for p in b.published],
            }
            for b in chosen
        }
        print_json(content)
        return
    print_benchmarks(chosen, detailed=bool(args.names))


def run_benchmark(args: argparse.Namespace) -> None:
    """Convert, predict, evaluate, report."""
    from boxrl.benchmarks import build_benchmark
    from boxrl.benchmarks.samples import build_samples
    from boxrl.benchmarks.summary import evaluate_parts, summarize_benchmark
    from boxrl.data.files import write_json
    from boxrl.data.predictions import read_predictions
    from boxrl.data.samples import write_samples
    from boxrl.evaluate.files import read_settings, settings_family

    benchmark = build_benchmark(args.name)
    predict = None if args.predictions else _predict_call(args)
    samples, missing = build_samples(benchmark, args.data_root, args.mode, args.limit)
    for part, reason in missing.items():
        print(f"left out: {part}: {reason}", file=sys.stderr)
    _check_same_samples(args.out, samples)
    write_samples(args.out / "samples.jsonl", samples)
    path: Path = args.predictions or args.out / "predictions.jsonl"
    if predict:
        with redirect_stdout(sys.stderr):  # stdout is the benchmark's own
            failed = predict.run(predict)
        if failed:
            raise UsageError(f"{path}: some samples have no answer; run the same command again")
    settings, predictions = read_settings(path), read_predictions(path)
    parts = evaluate_parts(
        samples,
        predictions,
        settings_family(settings, args.family, str(path)),
        settings=settings,
        resamples=args.resamples,
    )
    summary = summarize_benchmark(benchmark, samples, parts)
    result = {
        "benchmark": benchmark.name,
        "summary": summary,
        "parts": {name: part.metrics for name, part in parts.items()},
        "missing": missing,
        "protocol": benchmark.protocol,
    }
    write_json(args.out / "benchmark.json", result)
    _write_run(args, benchmark, samples, parts, path)
    if args.json:
        print_json(result)
        return
    print_benchmark(benchmark, summary, parts)


def _check_same_samples(out: Path, samples: list[Sample]) -> None:
    """Refuse answers that an earlier call left there to other questions of the same ids.

    Raises:
        UsageError: the folder holds another mode, or other data.
    """
    from boxrl.data.samples import read_samples, render_sample

    if not ((out / "predictions.jsonl").is_file() and (out / "samples.jsonl").is_file()):
        return
    earlier = {sample.id: render_sample(sample) for sample in read_samples(out / "samples.jsonl")}
    for sample in samples:
        if earlier.get(sample.id, line := render_sample(sample)) != line:
            raise UsageError(
                f"{out}: holds answers to other questions (sample {sample.id!r} differs: another "
                "--mode, or other data); choose another --out"
            )


def _predict_call(args: argparse.Namespace) -> argparse.Namespace:
    """The call of `boxrl predict` over the benchmark's samples; resumable as it is."""
    from boxrl.cli import build_parser

    if args.model is None:
        raise UsageError("benchmark run needs --model, or --predictions to score")
    options = [
        f"--samples={args.out / 'samples.jsonl'}",
        f"--images={args.data_root}",
        f"--model={args.model}",
        f"--out={args.out / 'predictions.jsonl'}",
        *([f"--family={args.family}"] if args.family else []),
    ]
    return build_parser().parse_args(["predict", *options, *_words(args.predict_options)])


def _words(options: str) -> list[str]:
    import shlex

    try:
        return shlex.split(options)
    except ValueError as error:
        raise UsageError(f"--predict-options: {error}, got {options!r:.80}") from error


def _write_run(
    args: argparse.Namespace,
    benchmark: Benchmark,
    samples: list[Sample],
    parts: dict[str, Evaluation],
    predictions: Path,
) -> None:
    """A run folder with one evaluation per part, and its report."""
    from boxrl.data.files import write_atomic, write_json
    from boxrl.data.predictions import meta_path, read_predictions, render_prediction
    from boxrl.data.samples import write_samples
    from boxrl.evaluate.files import read_settings, write_evaluation
    from boxrl.report import build_report

    answers, settings = read_predictions(predictions), read_settings(predictions)
    settings |= {"images": str(args.data_root.resolve())}
    if args.family:
        settings["family"] = args.family
    for name, part in parts.items():
        folder = args.out / "evals" / name
        mine = [sample for sample in samples if sample.meta["part"] == name]
        write_samples(folder / "samples.jsonl", mine)
        with write_atomic(folder / "predictions.jsonl") as handle:
            handle.writelines(render_prediction(answers[s.id]) + "\n" for s in mine)
        located = {"samples": f"evals/{name}/samples.jsonl"}
        write_json(meta_path(folder / "predictions.jsonl"), settings | located)
        write_evaluation(folder, part)
    facts = {"name": benchmark.name, "method": "benchmark", "model": settings.get("model")}
    facts |= {"status": "done", "evals": list(parts), "pairs": []}
    write_json(args.out / "run.json", facts)
    build_report(args.out, args.out / "report.html")


def print_benchmarks(benchmarks: Sequence[Benchmark], detailed: bool) -> None:
    """What there is; `detailed` adds layout, protocol and every published number."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from boxrl.benchmarks.samples import layout

    console = Console(highlight=False)
    if not detailed:
        table = Table("name", "what", "modes", "published")
        for item in benchmarks:
            numbers = f"{len(item.published)} results" if item.published else "-"
            table.add_row(item.name, item.title, ", ".join(item.modes) or "-", numbers)
        console.print(table)
        console.print("boxrl benchmark list NAME shows its files, protocol and published numbers")
        return
    for item in benchmarks:
        console.print(Text(f"{item.name}: {item.title}", style="bold"))
        console.print(Text(f"modes: {', '.join(item.modes)}" if item.modes else "no modes"))
        console.print(Text(f"protocol: {item.protocol}"))
        console.print(Text("files under --data-root:"))
        for path in layout(item):
            console.print(Text(f"  {path}"))
        _print_published(console, item.published)


def _print_published(console: Console, published: Sequence[Published]) -> None:
    from rich.table import Table

    if not published:
        return
    table = Table("published", "figures (%)", "source", "remark")
    for result in published:
        figures = ", ".join(f"{name} {value:g}" for name, value in result.figures.items())
        table.add_row(result.model, figures, result.source, result.remark)
    console.print(table)


def print_benchmark(
    benchmark: Benchmark, summary: Mapping[str, Any], parts: Mapping[str, Evaluation]
) -> None:
    """A benchmark's own table, then the protocol and the published numbers."""
    from rich.console import Console
    from rich.text import Text

    from boxrl.cli.evaluate import print_evaluation
    from boxrl.cli.tables import format_number, new_table, print_protocol

    console = Console(highlight=False)
    if len(parts) == 1 and benchmark.reader != "d3":
        print_evaluation(next(iter(parts.values())).metrics)
    else:
        table = new_table(f"{benchmark.name}: {benchmark.title}", "", "figure", "value")
        for name, figure, value in _leaves(summary):
            table.add_row(name, figure, format_number(value))
        console.print(table)
        print_protocol(console, next(iter(parts.values())).metrics["protocol"])
    console.print(Text(f"protocol of {benchmark.name}: {benchmark.protocol}", style="dim"))
    _print_published(console, benchmark.published)


def _leaves(summary: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, str, Any]]:
    """(where, figure, value) of every number in nested figures."""
    for key, value in summary.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name} {key}".strip())
        else:
            yield name, key, value
