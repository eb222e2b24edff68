"""`boxrl coco-eval`: a COCO results file to AP, NMS-AP or LVIS's federated AP."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from boxrl.cli.options import Input, add_json, print_json
from boxrl.cli.parser import add_command
from boxrl.errors import tally


def add_verb(verbs: Any) -> None:
    """Declare `boxrl coco-eval`."""
    verb = add_command(
        verbs, "coco-eval", "AP, AR and NMS-AP of a COCO results file",
        example="boxrl coco-eval --annotations instances_val.json --predictions results.json",
    )  # fmt: skip
    verb.add_argument(
        "--annotations", type=Input, required=True, metavar="FILE.json",
        help="COCO instances file with the ground truth",
    )  # fmt: skip
    verb.add_argument(
        "--predictions", type=Input, required=True, metavar="FILE.json",
        help="COCO results file: image_id, category_id, bbox, score per box",
    )  # fmt: skip
    rule = verb.add_mutually_exclusive_group()
    rule.add_argument(
        "--nms-ap", action="store_true", help="add NMS-AP, computed as OVDEval's script does"
    )
    rule.add_argument(
        "--lvis", action="store_true",
        help="federated AP of an LVIS file: each image counts for the categories looked for there",
    )  # fmt: skip
    add_json(verb)
    verb.set_defaults(run=run_coco_eval)


def run_coco_eval(args: argparse.Namespace) -> None:
    """Score a COCO results file."""
    from boxrl.evaluate.coco import evaluate_coco
    from boxrl.evaluate.lvis import evaluate_lvis

    if args.lvis:
        figures = evaluate_lvis(args.annotations, args.predictions)
    else:
        figures = evaluate_coco(args.annotations, args.predictions, nms_ap=args.nms_ap)
    if args.json:
        print_json(figures)
    else:
        print_coco(figures)


def print_coco(figures: Mapping[str, Any]) -> None:
    """COCO's statistics, with NMS-AP in a column of its own."""
    from rich.console import Console

    from boxrl.cli.tables import format_rate, new_table, print_protocol

    console = Console(highlight=False)
    thinned = figures.get("nms_ap")
    table = new_table("", "statistic", "AP", *(["NMS-AP"] if thinned else []))
    for name, value in figures.items():
        if name not in ("nms_ap", "protocol", "kept", "total"):
            table.add_row(
                name, format_rate(value), *([format_rate(thinned[name])] if thinned else [])
            )
    console.print(table)
    if thinned:
        console.print(
            f"NMS-AP keeps {figures['kept']:,} of {tally(figures['total'], 'box', 'boxes')}"
        )
    print_protocol(console, figures["protocol"])
