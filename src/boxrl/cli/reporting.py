"""Verbs that show what happened: report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_verbs(verbs: Any) -> None:
    """Declare the verbs of this module."""
    report = verbs.add_parser("report", help="a run folder as one HTML page")
    report.add_argument("run_dir", type=Path, metavar="RUN", help="run folder")
    report.add_argument(
        "--out", type=Path, metavar="FILE.html", help="the page; RUN/report.html by default"
    )
    report.set_defaults(run=run_report)


def run_report(args: argparse.Namespace) -> None:
    """Write the page of a run."""
    from boxrl.report import build_report

    out = args.out or args.run_dir / "report.html"
    build_report(args.run_dir, out)
    print(f"report: {out}")
