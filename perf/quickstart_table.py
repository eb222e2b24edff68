"""Quickstart runs -> the tables of docs/quickstart.md, rows of them in the README, the picture.

    boxrl quickstart --out runs/seed0 --seed 0            and so on, at least two seeds
    boxrl evaluate ... --out runs/seed0-taught            `tiny-taught` on the same held-out scenes
    boxrl evaluate ... --out runs/seed0-sft               recipes/quickstart.yaml with method=sft
    python perf/quickstart_table.py runs/seed0 runs/seed1 runs/seed2

All runs together fill the first table of docs/quickstart.md and README.md, the first run alone the
second one and docs/images/before_after.png; a line per run is printed for docs/log.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from boxrl.evaluate.summary import HEADLINE_METRICS, Metric, look_up
from boxrl.experiments.statistics import mean_interval
from boxrl.report.draw import draw_before_after

ROOT = Path(__file__).parents[1]
PAGE, README = ROOT / "docs" / "quickstart.md", ROOT / "README.md"
TABLE = ("<!-- quickstart table: begin -->", "<!-- quickstart table: end -->")
POOLED = ("<!-- quickstart seeds: begin -->", "<!-- quickstart seeds: end -->")
ROWS = ("<!-- quickstart rows: begin -->", "<!-- quickstart rows: end -->")
SHOWN = ("mAP", "f1", "recall@0.5", "negatives.accuracy")
"""Of the README's rows."""

WAYS = ("greedy", "sampled")


def read_differences(run: Path, how: str) -> dict[str, Any]:
    """{figure: {a, b, difference, low, high}} of the run's pair."""
    compared = json.loads((run / "compare.json").read_text("utf-8"))
    metrics: dict[str, Any] = compared[f"before_{how}|after_{how}"]["metrics"]
    return metrics


def read_metrics(folder: Path) -> dict[str, Any]:
    """metrics.json of an evaluation."""
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text("utf-8"))
    return metrics


def render_pooled(runs: list[Path]) -> str:
    """Greedy answers over all seeds, with what the start was made from, SFT, and blindness."""
    before, after = (
        [read_metrics(run / "evals" / f"{when}_greedy") for run in runs]
        for when in ("before", "after")
    )
    sft, taught = (
        [read_metrics(run.with_name(f"{run.name}-{what}")) for run in runs]
        for what in ("sft", "taught")
    )
    lines = [
        "| | before | after GRPO | difference [95 %] | SFT instead | without the faults | blind |",
        "|" + "---|" * 7,
    ]
    for metric in HEADLINE_METRICS:
        rows = [[look_up(metrics, metric.key) for metrics in found] for found in (before, after)]
        change = mean_interval([b - a for a, b in zip(*rows, strict=True)])
        assert change is not None and change.low is not None and change.high is not None
        sign = f"+.{metric.digits}f"
        moved = change.low > 0 or change.high < 0
        others = (sft, taught, [metrics["blind"] for metrics in before])
        cells = [
            metric.name,
            _mean(before, metric),
            f"**{_mean(after, metric)}**" if moved else _mean(after, metric),
            f"{change.mean:{sign}} [{change.low:{sign}}, {change.high:{sign}}]",
            *(_mean(found, metric) for found in others),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean(found: list[dict[str, Any]], metric: Metric) -> str:
    """The metric's mean over seeds; empty where it is not defined."""
    values = [look_up(metrics, metric.key) for metrics in found]
    known = [value for value in values if value is not None]
    return f"{fmean(known):.{metric.digits}f}" if known else ""


def render_table(run: Path) -> str:
    """Greedy and sampled, before and after, with the paired interval and the blind baseline."""
    blind = read_metrics(run / "evals" / "before_greedy")["blind"]
    tables = {how: read_differences(run, how) for how in WAYS}
    lines = [
        "| | greedy: before | after | difference [95 %] "
        "| sampled: before | after | difference [95 %] | blind |",
        "|" + "---|" * 8,
    ]
    for metric in HEADLINE_METRICS:
        digits = metric.digits
        cells = [metric.name]
        for table in tables.values():
            row = table[metric.key]
            after = f"{row['b']:.{digits}f}"
            cells += [
                f"{row['a']:.{digits}f}",
                after if row["low"] <= 0 <= row["high"] else f"**{after}**",
                f"{row['difference']:+.{digits}f} "
                f"[{row['low']:+.{digits}f}, {row['high']:+.{digits}f}]",
            ]
        unseen = look_up(blind, metric.key)
        cells.append("" if unseen is None else f"{unseen:.{digits}f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def render_rows(table: str) -> str:
    """The README's rows of the table over all seeds."""
    names = [metric.name for metric in HEADLINE_METRICS if metric.key in SHOWN]
    head, rule, *rows = table.splitlines()
    shown = [row for row in rows if row.split("|")[1].strip() in names]
    return "\n".join([head, rule, *shown])


def read_between(page: Path, marks: tuple[str, str]) -> str:
    """What stands between two marks of a page."""
    return page.read_text("utf-8").partition(marks[0])[2].partition(marks[1])[0].strip()


def write_between(page: Path, marks: tuple[str, str], content: str) -> None:
    """Replace what stands between two marks of a page."""
    before, _, rest = page.read_text("utf-8").partition(marks[0])
    after = rest.partition(marks[1])[2]
    page.write_text(f"{before}{marks[0]}\n{content}\n{marks[1]}{after}", "utf-8")


def render_seed_table(runs: list[Path]) -> str:
    """One line per run and way: before -> after [interval of the difference]."""
    head = ["run", "", *(metric.name for metric in HEADLINE_METRICS)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for run in runs:
        for how in WAYS:
            table = read_differences(run, how)
            cells = [run.name, how]
            for metric in HEADLINE_METRICS:
                row = table[metric.key]
                a, b, low, high = (
                    f"{row[k]:{sign}.{metric.digits}f}"
                    for k, sign in (("a", ""), ("b", ""), ("low", "+"), ("high", "+"))
                )
                cells.append(f"{a} → {b} [{low}, {high}]")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Rewrite the tables and the picture, print a line per run and way."""
    runs = [Path(name) for name in sys.argv[1:]]
    pooled = render_pooled(runs)
    write_between(PAGE, POOLED, pooled)
    write_between(README, ROWS, render_rows(pooled))
    write_between(PAGE, TABLE, render_table(runs[0]))
    draw_before_after(runs[0], ROOT / "docs" / "images" / "before_after.png")
    print(render_seed_table(runs))


if __name__ == "__main__":
    main()
