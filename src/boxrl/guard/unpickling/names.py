"""The names that a pickle may say: numpy arrays and scalars, sets, ordered dicts, bytes.

Source: what `numpy.ndarray.__reduce__`, `numpy.dtype.__reduce__` and Python's own pickler write, of
numpy 1 and 2. Nothing of numpy is called or handed out.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from typing import Any

from boxrl.guard.unpickling.state import MAX_DEPTH, Members, State, plain_keys, refused


class Name:
    """A name; `make` says what is made of its arguments."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make


class Dtype:
    """A numpy dtype.

    Args:
        kind: its letter in `CODE`.
        size: bytes of an item.
        order: `<`, `>`, or `|` where bytes have none; empty until it is given.
    """

    __slots__ = ("kind", "order", "size")

    def __init__(self, kind: str, size: int, order: str) -> None:
        self.kind, self.size, self.order = kind, size, order


class Array:
    """A numpy array as nested lists; until its content is given, a name, which is no value."""

    __slots__ = ("content",)

    def __init__(self, content: Any) -> None:
        self.content = content


def named(module: Any, name: Any) -> Name:
    """The name of a pickle that imports `name` from `module`.

    Raises:
        DataError: it is not among `NAMES`.
        ValueError: it is no text.
    """
    if type(module) is not str or type(name) is not str:
        raise ValueError("a name that is not text")
    if (module, name) not in NAMES:
        raise refused(f"the pickle asks for {f'{module:.80}.{name:.80}'!r}")
    return NAMES[module, name]


def call(state: State) -> Any:
    """What a name gives for the arguments on the stack.

    Raises:
        DataError: no name, or more than plain data.
    """
    arguments, name = state.stack.pop(), state.stack.pop()
    if type(name) is not Name or type(arguments) is not tuple:
        raise refused("the pickle calls a value")
    return name.make(state, *arguments[:9])


def build(state: State) -> None:
    """Give a dtype its byte order, or an array its content.

    Raises:
        DataError: it is neither, or not plain.
    """
    given, target = state.stack.pop(), state.stack[-1]
    if type(target) is Array:
        _, shape, dtype, fortran, data = given
        target.content = _nested(state, shape, dtype, data, fortran=fortran in (True, 1))
    elif type(target) is Dtype:
        version, order, subarray, names, fields, size, _, _ = given
        if not (subarray is names is fields is None) or size not in (-1, target.size):
            raise refused("the pickle holds an array with fields or of a false item size")
        if version != 3 or order not in ("<", ">", "|"):
            raise refused("the pickle holds an array of unknown byte order")
        target.order = order
    else:
        raise refused("the pickle sets the state of what is no array")


CODE = re.compile(r"([<>|]?)([biufSUO])([0-9]{1,9})")
LETTERS = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I",
    "u8": "Q", "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip
"""Items of fixed size, in the words of `struct`."""


def _dtype(state: State, code: Any, align: Any, copy: Any) -> Dtype:
    found = CODE.fullmatch(code) if type(code) is str else None
    if found is None or (found[2] not in "SUO" and found[2] + found[3] not in LETTERS):
        told = code[:40] if type(code) is str else type(code).__name__
        raise refused(f"the pickle holds an array of dtype {told!r}")
    size = int(found[3]) * (4 if found[2] == "U" else 1)
    return Dtype(found[2], size, found[1])


def _array_class(state: State, *arguments: Any) -> Any:
    raise refused("the pickle makes an array without its content")


NDARRAY = Name(_array_class)


def _empty_array(state: State, kind: Any, shape: Any, dtype: Any) -> Array:
    """An array before its state is given."""
    if kind is not NDARRAY:
        raise refused("the pickle holds a subclass of arrays")
    return Array(NDARRAY)


def _from_buffer(state: State, data: Any, dtype: Any, shape: Any, order: Any) -> Array:
    """An array as protocol 5 writes it."""
    if order not in ("C", "F"):
        raise refused("the pickle holds an array of unknown memory order")
    return Array(_nested(state, shape, dtype, data, fortran=order == "F"))


def _scalar(state: State, dtype: Any, data: Any) -> Any:
    return _nested(state, (), dtype, data, fortran=False)


