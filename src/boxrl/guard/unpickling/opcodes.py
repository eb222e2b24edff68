"""Opcodes of pickles, protocols 0 to 5, that make plain values.

Source: the module `pickletools` of Python, which documents each. Those that make instances of
classes are refused; those that no pickler writes for plain data are damage.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from struct import Struct
from typing import Any

from boxrl.guard.unpickling.names import build, call, named
from boxrl.guard.unpickling.state import (
    HALF_TEXT,
    HUGE,
    MAX_NUMBER,
    SHORT_TEXT,
    Ext,
    Members,
    State,
    plain_keys,
    refused,
)

Operation = Callable[[State], None]


def run(content: bytes) -> Any:
    """The value that the pickle leaves, with `Array` and `Members` in place of arrays and sets.

    Raises:
        DataError: the pickle asks for more than plain data.
        ValueError, LookupError, ArithmeticError, struct.error: the pickle is damaged.
    """
    state = State(content)
    read, operations = state.read, OPERATIONS
    while (code := read(1)) != b".":
        operations[code](state)
    if state.marks or len(state.stack) != 1:
        raise ValueError("ends with more or fewer values than one")
    return state.stack[0]


# --- Numbers and texts ------------------------------------------------------------------------


def _push(make: Callable[[State], Any]) -> Operation:
    def operation(state: State) -> None:
        value = make(state)  # may change which stack it is
        state.stack.append(value)

    return operation


def _number(form: str) -> Operation:
    """A number in the form of `struct`."""
    size, unpack = Struct(form).size, Struct(form).unpack

    def operation(state: State) -> None:
        state.stack.append(unpack(state.read(size))[0])

    return operation


def _sized(form: str, make: Callable[[State, bytes], Any]) -> Operation:
    """A length, then so many bytes, of which `make` makes the value."""
    size, unpack = Struct(form).size, Struct(form).unpack

    def operation(state: State) -> None:
        (length,) = unpack(state.read(size))
        data = state.read(length)
        if len(data) != length:
            raise ValueError("cut short")
        state.stack.append(make(state, data))

    return operation


def _bytes(state: State, data: bytes) -> bytes:
    return data


def _text(state: State, data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        data.decode(errors="surrogatepass")  # half characters are text, if no good one
        return Ext(HALF_TEXT, data)


def _text_line(state: State) -> Any:
    text = state.line().decode("raw-unicode-escape")
    return _text(state, text.encode(errors="surrogatepass"))


def _old_text(state: State, data: bytes) -> str:
    """A string of Python 2, which may also be the bytes of an array."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin1")


ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|.?)")
ESCAPED = {b"\\": b"\\", b"'": b"'", b'"': b'"', b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def _old_text_line(state: State) -> str:
    """A string as Python 2's repr writes it."""
    line = state.line()
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[:1] != line[-1:]:
        raise ValueError("a string without quotes")

    def meant(found: re.Match[bytes]) -> bytes:
        code = found[1]
        return bytes([int(code[1:], 16)]) if len(code) > 1 else ESCAPED[code]

    return _old_text(state, ESCAPE.sub(meant, line[1:-1]))


def _whole(value: int) -> Any:
    if -(2**63) <= value < 2**64:
        return value
    return Ext(HUGE, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))


def _long(state: State, data: bytes) -> Any:
    if len(data) > MAX_NUMBER:
        raise refused(f"the pickle holds a whole number of {len(data)} bytes")
    return _whole(int.from_bytes(data, "little", signed=True))


def _digits(state: State) -> bytes:
    line = state.line()
    if len(line) > MAX_NUMBER:
        raise refused(f"the pickle holds a number of {len(line)} digits")
    return line


def _whole_line(state: State) -> Any:
    line = _digits(state)
    return line == b"01" if line in (b"00", b"01") else _whole(int(line, 0))


def _long_line(state: State) -> Any:
    return _whole(int(_digits(state).removesuffix(b"L"), 0))


# --- Containers -------------------------------------------------------------------------------


