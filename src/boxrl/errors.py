"""The errors that boxrl raises on purpose.

    BoxrlError                 one line for people: what, where, got, expected, next step
    ├── DataError              a file, sample, prediction or result is bad            exit status 1
    └── UsageError             the call is wrong: option, name, folder                exit status 2
        ├── RecipeError        one or more mistakes in a recipe, all reported at once
        └── MissingExtra       a feature needs packages that are not installed

Disks and memory speak through OSError and MemoryError, which the command line puts into words.
Anything else that escapes is a bug in boxrl. A bad completion is never an error:
parsing returns a `Parsed` with its status.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Sequence

OFFLINE_BY_DEFAULT = "BOXRL_OFFLINE_BY_DEFAULT"
"""Environment variable: HF_HUB_OFFLINE was set by boxrl and not by the user."""


class BoxrlError(Exception):
    """Base of every error meant for the user."""

    exit_status = 1

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: one line for people there, too."""
        return [f"{type(self).__name__}: {self}"]


class DataError(BoxrlError):
    """A file or a result is bad; the message starts with `file:line` where there is one."""


class UsageError(BoxrlError):
    """The call is wrong; nothing was read or written."""

    exit_status = 2


class RecipeError(UsageError):
    """A recipe has mistakes.

    Args:
        path: the recipe file, as the user named it.
        mistakes: one `key: what is wrong` line each; all of them, not the first.
    """

    def __init__(self, path: str, mistakes: Sequence[str]) -> None:
        self.mistakes = tuple(mistakes)
        lines = "".join(f"\n  - {mistake}" for mistake in self.mistakes)
        told = tally(len(self.mistakes), "mistake")
        super().__init__(f"{path}: {told} in the recipe{lines}")


class MissingExtra(UsageError):
    """An optional extra is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f'{feature} needs packages that are not installed; run: pip install "boxrl[{extra}]"'
        )


def tally(count: int, noun: str, plural: str = "") -> str:
    """How many of something there are, in words.

    Args:
        count: of them.
        noun: what one of them is called.
        plural: what several are called; the noun with an s where empty.

    >>> tally(1, "sample"), tally(2, "box", "boxes")
    ('1 sample', '2 boxes')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def did_you_mean(known: Iterable[str], *names: str) -> str:
    """`; did you mean NAME?` with the known names that are spelt most alike.

    Args:
        known: the names there are.
        names: what the user wrote instead.

    Returns:
        Words to put behind a message; empty where no known name resembles any.
    """
    import difflib

    known = list(known)

    def nearest(name: str) -> list[str]:
        begun = [each for each in known if name and each.startswith(name)]
        return begun[:1] or difflib.get_close_matches(name, known, n=1, cutoff=0.5)

    near = [nearest(f"{name}".lower()) for name in names]
    found = dict.fromkeys(name for names in near for name in names)
    return f"; did you mean {', '.join(found)}?" if found else ""


def require_train_extra(feature: str) -> None:
    """Stop with the install line where torch and its friends are missing.

    Args:
        feature: what needs them, such as `boxrl train`.

    Raises:
        MissingExtra: one of them is not installed.
    """
    # Libraries then fail at once instead of waiting for a network that nobody asked for; a model
    # of the hub is fetched by `generation.hub` alone.
    if "HF_HUB_OFFLINE" not in os.environ:
        os.environ["HF_HUB_OFFLINE"] = os.environ[OFFLINE_BY_DEFAULT] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for package in ("torch", "torchvision", "transformers", "trl", "datasets"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(feature, "train")
