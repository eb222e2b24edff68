"""Pickles that mean harm: those that would run something, and those that would use up the machine.

Those of the first kind touch `marker` where they succeed. The forged arrays ran with the reader
that was here before, which handed `numpy.dtype` to the pickle: a type of objects that says it has
none takes bytes for addresses.
"""

from __future__ import annotations

import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.guard.unpickling.assembly import (
    again,
    array,
    call,
    dtype,
    empty_array,
    keep,
    name,
    raw,
    scalar,
    sequence,
    text,
    whole,
    whole_pickle,
)


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def running(marker: Path) -> dict[str, bytes]:
    """Pickles that would touch the marker, by what they use."""
    shell = f"touch {marker}"
    write = f"open({str(marker)!r}, 'w')"
    system = id(os.system).to_bytes(8, "little")
    forged = dtype("O8")
    found = scalar(forged, raw(system))
    coded = scalar(dtype("O8", size=8), raw(system))
    buffer = name("numpy._core.numeric", "_frombuffer")
    shape = sequence(whole(1))
    pointers = call(buffer, raw(system), forged, shape, text("C"))
    written = {
        "a name of Python 2": call(name("__builtin__", "eval"), text(write)),
        "a name of the system": call(name("posix", "system"), text(shell)),
        "a name with dots": call(name("numpy", "testing.measure"), text(shell)),
        "a name of two strings": call(text("os") + text("system") + b"\x93", text(shell)),
        "numpy's exec": call(name("numpy.testing._private.utils", "runstring"), text(write), b"}"),
        "numpy's load": call(name("numpy", "load"), text(str(marker))),
        "getattr": call(name("builtins", "getattr"), name("numpy", "dtype"), text("newbyteorder")),
        "an import": call(name("builtins", "__import__"), text("os")),
        "a codec": call(name("_codecs", "encode"), text("abc"), text("zip")),
        "partial": call(name("functools", "partial"), text("x")),
        "an instance": f"(V{shell}\nios\nsystem\n".encode(),
        "an object": b"(" + name("os", "system") + text(shell) + b"o",
        "a new object": name("os", "system") + sequence(text(shell)) + b"\x81",
        "a registered extension": b"\x82\x01",
        "a persistent id": text("x") + b"Q",
        "a name called twice": name("_codecs", "encode") + b"}" + text("make") + text("x") + b"sb",
        "an address as a scalar": call(found, text(shell)),
        "an address in a buffer": pointers,
        "an address in an array": array(forged, shape, raw(system)),
        "an address of a stated size": call(coded, text(shell)),
        "a type that is called": call(dtype("f8", b"<"), text(shell)),
    }  # fmt: skip
    return {
        "os.system": pickle.dumps(Call(os.system, shell)),
        "subprocess": pickle.dumps(Call(subprocess.call, ["sh", "-c", shell])),
        "eval": pickle.dumps(Call(eval, write)),
        "deep inside": pickle.dumps({"a": [1, {"b": Call(os.system, shell)}]}),
        **{kind: whole_pickle(content) for kind, content in written.items()},
    }


def lying() -> dict[str, bytes]:
    """Arrays that claim what their bytes do not hold."""
    number, shape = dtype("f8", b"<"), sequence(whole(2))
    one_field = b"N" + sequence(text("a")) + b"}" + text("a")
    field = one_field + sequence(dtype("S1000000", size=1_000_000), whole(0)) + b"s"
    many = sequence(whole(2**40), whole(0))
    parts = {
        "a field longer than its item": scalar(dtype("V8", fields=field, size=8), raw(bytes(8))),
        "a field in a plain type": scalar(dtype("f8", b"<", fields=field, size=8), raw(bytes(8))),
        "another size": scalar(dtype("f8", b"<", size=1000), raw(bytes(1000))),
        "too few bytes": array(number, shape, raw(bytes(15))),
        "too many bytes": array(number, shape, raw(bytes(17))),
        "no order of bytes": array(dtype("f8"), shape, raw(bytes(16))),
        "a side below zero": array(number, sequence(whole(-1), whole(-2)), raw(bytes(16))),
        "a side of 2^80": array(number, sequence(whole(2**80)), raw(b"")),
        "sides of 2^60": array(number, sequence(*[whole(2**60)] * 9), raw(b"")),
        "rows of nothing": array(number, many, raw(b"")),
        "items of no size": array(dtype("S0"), sequence(whole(2**40)), raw(b"")),
        "objects in bytes": array(dtype("O8"), shape, raw(bytes(16))),
        "fewer objects": array(dtype("O8"), shape, b"]N" + b"a"),
        "numbers in a list": array(number, shape, b"](NNe"),
        "a class of its own": array(number, shape, raw(bytes(16))).replace(b"ndarray", b"dtype", 1),
        "no content": call(name("numpy", "ndarray"), sequence(whole(2**31))),
        "content left out": empty_array(),
        "a type as a value": b"]" + number + b"a",
        "a name as a value": b"]" + name("numpy", "ndarray") + b"a",
        "dates": scalar(dtype("M8", b"<"), raw(bytes(8))),
    }  # fmt: skip
    return {kind: whole_pickle(content) for kind, content in parts.items()}


