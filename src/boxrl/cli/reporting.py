"""Verbs that show what happened: report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from boxrl.errors import UsageError


def add_verbs(verbs: Any) -> None:
    """Declare the verbs of this module."""
    report = verbs.add_parser("report", help="a run as one HTML page, or several side by side")
    report.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    report.add_argument(
        "--out",
        type=Path,
        metavar="FILE.html",
        help="the page; RUN/report.html by default, ./report.html for several runs",
    )
    report.add_argument(
        "--export",
        type=Path,
        metavar="DIR",
        help="also write a COCO pair and a CSV of each evaluation (one run)",
    )
    report.set_defaults(run=run_report)


def run_report(args: argparse.Namespace) -> None:
    """Write the page of a run, or the comparison of several."""
    from boxrl.report import build_comparison, build_report

    alone = len(args.runs) == 1
    if args.export and not alone:
        raise UsageError("--export takes one run")
    out = args.out or (args.runs[0] if alone else Path()) / "report.html"
    if alone:
        build_report(args.runs[0], out)
    else:
        build_comparison(args.runs, out)
    print(f"report: {out}")
    if args.export:
        from boxrl.report.exports import export_run

        for path in export_run(args.runs[0], args.export):
            print(f"export: {path}")
