"""The command line's parser: help that shows every default and ends with an example."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

from boxrl.errors import did_you_mean

COLUMN = 24
"""Where the help of options and verbs starts, in every verb alike."""

CHOICE = re.compile(
    r"(?P<said>.*invalid choice: '(?P<got>.*)') \(choose from (?P<known>.*)\)", re.S
)
"""argparse's words on a word that is none of those known."""


class _HelpFormatter(argparse.HelpFormatter):
    """Puts the default behind the help of its option, so that no help text repeats it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=COLUMN)
        self._action_max_length = COLUMN - 2

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        unset = any(default is none for none in (None, False, argparse.SUPPRESS))
        if unset or default in ("", [], ()) or not action.option_strings:
            return text
        value = f"{default:g}" if isinstance(default, float) else f"{default}"
        return f"{text} (default: {value.replace('%', '%%')})"


class CommandParser(argparse.ArgumentParser):
    """A verb, or the whole command line; called without its verb, it prints its help.

    Args:
        example: a command line that works; the help ends with it.
        options: those of `argparse.ArgumentParser`.
    """

    def __init__(self, *, example: str, **options: Any) -> None:
        super().__init__(formatter_class=_HelpFormatter, **options)
        self.example = example
        self.set_defaults(run=self._print_help)

    def format_help(self) -> str:
        """What `--help` prints."""
        return f"{super().format_help()}\nexample:\n  {self.example}\n"

    def error(self, message: str) -> NoReturn:
        """End the program with one line instead of the whole usage."""
        if (found := CHOICE.fullmatch(message)) and (
            hint := did_you_mean(re.findall(r"[\w.+-]+", found["known"]), found["got"])
        ):
            message = f"{found['said']}{hint}"
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")

    def _print_help(self, args: argparse.Namespace) -> int:
        self.print_help()
        return 2


def add_command(verbs: Any, name: str, summary: str, example: str, **options: Any) -> CommandParser:
    """Declare a verb among `verbs`, the subparsers of the level above it.

    Args:
        verbs: what `add_subparsers` returned.
        name: the word on the command line.
        summary: what it does, in a line; stands in the list of verbs and above its options.
        example: a command line that works, without line ends.
        options: others of `argparse.ArgumentParser`, or `aliases`.
    """
    parser: CommandParser = verbs.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        example=example,
        **options,
    )
    # Also behind the verb, where people add it to a call that failed; set before it, it stays.
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    return parser
