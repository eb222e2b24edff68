"""Run the fault campaign and rewrite the table of docs/reliability.md from its own records.

python perf/faults.py                   the whole campaign, then the page
python perf/faults.py RECORDS.jsonl     the page alone, from records that a run kept:
                                              BOXRL_FAULTS=RECORDS.jsonl pytest -m slow tests/faults
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from run_all import describe_machine

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
LONGEST = 200
"""Characters of what the user saw."""


def run_campaign(records: Path) -> None:
    """Every fault, one after the other; stops where a test fails."""
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-q", "-m", "slow", "tests/faults"]
    environment = os.environ | {"BOXRL_FAULTS": str(records), "OMP_NUM_THREADS": "1"}
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        raise SystemExit("the campaign failed; the page stays as it is")


def read_records(path: Path) -> list[dict[str, Any]]:
    """Rows that `tests/faults/campaign.py` wrote."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def render_tables(records: list[dict[str, Any]]) -> str:
    """A sentence of sums, then one table per kind of fault."""
    lost, times = (sum(row[key] for row in records) for key in ("lost", "times"))
    commits = ", ".join(dict.fromkeys(row["commit"] for row in records))
    kinds = sorted({row["fault"] for row in records})
    lines = [f"{times:,} faults of {len(kinds)} kinds were injected; {lost:,} things were lost."]
    for kind in kinds:
        lines += ["", f"## {kind[0].upper()}{kind[1:]}", ""]
        lines += ["| verb | what was done | times | lost | what the user saw |"]
        lines += ["|---|---|---:|---|---|"]
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in records:
            if row["fault"] == kind:
                groups.setdefault((row["verb"], row["how"]), []).append(row)
        lines += [render_row(*key, rows) for key, rows in sorted(groups.items())]
    return "\n".join([*lines, "", f"*{describe_machine()}; commits {commits}.*"])


def render_row(verb: str, how: str, rows: list[dict[str, Any]]) -> str:
    """One line of a table: how often, what was lost of how many, the last line that was printed."""
    lost, of, times = (sum(row[key] for row in rows) for key in ("lost", "of", "times"))
    bar = re.compile(" *[━╸]+ *")
    saw = bar.sub(" ", rows[-1]["saw"]).replace("`", "'").replace("|", "\\|")
    saw = saw if len(saw) <= LONGEST else f"{saw[:LONGEST]} ..."
    told = f"`{saw}`" if saw else ""
    return f"| {verb} | {how} | {times:,} | {lost:,} of {of:,} {rows[0]['unit']} | {told} |"


def main() -> None:
    """Run the campaign where no records are named, and write the page."""
    if len(sys.argv) > 1:
        records = read_records(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            run_campaign(Path(folder) / "records.jsonl")
            records = read_records(Path(folder) / "records.jsonl")
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{render_tables(records)}\n\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
