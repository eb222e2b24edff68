"""What the interpreter holds while it reads, and the bounds of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import msgspec

from boxrl.errors import DataError

MAX_VALUES = 2**24
"""In a file, unfolded: what is held twice counts twice. 50,000 refs in RefCOCO's form have 2^21."""

MAX_DEPTH = 100
"""Of values in values. The pickles of archives have six."""

MAX_NUMBER = 1024
"""Bytes or digits of a whole number."""

SHARING = 4
"""A pickle may name a value twice; unfolded, it holds at most so many values per byte."""

SHORT_TEXT = 64
"""A text up to this length counts as one value where it is named again, another by its length."""

Ext = msgspec.msgpack.Ext
HUGE, HALF_TEXT, SET = range(3)
"""Kinds of `Ext`, for what msgpack has no form: whole numbers, half characters, sets."""

LEAVES = frozenset({str, bytes, int, float, bool, type(None), Ext})
KEYS = LEAVES - {Ext}
"""Types of keys and members: to hash one takes no longer than it took to read it."""

OVER_AND_OVER = "the pickle holds a container inside itself, or over and over"


def refused(reason: str) -> DataError:
    """The error of a pickle that asks for more than plain data."""
    return DataError(
        f"{reason}; only plain containers, numbers, strings and numpy arrays are read. The file "
        "was not run; get it again from its publisher"
    )


class Members:
    """A set in the stack machine, which msgpack would take for a list."""

    __slots__ = ("items",)

    def __init__(self, items: Sequence[Any] = ()) -> None:
        self.items = set(plain_keys(items))


def plain_keys(keys: Sequence[Any]) -> Sequence[Any]:
    """The keys of a dict or members of a set, checked.

    Raises:
        DataError: a tuple, which may be as slow to hash as it is deep, or another container.
    """
    if not KEYS.issuperset(map(type, keys)):
        raise refused("the pickle has keys that are neither text nor numbers of 64 bits")
    return keys


class State:
    """Where the interpreter is, and what it has built.

    Attributes:
        read: gives the next so many bytes, or fewer at the end of the pickle.
        read_line: gives the bytes up to the next newline.
        stack: values since the last mark.
        marks: the stacks below it.
        memo: values by the number under which the pickle keeps them.
        left: values, or characters of long texts, that may still be copied.
    """

    __slots__ = ("left", "marks", "memo", "read", "read_line", "stack")

    def __init__(self, content: bytes) -> None:
        file = io.BytesIO(content)
        self.read, self.read_line = file.read, file.readline
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.left = SHARING * len(content)

    def spend(self, cost: int) -> None:
        """Pay for a copy, before it is made.

        Raises:
            DataError: there is nothing left to pay with.
        """
        self.left -= cost
        if self.left < 0:
            raise refused(OVER_AND_OVER)

    def line(self) -> bytes:
        """The bytes up to the next newline.

        Raises:
            ValueError: there is none.
        """
        line = self.read_line()
        if not line.endswith(b"\n"):
            raise ValueError("cut short")
        return line[:-1]

    def mark(self) -> None:
        """Begin a list of values.

        Raises:
            DataError: too many of them are open.
        """
        if len(self.marks) >= MAX_DEPTH:
            raise refused(f"the pickle holds values more than {MAX_DEPTH} deep")
        self.marks.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        """The values since the last mark, which they leave together."""
        values, self.stack = self.stack, self.marks.pop()
        return values

    def top(self, kind: type) -> Any:
        """The value on top of the stack.

        Raises:
            ValueError: it is of another kind.
        """
        value = self.stack[-1]
        if type(value) is not kind:
            raise ValueError(f"no {kind.__name__.lower()} where one is expected")
        return value
