"""`boxrl doctor`: what is wrong before a training finds out."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boxrl.cli.training import add_parity

SHOWN_IDS = 3

LEAK = 0.05
"""Share of samples from which on a verdict names a probe; a box may truly fill its image."""


def add_verbs(verbs: Any) -> None:
    """Declare `boxrl doctor rewards` and `boxrl doctor parity`."""
    doctor = verbs.add_parser("doctor", help="find out what is missing and which rewards leak")
    checks = doctor.add_subparsers(title="checks", metavar="CHECK", required=True)
    add_parity(checks)
    verb = checks.add_parser("rewards", help="what rewards pay for answers that game them")
    verb.add_argument("--samples", type=Path, required=True, metavar="F", help="samples file")
    verb.add_argument(
        "--rewards", default="ap,od_length,weighted_sum,f1", metavar="a,b,c",
        help="names, or my_pkg.my_module:function, comma-separated (default: %(default)s)",
    )  # fmt: skip
    verb.add_argument(
        "--margin", type=float, default=0.1,
        help="a worse answer must earn this much less than gold (default: %(default)s)",
    )  # fmt: skip
    verb.add_argument(
        "--limit", type=_positive, default=500, metavar="N",
        help="samples drawn from the file (default: %(default)s)",
    )  # fmt: skip
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--json", action="store_true", help="one JSON object on stdout")
    verb.set_defaults(run=probe_rewards)


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {value}")
    return number


def probe_rewards(args: argparse.Namespace) -> None:
    """Run the battery of probes on the user's samples."""
    from boxrl.data.samples import read_samples
    from boxrl.errors import DataError
    from boxrl.rewards import build_rewards
    from boxrl.rewards.probes import run_probes

    rewards = build_rewards(args.rewards.replace(" ", "").split(","))
    samples = read_samples(args.samples)
    samples = [sample for sample in samples if sample.task in ("detection", "grounding")]
    if not samples:
        raise DataError(f"{args.samples}: no detection or grounding samples; probes need boxes")
    if len(samples) > args.limit:
        samples = random.Random(args.seed).sample(samples, args.limit)
    results = run_probes(samples, rewards, args.margin, args.seed)
    if args.json:
        print(json.dumps(results))
    else:
        print_probes(results)


def print_probes(results: Mapping[str, Any]) -> None:
    """The battery as a table, then a verdict per reward."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from boxrl.rewards.probes import PROBES

    rewards: Mapping[str, Any] = results["rewards"]
    worse = [name for name, probe in PROBES.items() if probe.worse]
    table = Table(
        title=f"What rewards pay: mean of {results['n']:,} samples",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("answer", no_wrap=True)
    for name in rewards:
        table.add_column(name, justify="right", no_wrap=True)
    for probe in PROBES:
        if probe == worse[0]:
            table.add_section()
        table.add_row(probe, *(_cell(reward["probes"][probe]) for reward in rewards.values()))
    console = Console(highlight=False)
    Console(highlight=False, width=max(console.width, 18 + 13 * len(rewards))).print(table)
    console.print(
        f"[bold red]▲[/] pays a worse answer within {results['margin']:g} of gold, in that share "
        "of samples   [bold yellow]▼[/] pays an answer as good as gold less"
    )
    for name, reward in rewards.items():
        console.print(_verdict(name, reward))


def _cell(paid: Mapping[str, Any]) -> str:
    """Mean pay, and the share of samples in which it is too much or too little."""
    if paid["mean"] is None:
        return "[dim]-[/]     "
    number = f"{paid['mean']:.2f}"
    if paid["overpaid"]:
        return f"[bold red]{number} {'▲' + format(paid['overpaid'], '.0%'):<5}[/]"
    if paid["underpaid"]:
        return f"[bold yellow]{number} {'▼' + format(paid['underpaid'], '.0%'):<5}[/]"
    return f"[green]{number}[/]      "


def _verdict(name: str, reward: Mapping[str, Any]) -> str:
    """What the reward can be gamed with, and where it cannot tell answers apart."""
    leaks = [probe for probe, paid in reward["probes"].items() if paid["overpaid"] >= LEAK]
    verdict = f"overpays {', '.join(leaks)}" if leaks else "overpays none of these"
    flat = reward["zero_variance"]
    if flat:
        some = ", ".join(flat[:SHOWN_IDS]) + (", ..." if len(flat) > SHOWN_IDS else "")
        verdict += f"; the same for every answer in {len(flat)} samples ({some})"
    return f"[bold]{name}[/] {verdict}"
