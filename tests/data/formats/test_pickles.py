"""Hostile pickles are refused and run nothing."""

import collections
import io
import os
import pickle
import subprocess

import numpy as np
import pytest

from boxrl.data.formats.pickles import read_pickle
from boxrl.errors import DataError


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def by_name(module, name, *args, protocol=b"\x80\x02"):
    """A pickle that calls module.name(*args), written by hand."""
    body = io.BytesIO()
    body.write(protocol + f"c{module}\n{name}\n(".encode())
    for arg in args:
        body.write(b"X" + len(arg).to_bytes(4, "little") + arg.encode())
    body.write(b"tR.")
    return body.getvalue()


def hostile(marker):
    shell = f"touch {marker}"
    return {
        "os.system": pickle.dumps(Call(os.system, shell)),
        "subprocess": pickle.dumps(Call(subprocess.call, ["sh", "-c", shell])),
        "eval": pickle.dumps(Call(eval, f"open({str(marker)!r}, 'w')")),
        "nested": pickle.dumps({"a": [1, {"b": Call(os.system, shell)}]}),
        "python 2 name": by_name("__builtin__", "eval", f"open({str(marker)!r}, 'w')"),
        "posix": by_name("posix", "system", shell),
        "dotted name": by_name("numpy", "testing.measure", shell, protocol=b"\x80\x04"),
        "numpy exec": by_name("numpy.testing._private.utils", "runstring", shell),
        "numpy load": by_name("numpy", "load", str(marker)),
        "getattr": by_name("builtins", "getattr", "a", "b"),
        "codec": by_name("_codecs", "encode", "abc", "zip"),
        "partial": by_name("functools", "partial", "x"),
    }


@pytest.mark.parametrize("kind", hostile("x"))
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path, kind):
    marker = tmp_path / "ran"
    path = tmp_path / "refs(unc).p"
    path.write_bytes(hostile(marker)[kind])
    with pytest.raises(DataError) as caught:
        read_pickle(path)
    assert str(caught.value).startswith(str(path))
    assert not marker.exists()


def test_an_allowed_function_cannot_be_changed_by_the_pickle(tmp_path):
    state = b"}X\x05\x00\x00\x00_callX\x01\x00\x00\x00xs"
    path = tmp_path / "x.p"
    path.write_bytes(b"\x80\x02c_codecs\nencode\n(N" + state + b"tb.")
    with pytest.raises(DataError):
        read_pickle(path)
    path.write_bytes(pickle.dumps(b"\xe9", protocol=2))  # needs the same function, still whole
    assert read_pickle(path) == b"\xe9"


def test_an_array_cannot_claim_more_than_it_holds(tmp_path):
    path = tmp_path / "x.p"
    whole = pickle.dumps(np.arange(4.0), protocol=2)
    path.write_bytes(whole.replace(b"K\x04\x85", b"J\xff\xff\xff\x7f\x85"))
    assert path.read_bytes() != whole
    with pytest.raises(DataError, match="damaged"):
        read_pickle(path)


def test_an_array_without_content_cannot_be_asked_for(tmp_path):
    path = tmp_path / "x.p"
    path.write_bytes(b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7f\x85tR.")
    with pytest.raises(DataError, match="arrays come with their content"):
        read_pickle(path)


def doubled(value, times):
    for _ in range(times):
        value = [value, value]
    return value


def test_a_few_bytes_cannot_unfold_to_more_than_the_memory(tmp_path):
    itself = []
    itself.append(itself)
    path = tmp_path / "x.p"
    for value in (doubled([], 60), {1: doubled({}, 60)}, itself):
        path.write_bytes(pickle.dumps(value))
        with pytest.raises(DataError, match="over and over"):
            read_pickle(path)
    shared = list(range(50))
    path.write_bytes(pickle.dumps([shared, shared]))
    assert read_pickle(path) == [shared, shared]


@pytest.mark.parametrize("protocol", range(6))
def test_plain_content_is_read_with_arrays_as_lists(tmp_path, protocol):
    content = {
        "text": "café",
        "bytes": b"\x00\xff",
        "numbers": [1, 2.5, True, None, 2**70],
        "array": np.array([[1.0, 2.0], [3.0, 4.0]]),
        "objects": np.array([[1, 2], "a"], dtype=object),
        "scalar": np.float32(0.5),
        "set": {1, 2},
        "ordered": collections.OrderedDict(a=1),
        "tuple": (1, (2, 3)),
    }
    path = tmp_path / "x.p"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    assert read_pickle(path) == {
        **content,
        "array": [[1.0, 2.0], [3.0, 4.0]],
        "objects": [[1, 2], "a"],
        "scalar": 0.5,
        "ordered": {"a": 1},
        "tuple": [1, [2, 3]],
    }


@pytest.mark.parametrize("content", [b"", b"\x80", b"garbage", b"\x80\x04\x95", b"(" * 1000])
def test_a_damaged_pickle_is_an_error_of_one_line(tmp_path, content):
    path = tmp_path / "x.p"
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged pickle"):
        read_pickle(path)


def test_a_missing_pickle_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_pickle(tmp_path / "x.p")
