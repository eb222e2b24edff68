"""`benchmark list` and `benchmark run`: from a model and an archive to a table, in one command."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxrl.cli.options import (
    RESAMPLES,
    Input,
    add_format,
    add_json,
    add_limits,
    add_price,
    add_ranking,
    add_thinking,
    chosen_format,
    integer,
    print_json,
)
from boxrl.cli.parser import add_command
from boxrl.cli.predict import add_answer_options, answer_options
from boxrl.errors import UsageError, tally
from boxrl.guard.outputs import check_outputs

if TYPE_CHECKING:
    from rich.console import Console

    from boxrl.benchmarks import Benchmark, Published
    from boxrl.benchmarks.outcome import Outcome
    from boxrl.engines.answers import AnswerOptions
    from boxrl.evaluate.tables import CitedTable, Format


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
    listing.set_defaults(run=list_benchmarks)
    run = add_command(
        actions, "run", "convert, predict, evaluate and report one benchmark",
        example="boxrl benchmark run coco --model models/Qwen2.5-VL-3B-Instruct "
        "--data-root data/coco --out runs/coco",
    )  # fmt: skip
    run.add_argument(
        "names", nargs="+", metavar="NAME",
        help="of boxrl benchmark list; several run one after the other, into one table",
    )  # fmt: skip
    run.add_argument("--model", metavar="MODEL", help="as for boxrl predict")
    run.add_argument(
        "--data-root", type=Input, required=True, action="append", metavar="DIR",
        help="folder with the files that boxrl benchmark list NAME shows; one for all benchmarks, "
        "or repeated, one each in their order",
    )  # fmt: skip
    run.add_argument(
        "--out", type=Path, required=True, metavar="DIR",
        help="run folder, of several benchmarks DIR/NAME each; rerun the same command to continue",
    )  # fmt: skip
    run.add_argument(
        "--mode", metavar="MODE",
        help="labels asked for: all, positive or one_box; of d3: intra or inter "
        "(default: the benchmark's first)",
    )  # fmt: skip
    run.add_argument(
        "--protocol", metavar="NAME",
        help="another protocol; of odinw13: qwen; of rf20vl and rf100vl: instructions",
    )  # fmt: skip
    run.add_argument(
        "--limit", type=integer(1), metavar="N", help="only the first N samples of each part"
    )
    run.add_argument(
        "--allow-missing", action="store_true",
        help="run the parts that are there where some are not",
    )  # fmt: skip
    run.add_argument(
        "--predictions", type=Input, metavar="FILE.jsonl",
        help="evaluate these predictions instead of running a model",
    )  # fmt: skip
    run.add_argument(
        "--detector", type=Input, action="append", default=[], metavar="FILE.json",
        help="a detector's COCO results on the same data, as a row of the table; repeatable",
    )  # fmt: skip
    run.add_argument(
        "--family", metavar="NAME",
        help="model family (default: read from the model's config.json or the predictions)",
    )  # fmt: skip
    add_limits(run)
    add_thinking(run)
    add_ranking(run)
    add_price(run)
    run.add_argument(
        "--resamples", type=integer(0), default=1000, metavar="N",
        help=f"{RESAMPLES}; 0: no intervals",
    )  # fmt: skip
    add_json(run)
    add_format(run)
    run.add_argument(
        "--predict-options", type=_predict_options, default="", metavar="TEXT",
        help='options of boxrl predict: --predict-options="--engine vllm --max-new-tokens 2048"',
    )  # fmt: skip
    run.set_defaults(run=run_all)


def list_benchmarks(args: argparse.Namespace) -> None:
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


def run_all(args: argparse.Namespace) -> None:
    """Convert, predict, evaluate, report; one benchmark after the other."""
    from boxrl.benchmarks import build_benchmark
    from boxrl.benchmarks.tables import describe, overview_table

    form = chosen_format(args)
    benchmarks = [build_benchmark(name) for name in dict.fromkeys(args.names)]
    roots = args.data_root * len(benchmarks) if len(args.data_root) == 1 else args.data_root
    if len(roots) != len(benchmarks):
        raise UsageError(f"{len(benchmarks)} benchmarks take 1 --data-root or one each, in order")
    if (args.predictions or args.detector) and len(benchmarks) > 1:
        raise UsageError("--predictions and --detector are of one benchmark; name one")
    several = len(benchmarks) > 1
    folders = [args.out / item.name if several else args.out for item in benchmarks]
    for folder, root in zip(folders, roots, strict=True):
        _check_outputs(folder, root)
    runs = zip(benchmarks, roots, folders, strict=True)
    outcomes = [_run_one(args, item, root, folder) for item, root, folder in runs]
    rivals = [_run_detector(args, benchmarks[0], roots[0], file) for file in args.detector]
    if args.json:
        contents = {outcome.benchmark.name: describe(outcome) for outcome in outcomes}
        print_json(contents if several else describe(outcomes[0]))
    elif form:
        _print_cited_tables(outcomes, rivals, form)
    else:
        for outcome, folder in zip(outcomes, folders, strict=True):
            print_benchmark(outcome)
            _print_end(outcome, folder)
        for rival in rivals:
            print_cited(overview_table([rival]))
        if several:
            print_cited(overview_table(outcomes))


def _print_cited_tables(
    outcomes: Sequence[Outcome], rivals: Sequence[Outcome], form: Format
) -> None:
    """The tables to cite, and on stderr what makes their figures doubtful."""
    from boxrl.benchmarks.tables import benchmark_table, overview_table
    from boxrl.evaluate.tables import render_tables

    several = len(outcomes) > 1
    shown = [overview_table(outcomes)] if several else []
    if not (several and form == "csv"):
        shown += [benchmark_table(outcome, rivals) for outcome in outcomes]
    print(render_tables(shown, form), end="")
    for outcome in (*outcomes, *rivals):
        for hint in part_hints(outcome):
            print(f"hint: {hint}", file=sys.stderr)


def _print_end(outcome: Outcome, out: Path) -> None:
    """The verdict of every part, what the benchmark is known by, and what to run next."""
    from rich.console import Console

    from boxrl.benchmarks.tables import headline
    from boxrl.cli.tables import print_next, print_verdict, shell
    from boxrl.evaluate.verdict import evaluation_verdict

    console = Console(highlight=False)
    for name, part in outcome.parts.items():
        said = evaluation_verdict(part.metrics)
        print_verdict(console, f"{name}: {said}" if len(outcome.parts) > 1 and said else said)
    print_verdict(console, headline(outcome))
    page = out / "report.html"
    print_next(console, f"open {page} in a browser", f"boxrl compare OTHER {shell(out)}")


def _check_outputs(folder: Path, root: Path) -> None:
    files = {"samples.jsonl": "samples", "benchmark.json": "benchmark", "run.json": "benchmark run"}
    outputs = [(folder / name, kind) for name, kind in files.items()]
    check_outputs([*outputs, (folder / "report.html", "page")], [root])


def _run_one(args: argparse.Namespace, benchmark: Benchmark, root: Path, out: Path) -> Outcome:
    from boxrl.benchmarks.run import run_benchmark
    from boxrl.report import build_report

    outcome = run_benchmark(
        benchmark,
        root,
        out,
        args.predictions or _answer_options(args),
        family=args.family,
        mode=args.mode,
        limit=args.limit,
        allow_missing=args.allow_missing,
        confidence=args.confidence,
        nms=args.nms,
        protocol=args.protocol,
        resamples=args.resamples,
        price=args.price,
        tell=partial(print, file=sys.stderr),
    )
    build_report(out, out / "report.html")
    return outcome


def _run_detector(args: argparse.Namespace, benchmark: Benchmark, root: Path, file: Path) -> Any:
    """The benchmark with a detector's results, in a run folder of its own."""
    from boxrl.benchmarks.run import run_benchmark

    return run_benchmark(
        benchmark, root, args.out / "detectors" / file.stem, file,
        mode=args.mode, limit=args.limit, nms=args.nms, resamples=args.resamples,
    )  # fmt: skip


