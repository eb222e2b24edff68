"""`boxrl report`: a run as one HTML page, or several side by side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from boxrl.errors import UsageError


def add_verb(verbs: Any) -> None:
    """Declare `boxrl report`."""
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
    report.add_argument(
        "--live", action="store_true", help="serve the page on loopback; it follows the run"
    )
    report.add_argument("--port", type=int, default=0, metavar="N", help="of --live; a free one")
    report.set_defaults(run=run_report)


def run_report(args: argparse.Namespace) -> None:
    """Write the page of a run, or the comparison of several."""
    from boxrl.report import build_comparison, build_report

    alone = len(args.runs) == 1
    if (args.export or args.live) and not alone:
        raise UsageError(f"{'--live' if args.live else '--export'} takes one run")
    if args.live:
        serve_live(args.runs[0], args.port)
        return
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


def serve_live(run_dir: Path, port: int) -> None:
    """Serve the run's page until interrupted."""
    from boxrl.report.live import HOST, serve

    try:
        with serve(run_dir, port) as server:
            print(f"report: http://{HOST}:{server.server_port}/   (Ctrl-C ends it)", flush=True)
            server.serve_forever()
    except OSError as error:
        raise UsageError(f"port {port}: {error.strerror}; choose another --port") from error
