"""Quickstart runs -> the table and picture of the README, and a table over seeds.

    python perf/quickstart_table.py runs/seed0 runs/seed1 runs/seed2

The first run fills README.md and docs/images/before_after.png; all of them are printed as one
Markdown table, for docs/log.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from boxrl.evaluate.figures import HEADLINES, look_up
from boxrl.report.draw import draw_before_after

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- quickstart table: begin -->", "<!-- quickstart table: end -->"
WAYS = ("greedy", "sampled")


def read_differences(run: Path, how: str) -> dict[str, Any]:
    """{figure: {a, b, difference, low, high}} of the run's pair."""
    compared = json.loads((run / "compare.json").read_text("utf-8"))
    metrics: dict[str, Any] = compared[f"before_{how}|after_{how}"]["metrics"]
    return metrics


def render_readme_table(run: Path) -> str:
    """Greedy and sampled, before and after, with the paired interval and the blind policy."""
    metrics = json.loads((run / "evals" / "before_greedy" / "metrics.json").read_text("utf-8"))
    blind = metrics["blind"]
    tables = {how: read_differences(run, how) for how in WAYS}
    lines = [
        "| | greedy: before | after | difference [95 %] "
        "| sampled: before | after | difference [95 %] | blind |",
        "|" + "---|" * 8,
    ]
    for figure in HEADLINES:
        digits = figure.digits
        cells = [figure.name]
        for table in tables.values():
            row = table[figure.key]
            cells += [
                f"{row['a']:.{digits}f}",
                f"**{row['b']:.{digits}f}**",
                f"{row['difference']:+.{digits}f} "
                f"[{row['low']:+.{digits}f}, {row['high']:+.{digits}f}]",
            ]
        unseen = look_up(blind, figure.key)
        cells.append("" if unseen is None else f"{unseen:.{digits}f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def render_seed_table(runs: list[Path]) -> str:
    """One line per run and way: before -> after [interval of the difference]."""
    head = ["run", "", *(figure.name for figure in HEADLINES)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for run in runs:
        for how in WAYS:
            table = read_differences(run, how)
            cells = [run.name, how]
            for figure in HEADLINES:
                row = table[figure.key]
                a, b, low, high = (
                    f"{row[k]:{sign}.{figure.digits}f}"
                    for k, sign in (("a", ""), ("b", ""), ("low", "+"), ("high", "+"))
                )
                cells.append(f"{a} → {b} [{low}, {high}]")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Rewrite the README's table and picture, print the table over seeds."""
    runs = [Path(name) for name in sys.argv[1:]]
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    table = render_readme_table(runs[0])
    readme.write_text(f"{text[:start]}\n{table}\n{text[end:]}", "utf-8")
    draw_before_after(runs[0], ROOT / "docs" / "images" / "before_after.png")
    print(render_seed_table(runs))


if __name__ == "__main__":
    main()