def _answer_options(args: argparse.Namespace) -> AnswerOptions:
    """The model, asked as --predict-options says."""
    if args.model is None:
        raise UsageError("benchmark run needs --model, or --predictions to score")
    return answer_options(args.predict_options, args)


def _predict_options(text: str) -> argparse.Namespace:
    """What `answer_options` reads, from one text."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    add_answer_options(parser)
    try:
        found, unknown = parser.parse_known_args(shlex.split(text))
    except (ValueError, argparse.ArgumentError) as error:
        raise argparse.ArgumentTypeError(f"{error}, got {text!r:.80}") from error
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{' '.join(unknown):.80}: not an option of how a model is asked; samples, model, "
            "family and --limit are benchmark run's own"
        )
    return found


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
            numbers = tally(len(item.published), "result") if item.published else "-"
            table.add_row(item.name, item.title, ", ".join(item.modes) or "-", numbers)
        console.print(table)
        console.print("boxrl benchmark list NAME shows its files, protocol and published numbers")
        return
    for item in benchmarks:
        console.print(Text(f"{item.name}: {item.title}", style="bold"))
        console.print(Text(f"modes: {', '.join(item.modes)}" if item.modes else "no modes"))
        console.print(Text(f"protocol: {item.protocol}"))
        if item.protocols:
            console.print(Text(f"other protocols: {', '.join(item.protocols)}"))
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


def print_benchmark(outcome: Outcome) -> None:
    """A benchmark's result beside the published ones, its own table, and the protocol."""
    from rich.console import Console
    from rich.text import Text

    from boxrl.benchmarks.tables import overview_table
    from boxrl.cli.evaluate import print_evaluation
    from boxrl.cli.tables import new_table, print_hints, print_protocol

    console, benchmark = Console(highlight=False), outcome.benchmark
    if not outcome.table:
        print_evaluation(next(iter(outcome.parts.values())).metrics)
    else:
        shown = [
            (name, figure, figure_words(figure, value)) for name, figure, value in outcome.table
        ]
        columns, rows = figures_grid(shown)
        table = new_table(f"{benchmark.name}: all its figures, rates in percent", "", *columns)
        for name, values in rows:
            table.add_row(name, *values)
        console.print(table)
        print_hints(console, part_hints(outcome))
        print_protocol(console, outcome.protocol)
    console.print(Text(f"protocol of {benchmark.name}: {benchmark.protocol}", style="dim"))
    print_cited(overview_table([outcome]))
    _print_published(console, benchmark.published)


