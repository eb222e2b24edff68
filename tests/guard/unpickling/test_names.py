"""Numpy arrays, sets and ordered dicts: as numpy has them, from every numpy and protocol."""

from __future__ import annotations

import base64
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.guard.unpickling.assembly import array, dtype, read, sequence, whole, whole_pickle

WRITTEN = Path(__file__).parents[2] / "golden" / "pickles" / "written.jsonl"
PICKLES = {
    f"numpy {row['numpy']}, Python {row['python']}, protocol {protocol}": base64.b64decode(content)
    for row in map(json.loads, WRITTEN.read_text().splitlines())
    for protocol, content in enumerate(row["pickles"])
}


@pytest.mark.parametrize("writer", PICKLES)
def test_what_python_2_and_3_and_numpy_1_and_2_write_is_read(writer: str) -> None:
    assert read(PICKLES[writer]) == {
        "text": "café 😀",
        "string": "it's \"quoted\"\n\t\\\x7f",
        "truths": [True, False, None],
        "numbers": [
            0, -1, 255, 256, 65536, -(2**31), 2**31, 2**63, -(2**63) - 1, 2**70, 0.1, 1e300,
        ],
        "tuples": [[], [1], [1, 2], [1, 2, 3], [1, 2, 3, [4]]],
        "set": {1, 2},
        "ordered": {"b": 1, "a": 2},
        "scalars": [-7, 200, 0.5, 0.1, True],
        "floats": [[10.5, -2.0], [[0.5]], 3.0],
        "wholes": [-2, -1, 0, 1],
        "other order": [0, 1, 2],
        "by column": [
            [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]],
            [[12, 13, 14, 15], [16, 17, 18, 19], [20, 21, 22, 23]],
        ],
        "part": [[0, 2], [4, 6], [8, 10]],
        "truths of numpy": [True, False],
        "none": [[], [[], []]],
        "texts": ["a", "bé"],
        "bytes": [b"a", b"\xff\x00b"],
        "objects": [[1, 2], "a"],
    }  # fmt: skip


KINDS = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "S3", "U3", "O")
SHAPES: tuple[tuple[int, ...], ...] = (
    (), (1,), (0,), (7,), (2, 3), (3, 1, 2), (1, 1, 1, 1), (0, 4), (4, 0), (2, 0, 3), (2, 3, 4, 5),
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", range(6))
def test_an_array_is_what_numpy_makes_of_it(kind: str, protocol: int) -> None:
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        numbers = rng.integers(-100, 100, shape)
        plain = np.array(numbers.astype("U3") if kind == "U3" else numbers, kind)
        for order in "CF":
            for swapped in (plain, plain.astype(plain.dtype.newbyteorder())):
                given = np.asarray(swapped, order=order)
                found = read(pickle.dumps(given, protocol))
                assert repr(found) == repr(given.tolist())  # True is no 1


@pytest.mark.parametrize("value", [0.1, -0.0, float("inf"), float("nan"), 5e-324, 65504.0])
def test_a_float_is_read_to_the_bit(value: float) -> None:
    for kind in (np.float16, np.float32, np.float64):
        assert repr(read(pickle.dumps(kind(value)))) == repr(kind(value).item())


@pytest.mark.parametrize(
    "data", [b"\0" * 8, bytes(range(8)), b"\xc3\xa9" * 4, b"\xff" * 8, b"a\xc3b\xa9" * 2]
)
def test_bytes_of_an_array_of_python_2_are_its_bytes_whatever_text_they_make(data: bytes) -> None:
    old = b"U" + bytes([len(data)]) + data
    for kind, count in (("u1", 8), ("i4", 2), ("f8", 1)):
        written = array(dtype(kind, b"<"), sequence(whole(count)), old)
        expected = np.frombuffer(data, f"<{kind}").tolist()
        assert repr(read(whole_pickle(written))) == repr(expected)


def test_a_type_may_be_shared_by_arrays() -> None:
    arrays = [np.arange(3.0), np.arange(4.0), np.float64(5)]
    for protocol in range(6):
        assert read(pickle.dumps(arrays, protocol)) == [[0, 1, 2], [0, 1, 2, 3], 5]


@pytest.mark.parametrize(
    "value",
    [np.datetime64("2020-01-01"), np.complex64(1), np.zeros(2, "V4"), np.zeros(2, [("a", "i4")]),
     np.zeros(1).view(np.recarray), np.ma.array([1]), np.longdouble(1), np.random.default_rng(0)],
)  # fmt: skip
def test_other_things_of_numpy_are_refused(value: Any) -> None:
    with pytest.raises(Exception, match="only plain containers"):
        read(pickle.dumps(value))
