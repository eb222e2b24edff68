"""The `boxrl` command: thin verbs, one file each, heavy imports inside each verb."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from functools import cache
from types import ModuleType

from boxrl import __version__
from boxrl.cli import (
    benchmark,
    coco_eval,
    compare,
    data,
    demo,
    doctor,
    evaluate,
    experiment,
    export,
    init,
    pass_at_k,
    predict,
    quickstart,
    report,
    score,
    train,
    validate,
    verify,
    watch,
)
from boxrl.cli.options import refuse_missing
from boxrl.cli.parser import CommandParser
from boxrl.errors import BoxrlError
from boxrl.guard.secrets import redact_streams

VERBS = (
    quickstart, demo, doctor,
    data, init, validate, train, watch, report, export,
    predict, verify, evaluate, pass_at_k, compare, score, coco_eval, benchmark, experiment,
)  # fmt: skip
"""A module per verb, in the order in which a newcomer needs them.

`add_verb(subparsers)` declares the verb, which sets `run` to its function.
"""


@cache
def build_parser(verb: str | None = None) -> argparse.ArgumentParser:
    """The command line, without importing anything heavy.

    Args:
        verb: the only one to declare, since all of them take longer than a small conversion; all
            where None, or where no module bears its name.
    """
    parser = CommandParser(
        prog="boxrl",
        description="Train and evaluate vision-language models that answer with bounding boxes.",
        example="boxrl quickstart",
    )
    parser.add_argument("--version", action="version", version=f"boxrl {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    modules = [module for module in VERBS if _word(module) == verb]
    for module in modules or VERBS:
        module.add_verb(verbs)
    return parser


def _word(module: ModuleType) -> str:
    """The verb of a module."""
    return module.__name__.rpartition(".")[2].replace("_", "-")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The call, with `key=value` overrides anywhere; argparse knows them in one place only."""
    argv = sys.argv[1:] if argv is None else argv
    parser = build_parser(next((word for word in argv if not word.startswith("-")), None))
    args, rest = parser.parse_known_args(argv)
    unknown = [word for word in rest if word.startswith("-") or "=" not in word]
    if rest and (unknown or not hasattr(args, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(unknown or rest)}")
    if rest:
        args.overrides = [*args.overrides, *rest]
    return args


def _system_error(error: OSError | MemoryError) -> str:
    """A full disk, a missing right or too little memory, in words."""
    if isinstance(error, MemoryError):
        return "out of memory; give the process more, or take fewer samples (--limit) at once"
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}; fix this and rerun the same command"


def _visible(message: object) -> str:
    """What a message quotes, of files and servers, moves no cursor and names no window."""
    from boxrl.guard.texts import visible

    return visible(str(message))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0 done, 1 bad data or result, 2 wrong call."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal without Unicode shows a ?, as Latin-1 ones of some clusters do for tables.
        sys.stdout.reconfigure(errors="replace")
    redact_streams()  # for good: a traceback is printed after this function
    args = _parse(argv)
    hook = sys.unraisablehook
    # Where memory is full, every generator that is closed would say so by itself.
    sys.unraisablehook = lambda told: None if told.exc_type is MemoryError else hook(told)
    try:
        refuse_missing(args)
        status: int | None = args.run(args)
    except BoxrlError as error:
        if args.debug:
            raise
        print(f"boxrl: {_visible(error)}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        resume = "; rerun the same command with --resume to continue"
        print(f"boxrl: interrupted{resume if hasattr(args, 'resume') else ''}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except (OSError, MemoryError) as error:
        if args.debug:
            raise
        print(f"boxrl: {_visible(_system_error(error))}", file=sys.stderr)
        return 1
    finally:
        sys.unraisablehook = hook
    return status or 0
