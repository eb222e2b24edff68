"""What a pickle holds, told by a process of its own within limits of time and memory."""

from __future__ import annotations

import gc
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from boxrl.errors import DataError
from boxrl.guard.unpickling.names import Array
from boxrl.guard.unpickling.opcodes import run
from boxrl.guard.unpickling.state import (
    HUGE,
    LEAVES,
    MAX_DEPTH,
    MAX_VALUES,
    OVER_AND_OVER,
    SET,
    SHARING,
    Ext,
    Members,
    refused,
)

CPU_SECONDS = 120
MEMORY_BYTES = 2**32
"""Of the process. 50,000 refs in RefCOCO's form take 3 seconds and 0.4 GB."""

DAMAGE = (LookupError, ValueError, TypeError, ArithmeticError, struct.error)


def main() -> None:
    """Answer for the pickle on stdin."""
    _limit()
    gc.disable()  # what is built here lives until the answer is written
    sys.stdout.buffer.write(answer(sys.stdin.buffer.read()))


def _limit() -> None:
    """Bound processor time and memory, where the system can."""
    if sys.platform == "win32":
        return
    import resource  # Windows has none

    wanted = {"RLIMIT_CPU": CPU_SECONDS, "RLIMIT_AS": MEMORY_BYTES, "RLIMIT_CORE": 0}
    for name, most in wanted.items():
        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        with suppress(ValueError, OSError):  # macOS takes no limit of memory
            resource.setrlimit(kind, (most, most))


def answer(content: bytes) -> bytes:
    """What a pickle holds, or why it is not read, as `opened` takes it."""
    with suppress(MemoryError):
        try:
            return _pack(None, _value(content))
        except DataError as error:
            return _pack(str(error), None)
    return _pack(f"needs more than {MEMORY_BYTES >> 30} GiB of memory", None)


def opened(message: bytes) -> Any:
    """The value in an answer: dicts, lists, sets, texts, bytes, numbers, truths and None.

    Raises:
        DataError: the pickle was not read.
    """
    reason, value = msgspec.msgpack.decode(message, ext_hook=_unpacked)
    if reason is not None:
        raise DataError(reason)
    return value


def _value(content: bytes) -> Any:
    try:
        value = run(content)
    except DAMAGE as error:
        reason = f"{type(error).__name__}: {error!s:.80}"
        raise DataError(f"damaged pickle ({reason})") from error
    _check(value, SHARING * len(content))
    return value


PARTS: dict[type, Callable[[Any], Any]] = {
    list: lambda values: values,
    tuple: lambda values: values,
    dict: dict.values,
    Array: lambda array: (array.content,),
    Members: lambda members: members.items,
}
"""What a container holds. Of another type is nothing but bare names and types of arrays."""


def _check(value: Any, most: int) -> None:
    """Refuse what is too deep or, unfolded, more than `most` values; level by level."""
    count = 0
    level = [value] if type(value) not in LEAVES else []
    for _ in range(MAX_DEPTH):
        if not PARTS.keys() >= set(map(type, level)):
            raise refused("the pickle holds a name in place of a value")
        parts = [PARTS[type(item)](item) for item in level]
        count += sum(map(len, parts))
        if count > most:
            raise refused(OVER_AND_OVER)
        if count > MAX_VALUES:
            raise DataError(f"unfolds to more than {MAX_VALUES:,} values")
        level = [item for part in parts for item in part if type(item) not in LEAVES]
        if not level:
            return
    raise refused(f"{OVER_AND_OVER}, or more than {MAX_DEPTH} deep")


def _pack(reason: str | None, value: Any) -> bytes:
    return msgspec.msgpack.encode((reason, value), enc_hook=_packable)


def _packable(value: Any) -> Any:
    if type(value) is Members:
        return Ext(SET, msgspec.msgpack.encode(list(value.items)))
    return value.content


def _unpacked(kind: int, data: memoryview) -> Any:
    if kind == SET:
        return set(msgspec.msgpack.decode(data))
    if kind == HUGE:
        return int.from_bytes(data, "little", signed=True)
    return bytes(data).decode(errors="surrogatepass")
