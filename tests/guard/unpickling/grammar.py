"""Pickles drawn from their grammar, with what they hold; and spoilt, so that nobody knows.

A value is written by opcodes drawn among all that could write it, in any protocol, with what is
kept and named again in between. Spoilt ones have opcodes of any kind, hostile ones included, put
in, taken out, doubled, swapped or changed.
"""

from __future__ import annotations

import pickle
import random
import struct
from typing import Any, ClassVar

import numpy as np

from tests.guard.unpickling.assembly import (
    again,
    array,
    call,
    dtype,
    keep,
    name,
    raw,
    scalar,
    sequence,
    text,
    whole,
)

Drawn = tuple[list[bytes], Any]
"""Opcodes with their arguments, and the value that they leave on the stack."""

TEXTS = ("", "a", "sent_id", "café", "😀", "\ud800", "it's", "a\\b\n", "x" * 70, "x" * 300)
NUMBERS = (
    0,
    1,
    -1,
    255,
    256,
    65535,
    65536,
    2**31 - 1,
    -(2**31),
    2**63,
    2**64,
    -(2**63) - 1,
    2**200,
)
FLOATS = (0.0, -0.0, 0.1, -2.5, 1e300, float("inf"), float("nan"))
KINDS = ("<f8", ">f4", "<i8", ">i2", "|u1", "|b1", "<f2", "<U2", "|S2")


def draw(rng: random.Random, depth: int = 4) -> Drawn:
    """A value and the opcodes that write it."""
    if depth and rng.random() < 0.6:
        return rng.choice([a_list, a_dict, a_tuple, a_set, shared])(rng, depth - 1)
    return rng.choice([a_number, a_float, a_text, some_bytes, a_truth, an_array, a_scalar])(rng)


def a_number(rng: random.Random) -> Drawn:
    value = rng.choice(NUMBERS) if rng.random() < 0.7 else rng.randint(-(2**70), 2**70)
    ways = [b"I%d\n" % value, b"L%dL\n" % value, b"L%d\n" % value, whole(value)]
    if len(whole(value)) < 256 + 5:
        ways.append(b"\x8a" + bytes([len(whole(value)) - 5]) + whole(value)[5:])
    if -(2**31) <= value < 2**31:
        ways.append(b"J" + value.to_bytes(4, "little", signed=True))
    if 0 <= value < 2**16:
        ways.append(b"M" + value.to_bytes(2, "little"))
    if 0 <= value < 2**8:
        ways.append(b"K" + bytes([value]))
    return [rng.choice(ways)], value


def a_float(rng: random.Random) -> Drawn:
    value = rng.choice([*FLOATS, rng.uniform(-1e3, 1e3)])
    return [rng.choice([b"G" + struct.pack(">d", value), b"F%s\n" % repr(value).encode()])], value


def a_text(rng: random.Random) -> Drawn:
    value = rng.choice(TEXTS)
    data = value.encode(errors="surrogatepass")
    size = len(data).to_bytes(8, "little")
    line = value.replace("\\", "\\u005c").replace("\n", "\\u000a").encode("raw-unicode-escape")
    ways = [b"X" + size[:4] + data, b"\x8d" + size + data, b"V" + line + b"\n"]
    if len(data) < 256:
        ways.append(b"\x8c" + size[:1] + data)
    if value.isascii() and "\n" not in value:
        ways += [b"T" + size[:4] + data, b"S%s\n" % repr(value).encode()]
        ways += [b"U" + size[:1] + data] * (len(data) < 256)
    return [rng.choice(ways)], value


def some_bytes(rng: random.Random) -> Drawn:
    value = rng.randbytes(rng.choice([0, 1, 9, 300]))
    size = len(value).to_bytes(8, "little")
    ways = [b"B" + size[:4] + value, b"\x8e" + size + value, b"\x96" + size + value]
    ways += [b"C" + size[:1] + value] * (len(value) < 256)
    old = call(name("_codecs", "encode"), text(value.decode("latin1")), text("latin1"))
    return [rng.choice([*ways, old])], value


def a_truth(rng: random.Random) -> Drawn:
    ways = {b"N": None, b"\x88": True, b"\x89": False, b"I01\n": True, b"I00\n": False}
    code = rng.choice(list(ways))
    return [code], ways[code]


def many(rng: random.Random, depth: int) -> list[Drawn]:
    return [draw(rng, depth) for _ in range(rng.choice([0, 1, 1, 2, 3, 5]))]


def codes(drawn: list[Drawn]) -> list[bytes]:
    return [code for written, _ in drawn for code in written]


def a_list(rng: random.Random, depth: int) -> Drawn:
    items = many(rng, depth)
    one_by_one = [code for item in items for code in (*item[0], b"a")]
    ways = [[b"]", b"(", *codes(items), b"e"], [b"(", *codes(items), b"l"], [b"]", *one_by_one]]
    return rng.choice(ways), [value for _, value in items]


def a_tuple(rng: random.Random, depth: int) -> Drawn:
    items = many(rng, depth)
    ways = [[b"(", *codes(items), b"t"]]
    if len(items) < 4:
        ways.append([*codes(items), (b")", b"\x85", b"\x86", b"\x87")[len(items)]])
    return rng.choice(ways), [value for _, value in items]


def keys(rng: random.Random) -> list[Drawn]:
    drawn = [rng.choice([a_number, a_text, a_truth, some_bytes])(rng) for _ in range(3)]
    small = [key for key in drawn if not isinstance(key[1], int) or -(2**63) <= key[1] < 2**64]
    return [key for key in small if key[1] != "\ud800"]


