"""Figures as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from boxrl.benchmarks import Benchmark, Published
from boxrl.benchmarks.samples import layout
from boxrl.evaluate.evaluation import Evaluation
from boxrl.evaluate.figures import FIGURES, look_up

MAX_LABELS = 20
"""Rows of the table by label; the others are in the JSON."""


def print_evaluation(metrics: Mapping[str, Any]) -> None:
    """Headline figures beside the blind policy and the controls, by size and label, protocol."""
    console = Console(highlight=False)
    others = {"blind policy": metrics["blind"]}
    others |= {f"{c['control']}": c for c in metrics.get("controls", ())}
    table = _table(f"{metrics['n']} samples", "figure", "value", "95 % interval", *others)
    for figure in FIGURES:
        value = look_up(metrics, figure.key)
        if value is not None:
            span = _span(metrics["intervals"].get(figure.key))
            beside = [_number(look_up(other, figure.key)) for other in others.values()]
            table.add_row(figure.name, _number(value), span, *beside)
    console.print(table)
    _print_status(console, metrics["parse"])
    _print_errors(console, metrics.get("errors"))
    _print_labels(console, metrics["per_label"])
    for policy in others.values():
        if policy.get("told_apart"):
            apart = policy["told_apart"]["told_apart"]
            console.print(policy["told_apart"]["words"], style="" if apart else "bold red")
    print_protocol(console, metrics["protocol"])


def print_coco(figures: Mapping[str, Any]) -> None:
    """COCO's statistics, with NMS-AP in a column of its own."""
    console = Console(highlight=False)
    thinned = figures.get("nms_ap")
    table = _table("", "statistic", "AP", *(["NMS-AP"] if thinned else []))
    for name, value in figures.items():
        if name not in ("nms_ap", "protocol", "kept", "total"):
            table.add_row(name, _number(value), *([_number(thinned[name])] if thinned else []))
    console.print(table)
    if thinned:
        console.print(f"NMS-AP keeps {figures['kept']} of {figures['total']} boxes")
    print_protocol(console, figures["protocol"])


def print_comparison(difference: Mapping[str, Any], names: Sequence[str]) -> None:
    """Differences of two runs; in red what makes them hard to compare."""
    console = Console(highlight=False)
    for key, (a, b) in difference["protocol_differs"].items():
        console.print(f"protocol differs: {key} is {a!r} and {b!r}", style="bold red")
    columns = ("a", "b", "b - a", "95 % interval", "better\n: worse", "p")
    table = _table(f"{difference['n']} samples; p of the sign test", "figure", *columns)
    for figure in FIGURES:
        row = difference["metrics"].get(figure.key)
        if row is None:
            continue
        table.add_row(
            figure.name,
            _number(row["a"]),
            _number(row["b"]),
            _number(row["difference"], "+"),
            _span((row["low"], row["high"]), "+"),
            *_sign_test(row),
        )
    console.print(table)
    for letter, name in zip("ab", names, strict=True):
        console.print(Text(f"{letter} = {name}"))
    for what, ids in difference["flipped"].items():
        some = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
        console.print(Text(f"{what}: {len(ids)} samples" + (f" ({some})" if ids else "")))
    print_protocol(console, difference["protocol"])


def _sign_test(row: Mapping[str, Any]) -> tuple[str, str]:
    """(better : worse, p) in words; "-" for a figure of which more is neither."""
    if row["p_sign"] is None:
        return "-", "-"
    p = row["p_sign"]
    return f"{row['better']} : {row['worse']}", "<0.001" if p < 0.001 else f"{p:.3f}"


def print_benchmarks(benchmarks: Sequence[Benchmark], detailed: bool) -> None:
    """What there is; `detailed` adds layout, protocol and every published number."""
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
    console = Console(highlight=False)
    if len(parts) == 1 and benchmark.reader != "d3":
        print_evaluation(next(iter(parts.values())).metrics)
    else:
        table = _table(f"{benchmark.name}: {benchmark.title}", "", "figure", "value")
        for name, figure, value in _leaves(summary):
            table.add_row(name, figure, _number(value))
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


def print_protocol(console: Console, protocol: Mapping[str, Any]) -> None:
    """How the numbers came about, a line per item that is known."""
    for key, value in protocol.items():
        if isinstance(value, Mapping):
            known = (f"{name} {item}" for name, item in value.items() if item is not None)
            value = ", ".join(known)
        if value is not None:
            console.print(Text(f"{key}: {value}", style="dim"))


def _print_status(console: Console, parse: Mapping[str, float | None]) -> None:
    known = {status: rate for status, rate in parse.items() if rate is not None}
    if known:
        console.print("answers: " + ", ".join(f"{s} {r:.1%}" for s, r in known.items() if r))


def _print_errors(console: Console, errors: Mapping[str, Any] | None) -> None:
    if not errors:
        return
    table = _table("TIDE errors at IoU 0.5", "error", "AP50 lost", "boxes")
    for name, lost in errors["AP50_lost"].items():
        table.add_row(name, _number(lost), f"{errors['counts'][name]}")
    console.print(table)
    if errors["AP50_lost"]["missed"] is None:
        console.print("AP50 is 0, so TIDE cannot weigh what is missed")


def _print_labels(console: Console, labels: Mapping[str, Mapping[str, Any]]) -> None:
    with_targets = [(name, row) for name, row in labels.items() if row["targets"]]
    if not with_targets:
        return
    with_targets.sort(key=lambda item: -item[1]["targets"])
    table = _table("by label", "label", "AP", "AP50", "targets", "predictions")
    for name, row in with_targets[:MAX_LABELS]:
        numbers = f"{row['targets']}", f"{row['predictions']}"
        table.add_row(Text(name), _number(row["AP"]), _number(row["AP50"]), *numbers)
    console.print(table)
    if len(with_targets) > MAX_LABELS:
        console.print(f"and {len(with_targets) - MAX_LABELS} labels more; --json has them all")


def _table(title: str, first: str, *numbers: str) -> Table:
    """A table whose numbers stay on one line at 80 columns; the first column gives way."""
    table = Table(
        title=title or None,
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column(first)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _number(value: float | None, sign: str = "") -> str:
    """Three decimals for rates, one for larger figures such as tokens, none for counts."""
    if value is None:
        return "-"
    digits = 0 if isinstance(value, int) else 3 if abs(value) < 10 else 1
    return f"{value:{sign}.{digits}f}"


def _span(ends: Sequence[float] | None, sign: str = "") -> str:
    return f"{_number(ends[0], sign)} to {_number(ends[1], sign)}" if ends else ""