def part_hints(outcome: Outcome) -> list[str]:
    """What makes the figures of a benchmark's parts doubtful, or explains them."""
    several = len(outcome.parts) > 1
    return [
        f"{name}: {hint}" if several else hint
        for name, part in outcome.parts.items()
        for hint in part.metrics["hints"]
    ]


def figures_grid(
    figures: Sequence[tuple[str, str, Any]],
) -> tuple[list[str], list[tuple[str, list[Any]]]]:
    """The columns of a benchmark's own table, and its rows: (name, a value per column).

    Figures that every row has are columns, as OVDEval's; else parts of equal figures are, as D3's
    full, pres and abs; else there is a row per figure.
    """
    parts: dict[str, dict[str, Any]] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name, figure, value in figures:
        part, _, rest = name.partition(" ")
        parts.setdefault(part, {})[f"{rest} {figure}".strip()] = value
        rows.setdefault(name, {})[figure] = value
    if _are_alike(rows):
        return list(next(iter(rows.values()))), [(n, list(row.values())) for n, row in rows.items()]
    if _are_alike(parts):
        first = next(iter(parts.values()))
        return list(parts), [(row, [part[row] for part in parts.values()]) for row in first]
    return ["figure", "value"], [(name, [figure, value]) for name, figure, value in figures]


def _are_alike(groups: Mapping[str, Mapping[str, Any]]) -> bool:
    """Several groups of the same keys in the same order."""
    return len(groups) > 1 and len({tuple(group) for group in groups.values()}) == 1


def figure_words(figure: str, value: Any) -> str:
    """A rate in percent; a number per something else, a count or a name as it is.

    Scripts write -1 for a figure that is not there.
    """
    if value is None or value == -1:
        return "-"
    if not isinstance(value, float):
        return f"{value}"
    return f"{value:.2f}" if "_per_" in figure else f"{value * 100:.1f}"


def print_cited(cited: CitedTable) -> None:
    """A table to cite as the terminal shows it: one number per column, in percent."""
    from rich.console import Console

    from boxrl.cli.tables import new_table
    from boxrl.evaluate.tables import shown

    title = f"{cited.title}, rates in percent"
    table = new_table(title, cited.columns[0], *cited.columns[1:])
    for row in cited.rows:
        table.add_row(*map(shown, row))
    Console(highlight=False).print(table)
