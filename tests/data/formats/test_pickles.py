"""Files are read by a process of its own, whatever stands in them and around them."""

from __future__ import annotations

import collections
import os
import pickle
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from boxrl.data.formats import pickles
from boxrl.data.formats.pickles import read_pickle
from boxrl.errors import DataError
from tests.guard.unpickling import hostile
from tests.guard.unpickling.assembly import read, whole_pickle
from tests.guard.unpickling.grammar import draw, spoil


def told(path: Path) -> str:
    """The line by which a file is refused."""
    with pytest.raises(DataError) as caught:
        read_pickle(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "refs(unc).p"
    for content in hostile.running(marker).values():
        path.write_bytes(content)
        assert "The file was not run" in told(path)
        assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        whole_pickle(b"})" + b"\x85" * 2_000_000 + b"Ns"),
        hostile.bombs()["a doubled tuple as a key"],
        hostile.bombs()["a number of 4 MB"],
        hostile.lying()["a field longer than its item"],
    ],
    ids=["a deep tuple as a key", "a doubled tuple as a key", "a number of 4 MB", "a lying field"],
)
def test_what_crashed_or_hung_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "refs(unc).p"
    path.write_bytes(content)
    assert "only plain containers" in told(path)


def test_a_file_is_read_as_its_bytes_are(tmp_path: Path) -> None:
    rng = random.Random(3)
    path = tmp_path / "x.p"
    for case in range(24):
        opcodes, _ = draw(rng)
        path.write_bytes(b"".join(spoil(rng, opcodes) if case % 3 else opcodes) + b".")
        try:
            expected = repr(read(path.read_bytes()))
        except DataError as error:
            assert told(path) == f"{path}: {error}"
        else:
            assert len(repr(read_pickle(path))) == len(expected)  # sets have no order


@pytest.mark.parametrize("protocol", range(6))
def test_plain_content_is_read_with_arrays_as_lists(tmp_path: Path, protocol: int) -> None:
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


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    assert "cannot be read (No such file" in told(tmp_path / "x.p")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.p")
    assert "not a regular file" in told(tmp_path / "x.p")
    assert "Is a directory" in told(tmp_path)


def test_a_file_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.p").write_bytes(b"N.more")
    assert read_pickle(tmp_path / "x.p") is None
    monkeypatch.setattr(pickles, "MOST_BYTES", 5)
    assert "holds more than" in told(tmp_path / "x.p")


@pytest.mark.parametrize(
    ("reader", "said"),
    [
        ("import os; os.kill(os.getpid(), 9)", "ended with status -9"),
        ("raise MemoryError('none')", "ended with status 1 (MemoryError: none)"),
        ("import time; time.sleep(60)", "not read within 0.5 seconds"),
    ],
)
def test_a_process_that_ends_or_hangs_is_one_line(
    reader: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.p"
    path.write_bytes(b"N.")
    assert read_pickle(path) is None
    monkeypatch.setattr(pickles, "PATIENCE_S", 0.5 if "sleep" in reader else 60)
    monkeypatch.setattr(pickles, "READER", reader)
    assert said in told(path)


def test_nothing_is_imported_from_the_folder_that_one_works_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.p").write_bytes(b"N.")
    for module in ("msgspec", "boxrl", "struct", "math", "gc"):
        (tmp_path / f"{module}.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    assert read_pickle(Path("x.p")) is None
    assert not (tmp_path / "ran").exists()