DEEP = 100_000
LARGE = 200_000
HALF = 2**61 - 1
"""Python's hash of a whole number is its remainder by this."""


def doubled(made: bytes, pair: bytes, times: int = 60) -> bytes:
    """A value, a pair of it, a pair of that pair and so on, in a few bytes each."""
    return made + (keep(0) + again(0) + pair) * times


def over_and_over(shared: bytes, use: bytes, times: int = 20_000) -> bytes:
    """A list of what is made of a large value, again and again."""
    return b"](" + shared + keep(0) + use * times + b"e"


def bombs() -> dict[str, bytes]:
    """Small files that ask for much time or memory."""
    deep = b")" + b"\x85" * DEEP
    twice = doubled(b")", b"\x86")
    large = raw(bytes(LARGE))
    ones = b"](" + b"K\x01" * LARGE + b"e"
    buffer = name("numpy._core.numeric", "_frombuffer")
    of_bytes = call(buffer, again(0), dtype("u1"), sequence(whole(LARGE)), text("C"))
    keys = b"".join(whole(number * HALF) + b"N" for number in range(2**63 // HALF, 50_000))
    parts = {
        "a deep tuple as a key": b"}" + deep + b"Ns",
        "a deep tuple in a set": b"\x8f(" + deep + b"\x90",
        "a deep tuple": deep,
        "deep lists": b"]" * DEEP + b"a" * (DEEP - 1),
        "deep marks": b"(" * DEEP + b"t" * DEEP,
        "a doubled tuple as a key": b"}" + twice + b"Ns",
        "a doubled tuple in a set": b"\x8f(" + twice + b"\x90",
        "a doubled tuple": twice,
        "a doubled list": doubled(b"]", b"\x86"),
        "a list in itself": b"]" + keep(0) + again(0) + b"a",
        "a dict in itself": b"}" + keep(0) + b"N" + again(0) + b"s",
        "a number of 4 MB": whole(1 << 32_000_000),
        "4,000,000 digits": b"I" + b"9" * 4_000_000 + b"\n",
        "4,000,000 digits of a long": b"L" + b"9" * 4_000_000 + b"L\n",
        "4,000,000 digits of a float": b"F" + b"9" * 4_000_000 + b"\n",
        "a memo of 4,000,000 digits": b"Np" + b"9" * 4_000_000 + b"\n",
        "keys of one hash": b"}(" + keys + b"u",
        "a long text": over_and_over(text("x" * LARGE), again(0)),
        "long text of half characters": over_and_over(text("\ud800" * LARGE), again(0)),
        "long arrays": over_and_over(large, of_bytes),
        "a long list, as sets": over_and_over(
            ones, call(name("builtins", "set"), again(0))
        ),
        "a long list, as dicts": over_and_over(
            ones, call(name("collections", "OrderedDict"), again(0))
        ),
        "a long text, as bytes": over_and_over(
            text("x" * LARGE), call(name("_codecs", "encode"), again(0), text("latin1"))
        ),
        "a long list, as a shape": over_and_over(
            sequence(b"K\x01" * LARGE),
            call(buffer, raw(b"x"), dtype("u1"), again(0), text("C")),
        ),
        "a text of 2^63 bytes": b"\x8d" + (2**63).to_bytes(8, "little"),
        "bytes of 2^62": b"\x8e" + (2**62).to_bytes(8, "little"),
        "bytes of 2^62 that change": b"\x96" + (2**62).to_bytes(8, "little"),
    }  # fmt: skip
    return {kind: whole_pickle(content) for kind, content in parts.items()}
