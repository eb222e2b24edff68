"""Known vulnerabilities of pinned versions; exit status 1 where there is one.

python .ci/audit.py constraints.txt     pip-audit is installed beside this Python

pip-audit exits 0 where the index knows none of the packages, and 1 both where it finds something
and where nobody answers. Its report tells these apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PATIENCE_S = 300


def ask(pins: Path) -> list[dict[str, Any]] | str:
    """The report of pip-audit, a row per package, or why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            *(sys.executable, "-m", "pip_audit", "--requirement", str(pins), "--no-deps"),
            *("--disable-pip", "--progress-spinner", "off"),
            *("--format", "json", "--output", str(report)),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            return f"no answer within {PATIENCE_S} s"
        if report.is_file():
            rows: list[dict[str, Any]] = json.loads(report.read_text("utf-8"))["dependencies"]
            return rows
        return (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]


def judge(rows: list[dict[str, Any]] | str) -> tuple[int, str]:
    """Exit status, and what to say: a line per finding, else one."""
    if isinstance(rows, str):
        return 0, f"audit: nothing was checked; {rows}"
    checked = [row for row in rows if "skip_reason" not in row]
    if not checked:
        return 0, f"audit: nothing was checked; the index knows none of {len(rows)} packages"
    found = [
        f"audit: {row['name']} {row['version']}: {item['id']}, "
        f"mended in {', '.join(item['fix_versions']) or 'no version yet'}"
        for row in checked
        for item in row["vulns"]
    ]
    sums = f"{len(checked)} of {len(rows)} packages checked, known vulnerabilities: {len(found)}"
    return int(bool(found)), "\n".join([*found, f"audit: {sums}"])


def main() -> int:
    """Ask about the file that the command line names."""
    status, told = judge(ask(Path(sys.argv[1])))
    print(told)
    return status


if __name__ == "__main__":
    sys.exit(main())
