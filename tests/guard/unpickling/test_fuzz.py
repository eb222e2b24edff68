"""Pickles drawn from the grammar of their opcodes: read as they are, or refused in one line."""

from __future__ import annotations

import codecs
import io
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from boxrl.errors import DataError
from boxrl.guard.unpickling.state import SHARING
from tests.guard.unpickling.assembly import read
from tests.guard.unpickling.grammar import Plain, draw, spoil

PLAIN = frozenset({dict, list, set, str, bytes, int, float, bool, type(None)})
EVENTS: list[str] = []
WATCHING: list[bool] = []
HOOKED: list[bool] = []


def watch(event: str, arguments: Any) -> None:
    if WATCHING:
        EVENTS.append(event)


@contextmanager
def nothing_happens() -> Iterator[None]:
    """Python tells of every import, file, process and piece of code that it meets."""
    if not HOOKED:
        HOOKED.append(True)
        sys.addaudithook(watch)  # for good
        for encoding in ("raw-unicode-escape", "utf-32-le", "utf-32-be"):
            codecs.lookup(encoding)  # is imported at its first use
    EVENTS.clear()
    WATCHING.append(True)
    try:
        yield
    finally:
        WATCHING.clear()
    assert not EVENTS


def values(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from values(item)
    elif isinstance(value, list | set):
        for item in value:
            yield from values(item)


def written(value: Any) -> str:
    """The value as text, tuples as lists and sets in order, for NaN is not equal to itself."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {written(value[key])}" for key in value) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(written, value)) + "]"
    return repr(sorted(map(repr, value))) if isinstance(value, set) else repr(value)


def python_reads(content: bytes) -> str | None:
    """What Python's own unpickler makes of it, None where that needs arrays or fails."""
    try:
        return written(Plain(io.BytesIO(content)).load())
    except Exception:  # noqa: BLE001  # of any kind, with a damaged pickle
        return None


@pytest.mark.parametrize(
    ("seed", "cases"), [(1, 4000), pytest.param(0, 250_000, marks=pytest.mark.slow)]
)
def test_pickles_by_grammar(seed: int, cases: int) -> None:
    rng = random.Random(seed)
    counts = {"whole": 0, "spoilt": 0, "refused": 0, "as Python": 0}
    for case in range(cases):
        opcodes, value = draw(rng)
        start = rng.choice([b"", b"\x80\x02", b"\x80\x03", b"\x80\x04\x95" + bytes(8), b"\x80\x05"])
        is_whole = case % 4 == 0
        content = start + b"".join(opcodes if is_whole else spoil(rng, opcodes)) + b"."
        started = time.perf_counter()
        try:
            with nothing_happens():
                found = read(content)
        except DataError as error:
            assert not is_whole, (content, error)
            assert "\n" not in str(error)
            counts["refused"] += 1
            continue
        finally:
            assert time.perf_counter() - started < 10
        every = list(values(found))
        assert PLAIN.issuperset(map(type, every)), content
        assert len(every) <= 2 * SHARING * len(content)
        if is_whole:
            assert written(found) == written(value), content
            counts["whole"] += 1
        elif (python := python_reads(content)) is not None:
            assert written(found) == python, content
            counts["as Python"] += 1
        else:
            assert b"numpy" in content, content
            counts["spoilt"] += 1
    print(counts)  # noqa: T201
    assert counts["whole"] == cases / 4
    assert counts["refused"] > cases / 3
    assert counts["as Python"] > cases / 50