def a_dict(rng: random.Random, depth: int) -> Drawn:
    pairs = [(key, draw(rng, depth)) for key in keys(rng)]
    flat = [item for pair in pairs for item in pair]
    single = [code for key, item in pairs for code in (*key[0], *item[0], b"s")]
    ordered = call(name("collections", "OrderedDict"))
    ways = [
        [b"}", b"(", *codes(flat), b"u"],
        [b"(", *codes(flat), b"d"],
        [b"}", *single],
        [ordered, *single],
    ]
    return rng.choice(ways), {key[1]: item[1] for key, item in pairs}


def a_set(rng: random.Random, depth: int) -> Drawn:
    members = keys(rng)
    listed = [name("builtins", "set"), b"(", b"]", b"(", *codes(members), b"e", b"t", b"R"]
    ways = [[b"\x8f", b"(", *codes(members), b"\x90"], [b"(", *codes(members), b"\x91"], listed]
    return rng.choice(ways), {value for _, value in members}


def shared(rng: random.Random, depth: int) -> Drawn:
    """A value that is kept and named again."""
    number = rng.choice([rng.randrange(100), rng.randrange(2**32)])
    written, value = draw(rng, depth)
    puts, gets = [keep(number), b"p%d\n" % number], [again(number), b"g%d\n" % number]
    if number < 256:
        puts.append(b"q" + bytes([number]))
        gets.append(b"h" + bytes([number]))
    return [*written, rng.choice(puts), rng.choice(gets), b"\x86"], [value, value]


def an_array(rng: random.Random) -> Drawn:
    kind = np.dtype(rng.choice(KINDS))
    shape = rng.choice([(), (0,), (1,), (4,), (2, 3), (2, 1, 2), (2, 0), (0, 4)])
    count = int(np.prod(shape))
    items = {"U": ["a", "é😀"], "S": [b"a", b"\xff\0b"]}.get(kind.kind, [0, 1, 100])
    made = np.array([rng.choice(items) for _ in range(count)], kind).reshape(shape)
    order = rng.choice("CF")
    data, side = raw(made.tobytes(order)), sequence(*map(whole, shape))
    told = typed(kind)
    buffer = name(rng.choice(["numpy.core.numeric", "numpy._core.numeric"]), "_frombuffer")
    by_column = b"\x88" if order == "F" else b"\x89"
    ways = [
        array(told, side, data, by_column=by_column),
        call(buffer, data, told, side, text(order)),
    ]
    return [rng.choice(ways)], made.tolist()


def typed(kind: np.dtype[Any]) -> bytes:
    return dtype(kind.str[1:], kind.str[:1].encode())


def a_scalar(rng: random.Random) -> Drawn:
    kind = np.dtype(rng.choice([kind for kind in KINDS if kind[1] not in "US"]))
    made = np.array(rng.choice([0, 1, 50]), kind)
    return [scalar(typed(kind), raw(made.tobytes()))], made.item()


# --- Spoilt -----------------------------------------------------------------------------------

HOSTILE = (
    name("os", "system"), name("builtins", "eval"), name("builtins", "getattr"),
    name("numpy", "dtype"), name("numpy", "ndarray"), name("builtins", "set"),
    name("numpy.core.multiarray", "_reconstruct"), name("numpy._core.multiarray", "scalar"),
    name("_codecs", "encode"), name("collections", "OrderedDict"), text("touch x"), text("O8"),
    dtype("O8"), dtype("f8", b"<"), dtype("S1000000"), scalar(dtype("O8"), raw(bytes(8))),
    text("os") + text("system") + b"\x93", b"ios\nsystem\n", b"X\xff\xff\xff\x7f",
    b"\x8b\xff\xff\xff\x7f", b"\x8d" + b"\xff" * 8, b"r\xff\xff\xff\xff", b"j\xff\xff\xff\xff",
    b"\x95" + b"\xff" * 8, b"\x80\x05", b"q\x00h\x00\x86" * 40, b"(" * 30, b"]" * 150,
    b"\x85" * 150, b"a" * 30, whole(2**9000),
)  # fmt: skip


def spoil(rng: random.Random, written: list[bytes]) -> list[bytes]:
    """The opcodes with some of them changed, and now and then a byte."""
    written = list(written)
    for _ in range(rng.choice([1, 1, 2, 4])):
        place, other = rng.randrange(len(written) + 1), rng.randrange(len(written))
        kind = rng.randrange(6)
        if kind == 0:
            written.insert(place, rng.choice(HOSTILE))
        elif kind == 1:
            written.insert(place, bytes([rng.randrange(256)]))
        elif kind == 2:
            written.insert(place, written[other])
        elif kind == 3 and len(written) > 1:
            del written[other]
        elif kind == 4:
            data = bytearray(written[other])
            data[rng.randrange(len(data))] = rng.randrange(256)
            written[other] = bytes(data)
        else:
            written[other], written[place - 1] = written[place - 1], written[other]
    return written


NAMES = {
    ("builtins", "set"): set,
    ("collections", "OrderedDict"): dict,
    ("_codecs", "encode"): lambda value, encoding: value.encode(encoding),
}


class Plain(pickle._Unpickler):  # type: ignore[name-defined,misc]
    """Python's own unpickler, for pickles without arrays; bytes and sets as ours has them."""

    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]

    def find_class(self, module: str, attribute: str) -> Any:
        return NAMES[module, attribute]

    def _decode_string(self, value: bytes) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.decode("latin1")

    def load_frame(self) -> None:
        self.read(8)

    dispatch[0x95] = load_frame

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(size))

    dispatch[0x96] = load_bytearray8

    def load_frozenset(self) -> None:
        members = self.pop_mark()
        self.append(set(members))

    dispatch[0x91] = load_frozenset
