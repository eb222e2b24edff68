"""Run the fault campaign: its records go to docs/reliability.csv, sums to docs/reliability.md.

python perf/faults.py                   the whole campaign
python perf/faults.py RECORDS.jsonl     from records that a run kept:
                                              BOXRL_FAULTS=RECORDS.jsonl pytest -m slow tests/faults
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
DATA = PAGE.with_suffix(".csv")
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
COLUMNS = ("fault", "verb", "how", "times", "lost", "of", "unit", "saw", "commit", "machine")
COUNTS = ("times", "lost", "of")
LONGEST, EXAMPLE = 200, 90
"""Characters of what the user saw: in the data, and on the page."""

Row = dict[str, Any]


def run_campaign(records: Path) -> None:
    """Every fault, one after the other; stops where a test fails."""
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-q", "-m", "slow", "tests/faults"]
    environment = os.environ | {"BOXRL_FAULTS": str(records), "OMP_NUM_THREADS": "1"}
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        raise SystemExit("the campaign failed; data and page stay as they are")


def merge_records(path: Path, machine: str) -> list[Row]:
    """What `tests/faults/campaign.py` wrote, one row for each (fault, verb, how)."""
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    groups = group_rows(records, lambda row: (row["fault"], row["verb"], row["how"]))
    merged = []
    for _, rows in sorted(groups.items()):
        sums = {key: sum(row[key] for row in rows) for key in COUNTS}
        saw = shorten(re.sub("[━╸]+", " ", rows[-1]["saw"]), LONGEST)  # no progress bar
        merged.append(rows[-1] | sums | {"saw": saw, "machine": machine})
    return merged


def group_rows(rows: Iterable[Row], key: Callable[[Row], Hashable]) -> dict[Any, list[Row]]:
    """Rows of equal keys, in their order."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def shorten(text: str, longest: int) -> str:
    """Whole words, at most so many characters."""
    return textwrap.shorten(text, longest, placeholder=" ...")


def write_data(rows: Sequence[Row]) -> None:
    """The rows as CSV."""
    with DATA.open("w", encoding="utf-8", newline="") as handle:
        table = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def read_data() -> list[Row]:
    """The rows of the CSV."""
    with DATA.open(encoding="utf-8", newline="") as handle:
        return [row | {key: int(row[key]) for key in COUNTS} for row in csv.DictReader(handle)]


def render_table(rows: Sequence[Row]) -> str:
    """A sentence of sums, a line for each kind of fault, and where it was measured."""
    kinds = group_rows(rows, lambda row: row["fault"])
    lost, times = (sum(row[key] for row in rows) for key in ("lost", "times"))
    lines = [f"{times:,} faults of {len(kinds)} kinds were injected; {lost:,} things were lost."]
    lines += ["", "| fault | into | times | lost | what the user saw, in one case |"]
    lines += ["|---|---|---:|---:|---|"]
    lines += [render_kind(kind, rows) for kind, rows in sorted(kinds.items())]
    places = sorted({f"{row['machine']}; commit {row['commit']}" for row in rows})
    return "\n".join([*lines, "", f"*{'. '.join(places)}.*"])


def render_kind(kind: str, rows: Sequence[Row]) -> str:
    """One line of the table; of what was seen, the error of the case that was tried most."""
    lost, times = (sum(row[key] for row in rows) for key in ("lost", "times"))
    verbs = sorted({verb.split(" --")[0] for row in rows for verb in row["verb"].split(", ")})
    into = verbs[0] if len(verbs) == 1 else f"{len(verbs)} verbs"
    told = [row for row in rows if row["saw"].startswith("boxrl: ")] or rows
    saw = shorten(max(told, key=lambda row: row["times"])["saw"], EXAMPLE)
    saw = saw.replace("`", "'").replace("|", "\\|")
    return f"| {kind} | {into} | {times:,} | {lost:,} | {f'`{saw}`' if saw else ''} |"


def render_page() -> str:
    """The page as it stands, with the table of the data."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{render_table(read_data())}\n\n{END}{after}"


def main() -> None:
    """Run the campaign where no records are named; write data and page."""
    from run_all import describe_machine

    with tempfile.TemporaryDirectory() as folder:
        records = Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/records.jsonl")
        if len(sys.argv) == 1:
            run_campaign(records)
        write_data(merge_records(records, describe_machine()))
    PAGE.write_text(render_page(), "utf-8")


if __name__ == "__main__":
    main()
