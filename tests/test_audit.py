"""`.ci/audit.py`: a finding fails, and silence is not taken for a clean bill."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

AUDIT = runpy.run_path(str(Path(__file__).parents[1] / ".ci" / "audit.py"))

CLEAN = {"name": "numpy", "version": "2.3.0", "vulns": []}
FAULTY = {
    "name": "jinja2",
    "version": "2.11.2",
    "vulns": [{"id": "PYSEC-2021-66", "fix_versions": ["2.11.3"]}, {"id": "X", "fix_versions": []}],
}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("rows", "status", "told"),
    [
        ([CLEAN, UNKNOWN], 0, ["audit: 1 of 2 packages checked, known vulnerabilities: 0"]),
        ([UNKNOWN], 0, ["audit: nothing was checked; the index knows none of 1 packages"]),
        ("no database", 0, ["audit: nothing was checked; no database"]),
        (
            [CLEAN, FAULTY],
            1,
            [
                "audit: jinja2 2.11.2: PYSEC-2021-66, mended in 2.11.3",
                "audit: jinja2 2.11.2: X, mended in no version yet",
                "audit: 2 of 2 packages checked, known vulnerabilities: 2",
            ],
        ),
    ],
)
def test_a_finding_fails_and_silence_is_told(
    rows: list[dict[str, Any]] | str, status: int, told: list[str]
) -> None:
    assert AUDIT["judge"](rows) == (status, "\n".join(told))
