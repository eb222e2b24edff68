"""Quickstart runs -> the table of docs/quickstart.md, three rows of it in the README, the picture.

    python perf/quickstart_table.py runs/seed0 runs/seed1 runs/seed2

The first run fills docs/quickstart.md, README.md and docs/images/before_after.png; all of them are
printed as one Markdown table, for docs/log.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from boxrl.evaluate.summary import HEADLINE_METRICS, look_up
from boxrl.report.draw import draw_before_after

ROOT = Path(__file__).parents[1]
PAGE, README = ROOT / "docs" / "quickstart.md", ROOT / "README.md"
TABLE = ("<!-- quickstart table: begin -->", "<!-- quickstart table: end -->")
ROWS = ("<!-- quickstart rows: begin -->", "<!-- quickstart rows: end -->")
SHOWN = ("mAP", "f1", "negatives.accuracy")
"""Of the README's three rows."""

WAYS = ("greedy", "sampled")


def read_differences(run: Path, how: str) -> dict[str, Any]:
    """{figure: {a, b, difference, low, high}} of the run's pair."""
    compared = json.loads((run / "compare.json").read_text("utf-8"))
    metrics: dict[str, Any] = compared[f"before_{how}|after_{how}"]["metrics"]
    return metrics


def render_table(run: Path) -> str:
    """Greedy and sampled, before and after, with the paired interval and the blind baseline."""
    metrics = json.loads((run / "evals" / "before_greedy" / "metrics.json").read_text("utf-8"))
    blind = metrics["blind"]
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
            cells += [
                f"{row['a']:.{digits}f}",
                f"**{row['b']:.{digits}f}**",
                f"{row['difference']:+.{digits}f} "
                f"[{row['low']:+.{digits}f}, {row['high']:+.{digits}f}]",
            ]
        unseen = look_up(blind, metric.key)
        cells.append("" if unseen is None else f"{unseen:.{digits}f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def render_rows(table: str) -> str:
    """The README's rows of the table: greedy and the blind baseline."""
    names = [metric.name for metric in HEADLINE_METRICS if metric.key in SHOWN]
    lines = ["| | before | after | difference [95 %] | blind |", "|" + "---|" * 5]
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in names:
            lines.append(f"| {' | '.join([*cells[:4], cells[-1]])} |")
    return "\n".join(lines)


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
    """Rewrite both tables and the picture, print the table over seeds."""
    runs = [Path(name) for name in sys.argv[1:]]
    table = render_table(runs[0])
    write_between(PAGE, TABLE, table)
    write_between(README, ROWS, render_rows(table))
    draw_before_after(runs[0], ROOT / "docs" / "images" / "before_after.png")
    print(render_seed_table(runs))


if __name__ == "__main__":
    main()