def _with_items(target: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    target.update(zip(plain_keys(items[::2]), items[1::2], strict=True))
    return target


def _append(state: State) -> None:
    value = state.stack.pop()
    state.top(list).append(value)


def _extend(state: State) -> None:
    values = state.since_mark()
    state.top(list).extend(values)


def _set_item(state: State) -> None:
    value, key = state.stack.pop(), state.stack.pop()
    _with_items(state.top(dict), [key, value])


def _set_items(state: State) -> None:
    items = state.since_mark()
    _with_items(state.top(dict), items)


def _add_members(state: State) -> None:
    members = state.since_mark()
    state.top(Members).items.update(plain_keys(members))


def _tuple_of(size: int) -> Operation:
    def operation(state: State) -> None:
        values = tuple(state.stack[-size:])
        if len(values) != size:
            raise ValueError("a tuple of missing values")
        state.stack[-size:] = [values]

    return operation


def _put(index: Callable[[State], int]) -> Operation:
    def operation(state: State) -> None:
        state.memo[index(state)] = state.stack[-1]

    return operation


def _get(index: Callable[[State], int]) -> Operation:
    def operation(state: State) -> None:
        value = state.memo[index(state)]
        state.stack.append(value)
        if type(value) in TEXTS:
            length = len(value.data if type(value) is Ext else value)
            if length > SHORT_TEXT:
                state.spend(length)

    return operation


TEXTS = frozenset({str, bytes, Ext})


def _index(form: str) -> Callable[[State], int]:
    size, unpack = Struct(form).size, Struct(form).unpack
    return lambda state: unpack(state.read(size))[0]


def _index_line(state: State) -> int:
    line = _digits(state)
    if not line.isdigit():
        raise ValueError("a memo index that is no number")
    return int(line)


# --- Others -----------------------------------------------------------------------------------


def _name_lines(state: State) -> Any:
    return named(state.line().decode(), state.line().decode())


def _name_of_two(state: State) -> Any:
    name, module = state.stack.pop(), state.stack.pop()
    return named(module, name)


def _protocol(state: State) -> None:
    (number,) = state.read(1)
    if number > 5:
        raise ValueError(f"protocol {number}")


def _frame(state: State) -> None:
    state.read(8)  # how long the next piece was when it was written


def _of_objects(state: State) -> None:
    raise refused("the pickle asks for an object that is no plain data")


def _cut_short(state: State) -> None:
    raise ValueError("cut short")


OPERATIONS: dict[bytes, Operation] = {
    b"": _cut_short,
    b"\x80": _protocol,
    b"\x95": _frame,
    b"N": _push(lambda state: None),
    b"\x88": _push(lambda state: True),
    b"\x89": _push(lambda state: False),
    b"I": _push(_whole_line),
    b"L": _push(_long_line),
    b"K": _number("B"),
    b"M": _number("<H"),
    b"J": _number("<i"),
    b"\x8a": _sized("B", _long),
    b"\x8b": _sized("<I", _long),
    b"F": _push(lambda state: float(_digits(state))),
    b"G": _number(">d"),
    b"S": _push(_old_text_line),
    b"U": _sized("B", _old_text),
    b"T": _sized("<I", _old_text),
    b"V": _push(_text_line),
    b"\x8c": _sized("B", _text),
    b"X": _sized("<I", _text),
    b"\x8d": _sized("<Q", _text),
    b"C": _sized("B", _bytes),
    b"B": _sized("<I", _bytes),
    b"\x8e": _sized("<Q", _bytes),
    b"\x96": _sized("<Q", _bytes),
    b"(": State.mark,
    b"]": _push(lambda state: []),
    b"l": _push(State.since_mark),
    b"a": _append,
    b"e": _extend,
    b"}": _push(lambda state: {}),
    b"d": _push(lambda state: _with_items({}, state.since_mark())),
    b"s": _set_item,
    b"u": _set_items,
    b"\x8f": _push(lambda state: Members()),
    b"\x90": _add_members,
    b"\x91": _push(lambda state: Members(state.since_mark())),
    b")": _push(lambda state: ()),
    b"t": _push(lambda state: tuple(state.since_mark())),
    b"\x85": _tuple_of(1),
    b"\x86": _tuple_of(2),
    b"\x87": _tuple_of(3),
    b"p": _put(_index_line),
    b"q": _put(_index("B")),
    b"r": _put(_index("<I")),
    b"\x94": _put(lambda state: len(state.memo)),
    b"g": _get(_index_line),
    b"h": _get(_index("B")),
    b"j": _get(_index("<I")),
    b"c": _push(_name_lines),
    b"\x93": _push(_name_of_two),
    b"R": _push(call),
    b"b": build,
} | {bytes([code]): _of_objects for code in b"PQio\x81\x82\x83\x84\x92\x97\x98"}