def _nested(state: State, shape: Any, dtype: Any, data: Any, *, fortran: bool) -> Any:
    """An array's items as lists in lists; bytes are in Fortran's order where `fortran`."""
    if type(dtype) is not Dtype or type(shape) is not tuple or len(shape) > MAX_DEPTH:
        raise refused("the pickle holds an array without dtype or shape")
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError("an array with a side that is no size")
    values = _items(state, dtype, data, math.prod(shape))
    for axis in range(len(shape) - 1, 0, -1):
        rows, side = math.prod(shape[:axis]), shape[axis]
        state.spend(rows)  # 2^40 rows of nothing have no bytes either
        if fortran and dtype.kind != "O":
            values = [values[row::rows] for row in range(rows)]
        else:
            values = [values[row * side : (row + 1) * side] for row in range(rows)]
    return values if shape else values[0]


def _items(state: State, dtype: Dtype, data: Any, count: int) -> list[Any]:
    """The items in the order in which they are written."""
    if dtype.kind == "O":
        if type(data) is not list or len(data) != count:
            raise refused("the pickle holds an array of objects that does not list them")
        state.spend(count)
        return list(data)
    size = count * dtype.size
    if type(data) is str and len(data) <= size <= 4 * len(data):  # Python 2 has one kind of string
        state.spend(size)
        data = data.encode("latin1" if len(data) == size else "utf-8")  # as it was decoded
    if type(data) is not bytes or len(data) != size:
        raise ValueError("an array of more or fewer bytes than its shape takes")
    state.spend(size)
    if dtype.kind in "SU":
        return _texts(dtype, data)
    if dtype.size > 1 and dtype.order not in ("<", ">"):
        raise ValueError("an array without byte order")
    letter = LETTERS[f"{dtype.kind}{dtype.size}"]
    return list(struct.unpack(f"{dtype.order.replace('|', '<')}{count}{letter}", data))


def _texts(dtype: Dtype, data: bytes) -> list[Any]:
    """Texts of fixed size, filled up with zeros: bytes, or str in four bytes a character."""
    starts = range(0, len(data), dtype.size)  # refuses items of no size
    items = [data[start : start + dtype.size] for start in starts]
    if dtype.kind == "S":
        return [item.rstrip(b"\0") for item in items]
    coding = {"<": "utf-32-le", ">": "utf-32-be"}[dtype.order]
    return [item.decode(coding).rstrip("\0") for item in items]


def _set(state: State, items: Any = ()) -> Members:
    if type(items) not in (list, tuple):
        raise refused("the pickle makes a set of what is no list")
    state.spend(len(items))
    return Members(items)


def _ordered(state: State, pairs: Any = ()) -> dict[Any, Any]:
    """An OrderedDict: of Python 3 empty, of Python 2 with its pairs."""
    if type(pairs) not in (list, tuple):
        raise refused("the pickle makes an OrderedDict of what are no pairs")
    state.spend(2 * len(pairs))
    if not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
        raise refused("the pickle makes an OrderedDict of what are no pairs")
    plain_keys([key for key, _ in pairs])
    return dict(pairs)


def _latin1(state: State, text: Any, encoding: Any) -> bytes:
    """How Python 3 writes bytes for protocol 2."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise refused("the pickle encodes text otherwise than as latin1")
    state.spend(len(text))
    return text.encode("latin1")


def _no_bytes(state: State) -> bytes:
    """How Python 3 writes bytes for protocol 2 when there are none."""
    return b""


NAMES: dict[tuple[str, str], Name] = {
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): Name(_dtype),
    ("collections", "OrderedDict"): Name(_ordered),
    ("_codecs", "encode"): Name(_latin1),
}
for _module in ("builtins", "__builtin__"):
    NAMES |= {(_module, name): Name(_set) for name in ("set", "frozenset")}
    NAMES[_module, "bytes"] = Name(_no_bytes)
for _core in ("numpy.core", "numpy._core"):
    NAMES[f"{_core}.multiarray", "_reconstruct"] = Name(_empty_array)
    NAMES[f"{_core}.multiarray", "scalar"] = Name(_scalar)
    NAMES[f"{_core}.numeric", "_frombuffer"] = Name(_from_buffer)
