"""Every opcode of plain data in every protocol, and no other."""

from __future__ import annotations

import pickle
import pickletools
from typing import Any

import pytest

from boxrl.errors import DataError
from boxrl.guard.unpickling.opcodes import OPERATIONS
from tests.guard.unpickling.assembly import read

CONTENT: dict[str, Any] = {
    "texts": ["", "a", "café", "😀", "\ud800", "x" * 300, "a\\u0041\n\0\x1a"],
    "bytes": [b"", b"\x00\xff", b"x" * 300],
    "small": [0, 1, -1, 255, 256, 2**31, 2**62, 2**63],
    "large": [2**64, -(2**64), 2**70, 10**400, -(10**400)],
    "floats": [0.1, -0.0, 1e308, float("inf"), 5e-324],
    "others": [None, True, False],
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "sets": [set(), {1, 2, 3}, {"a"}, {b"b"}, {None}, frozenset()],  # of one order in every process
    "dicts": [{}, {1: 2}, {None: 1, True: 2, 0.5: 3, "a": 4, b"b": 5, -(2**63): 6}],
    "many": [list(range(3000)), {key: str(key) for key in range(3000)}],
}  # fmt: skip


def plain(value: Any) -> Any:
    """The value with tuples as lists, and no set frozen."""
    if isinstance(value, frozenset):
        return set(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", CONTENT)
def test_plain_data_is_read(kind: str, protocol: int) -> None:
    for write in (pickle.dumps, pickle._dumps):  # type: ignore[attr-defined]  # C and Python
        assert repr(read(write(CONTENT[kind], protocol))) == repr(plain(CONTENT[kind]))


REFUSED = {
    "PERSID", "BINPERSID", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4",
    "NEXT_BUFFER", "READONLY_BUFFER",
}  # fmt: skip
UNUSED = {"POP", "POP_MARK", "DUP", "STOP"}
"""No pickler needs the first three for plain data; the last one ends the loop."""


def test_the_opcodes_are_a_closed_set() -> None:
    every = {op.code.encode("latin1"): op.name for op in pickletools.opcodes}
    assert {every[code] for code in OPERATIONS if code} == set(every.values()) - UNUSED
    refusing = OPERATIONS[b"Q"]
    assert {every[code] for code, made in OPERATIONS.items() if made is refusing} == REFUSED


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"S'a\\'b\"\\\\\\n\\r\\t\\x00\\x7f'\n.", "a'b\"\\\n\r\t\0\x7f"),
        (b'S"it\'s"\n.', "it's"),
        (b"S'caf\\xc3\\xa9'\n.", "café"),
        (b"U\x04caf\xe9.", "café"),
        (b"T\x05\0\0\0caf\xc3\xa9.", "café"),
        (b"(lp0\nI1\naI01\naI00\naL5L\naF1.5\na.", [1, True, False, 5, 1.5]),
        (b"(dp0\nS'a'\np1\nI1\nsg1\nI2\ns.", {"a": 2}),
        (b"Vcaf\\u00e9 \\U0001f600\n.", "café 😀"),
        (b"N.what follows is not read", None),
    ],
)  # fmt: skip
def test_text_opcodes_of_python_2(content: bytes, value: Any) -> None:
    assert repr(read(content)) == repr(value)


@pytest.mark.parametrize(
    "content",
    [
        b"", b".", b"N", b"\x80", b"\x80\x06N.", b"garbage", b"\x80\x04\x95", b"((((", b"(N.",
        b"NN.", b"I\n.", b"I1", b"Ix\n.", b"F\n.", b"Lx\n.", b"S'a\n.", b"Sa\n.", b"S'\\'\n.",
        b"S'\\q'\n.", b"V\\ud8\n.", b"X\xff\xff\xff\xffa.", b"X\1\0\0\0\xff.", b"J\1\0.",
        b"G\0.", b"h\0.", b"g-1\n.", b"Np-1\n.", b"q\0.", b"a.", b"]a.", b"N(Ne.", b"e.",
        b"}(Nu.", b"}Ns.", b"N\x86.", b"\x85.", b"t.", b"l.", b"cos\n.", b"N)\x93.", b"R.",
        b")R.", b"b.", b"0.", b"N2.", b"\xff.",
    ],
)  # fmt: skip
def test_damage_is_one_line(content: bytes) -> None:
    with pytest.raises(DataError) as caught:
        read(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", CONTENT)
def test_a_pickle_cut_short_is_damage(kind: str) -> None:
    for protocol in range(6):
        written = pickle.dumps(CONTENT[kind], protocol)
        for end in range(0, len(written) - 1, max(1, len(written) // 50)):
            with pytest.raises(DataError, match="damaged pickle"):
                read(written[:end])
