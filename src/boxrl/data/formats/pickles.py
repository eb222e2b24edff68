"""Pickles of public archives, read without running anything.

A pickle is a program. This reader lets it build plain containers, numbers, strings and numpy
arrays; a pickle that asks for anything else is refused before anything of it is called.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from boxrl.errors import DataError

SHARING = 4
"""A pickle may name a container twice; unfolded, it holds at most so many values per byte."""


class _Allowed:
    """A callable that a pickle may call, but not change: it has no attributes to set."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __setattr__(self, name: str, value: Any) -> None:
        raise TypeError("a pickle may not change what it is allowed to call")

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)


def _array_class(*args: Any) -> Any:
    """What `numpy.ndarray` is here: a name that arrays refer to, not something to call."""
    raise TypeError("arrays come with their content")


_NDARRAY = _Allowed(_array_class)


def _empty_array(subtype: Any, shape: Any, dtype: Any) -> Any:
    """An array before its state is set; numpy then checks the data against the stated shape."""
    if subtype is not _NDARRAY:
        raise TypeError("only plain numpy arrays are read")
    return np.ndarray((0,), dtype="b")


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> Any:
    """An array as protocol 5 writes it; numpy refuses objects and too large a shape."""
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _scalar(dtype: Any, content: Any) -> Any:
    """A numpy scalar from its bytes, as a plain number."""
    if isinstance(content, str):
        content = content.encode("latin1")
    if dtype.hasobject:
        raise TypeError("object scalars are not read")
    return np.frombuffer(content, dtype=dtype, count=1)[0].item()


def _latin1(text: Any, encoding: Any = "latin1") -> bytes:
    """How Python 3 writes bytes for protocol 2."""
    if encoding not in ("latin1", "latin-1"):
        raise TypeError(f"bytes in encoding {encoding!r} are not read")
    return str(text).encode("latin1")


_SETS = {
    (module, name): kind
    for module in ("builtins", "__builtin__")
    for name, kind in (("set", set), ("frozenset", frozenset))
}
_ARRAYS: dict[tuple[str, str], Any] = {
    (module, name): _Allowed(call)
    for core in ("numpy.core", "numpy._core")
    for module, name, call in (
        (f"{core}.multiarray", "_reconstruct", _empty_array),
        (f"{core}.multiarray", "scalar", _scalar),
        (f"{core}.numeric", "_frombuffer", _from_buffer),
    )
}
_ALLOWED: dict[tuple[str, str], Any] = {
    **_SETS,
    **_ARRAYS,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): _Allowed(dict),
    ("_codecs", "encode"): _Allowed(_latin1),
}


class _Unpickler(pickle.Unpickler):
    """Finds nothing but what `_ALLOWED` lists."""

    def find_class(self, module: str, name: str) -> Any:
        """The allowed object of that name."""
        if (module, name) not in _ALLOWED:
            raise DataError(f"the pickle asks for {module}.{name}")
        return _ALLOWED[module, name]


_DAMAGE = (
    pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError,
    OverflowError, MemoryError, RecursionError, ImportError,
)  # fmt: skip


def read_pickle(path: Path) -> Any:
    """The content of a pickle of Python 2 or 3, arrays as nested lists.

    Strings of Python 2 are read as UTF-8, and where that fails as Latin-1.

    Raises:
        DataError: no such file, damaged, or it asks for more than plain data; nothing that it
            asks for has been run.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        try:
            return _unfold(content, "utf-8")
        except UnicodeDecodeError:
            return _unfold(content, "latin1")
    except DataError as error:
        raise DataError(
            f"{path}: {error}; only plain containers, numbers, strings and numpy arrays are read. "
            "The file was not run; get it again from its publisher"
        ) from error
    except _DAMAGE as error:
        raise DataError(
            f"{path}: damaged pickle ({type(error).__name__}: {error!s:.80})"
        ) from error


def _unfold(content: bytes, encoding: str) -> Any:
    value = _Unpickler(io.BytesIO(content), encoding=encoding).load()
    return _plain(value, iter(range(SHARING * len(content))))


def _plain(value: Any, budget: Iterator[int]) -> Any:
    """The value with arrays as nested lists; every value in it takes one from the budget."""
    if next(budget, None) is None:
        raise DataError("the pickle holds a container inside itself, or over and over")
    if isinstance(value, np.ndarray):
        return _plain(value.tolist(), budget)
    if isinstance(value, dict):
        return {key: _plain(item, budget) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, budget) for item in value]
    return value
