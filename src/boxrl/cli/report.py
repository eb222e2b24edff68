"""`boxrl report`: a run as one HTML page, or several side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from boxrl.cli.options import add_shown_images, integer
from boxrl.cli.parser import add_command
from boxrl.errors import UsageError
from boxrl.guard.outputs import check_outputs


def add_verb(verbs: Any) -> None:
    """Declare `boxrl report`."""
    verb = add_command(
        verbs, "report", "write a run, or several side by side, as one page",
        example="boxrl report runs/train-grpo",
    )  # fmt: skip
    verb.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder")
    verb.add_argument(
        "--out", type=Path, metavar="FILE.html",
        help="page to write (default: RUN/report.html, or ./report.html for several runs)",
    )  # fmt: skip
    add_shown_images(verb)
    verb.add_argument(
        "--export", type=Path, metavar="DIR",
        help="also write each evaluation as a COCO pair and a CSV (one run)",
    )  # fmt: skip
    verb.add_argument(
        "--live", action="store_true", help="serve the page on this machine while the run goes on"
    )
    verb.add_argument(
        "--port", type=integer(0), default=0, metavar="N", help="port of --live; 0 takes a free one"
    )
    verb.set_defaults(run=run_report)


def run_report(args: argparse.Namespace) -> None:
    """Write the page of a run, or the comparison of several."""
    from boxrl.guard.texts import visible
    from boxrl.report import build_comparison, build_report

    alone = len(args.runs) == 1
    if (args.export or args.live) and not alone:
        raise UsageError(f"{'--live' if args.live else '--export'} takes one run")
    if args.live:
        serve_live(args.runs[0], args.port, args.images)
        return
    out = args.out or (args.runs[0] if alone else Path()) / "report.html"
    check_outputs([(out, "page")], args.runs)
    if alone:
        missing = build_report(args.runs[0], out, images=args.images)
    else:
        missing = build_comparison(args.runs, out, args.images)
    for line in missing:
        print(f"note: {visible(line)}", file=sys.stderr)
    print(f"report: {out}")
    if args.export:
        from boxrl.report.exports import export_run

        for path in export_run(args.runs[0], args.export):
            print(f"export: {path}")


def serve_live(run_dir: Path, port: int, images: Path | None) -> None:
    """Serve the run's page until interrupted."""
    from boxrl.guard.pages import HOST
    from boxrl.report.live import serve

    try:
        with serve(run_dir, port, images) as server:
            print(f"report: http://{HOST}:{server.server_port}/   (Ctrl-C ends it)", flush=True)
            server.serve_forever()
    except OSError as error:
        raise UsageError(f"port {port}: {error.strerror}; choose another --port") from error
