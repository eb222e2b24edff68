"""How long `boxrl --help` and every verb's `--help` take, beside `trl --help`.

    python perf/cli.py [--rounds 9] [--json]

Each call is a new process; the processes take turns. `python -c pass` is the floor under all of
them. Exit status 1 where a median of boxrl is above 0.5 s.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from timing import print_rows, summarize, take_turns

from boxrl.cli import build_parser

LIMIT_MS = 500


def list_verbs() -> list[str]:
    """Every verb of the command line."""
    groups = build_parser()._subparsers
    assert groups is not None
    choices = [item for action in groups._group_actions for item in (action.choices or {}).items()]
    first_names = {id(parser): verb for verb, parser in reversed(choices)}  # without aliases
    return [verb for verb, parser in choices if first_names[id(parser)] == verb]


def run(*command: str) -> None:
    """A process that must end well."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> int:
    """Time every --help; 1 where one of boxrl is too slow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    scripts = Path(sys.executable).parent
    boxrl, trl = str(scripts / "boxrl"), str(scripts / "trl")
    calls: dict[str, Callable[[], None]] = {"boxrl --help": partial(run, boxrl, "--help")}
    for verb in list_verbs():
        calls[f"boxrl {verb} --help"] = partial(run, boxrl, verb, "--help")
    calls["python -c pass"] = partial(run, sys.executable, "-c", "pass")
    if Path(trl).exists():
        calls["trl --help"] = partial(run, trl, "--help")
    rows = summarize(take_turns(calls, args.rounds), "boxrl --help")
    print_rows(rows, args.json)
    return int(any(row["ms"][1] > LIMIT_MS for row in rows if row["what"].startswith("boxrl")))


if __name__ == "__main__":
    sys.exit(main())
