"""Pickles written by hand, opcode by opcode."""

from __future__ import annotations

from typing import Any

from boxrl.guard.unpickling.answers import answer, opened


def read(content: bytes) -> Any:
    """What a pickle holds, read in this process."""
    return opened(answer(content))


def text(value: str) -> bytes:
    data = value.encode(errors="surrogatepass")
    return b"X" + len(data).to_bytes(4, "little") + data


def raw(data: bytes) -> bytes:
    return b"B" + len(data).to_bytes(4, "little") + data


def whole(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + len(data).to_bytes(4, "little") + data


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def sequence(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + sequence(*arguments) + b"R"


def keep(number: int) -> bytes:
    return b"r" + number.to_bytes(4, "little")


def again(number: int) -> bytes:
    return b"j" + number.to_bytes(4, "little")


def dtype(
    code: str, order: bytes = b"|", fields: bytes = b"NNN", size: int = -1, flags: int = 0
) -> bytes:
    """A numpy type, and the state that it is told."""
    made = call(name("numpy", "dtype"), text(code), b"\x89", b"\x88")
    order = text(order.decode())
    told = sequence(whole(3), order, fields, whole(size), whole(-1), whole(flags))
    return made + told + b"b"


def empty_array() -> bytes:
    make = name("numpy.core.multiarray", "_reconstruct")
    return call(make, name("numpy", "ndarray"), sequence(whole(0)), raw(b"b"))


def array(kind: bytes, shape: bytes, data: bytes, *, by_column: bytes = b"\x89") -> bytes:
    """A numpy array as `numpy.ndarray.__reduce__` has it."""
    return empty_array() + sequence(whole(1), shape, kind, by_column, data) + b"b"


def scalar(kind: bytes, data: bytes) -> bytes:
    return call(name("numpy.core.multiarray", "scalar"), kind, data)


def whole_pickle(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"."
