"""JSON lines, locks and atomic writes."""

from __future__ import annotations

import contextlib
import gc
import gzip
import hashlib
import json
import math
import os
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TypeGuard, cast

from boxrl.errors import DataError, UsageError
from boxrl.guard.files import parse_json_object
from boxrl.guard.outputs import refuse_link
from boxrl.guard.secrets import redacting

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is no sample; the bound keeps a damaged file from filling the memory."""

PATIENCE_S = 5.0
"""How long a write waits for another process's of the same file, most of which take no second."""


GZIP = b"\x1f\x8b"
"""How every file that is packed by gzip begins."""

MOST_UNPACKED = 100
"""How many times the size of a packed file its content may have; JSON of boxes takes a tenth."""

LARGEST_WHOLE = 2**53
"""The largest integer that JSON's readers agree on; no size or count comes near it."""


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number that a float holds; True and False are none."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def is_box(value: Any) -> TypeGuard[Sequence[float]]:
    """Whether a JSON value is four such numbers, whatever they measure."""
    return isinstance(value, list | tuple) and len(value) == 4 and all(map(is_number, value))


def number_or_none(value: Any) -> float | None:
    """The JSON value if it is such a number, else None."""
    return value if is_number(value) else None


def is_whole(value: Any, lowest: int = 0) -> TypeGuard[int]:
    """Whether a JSON value is an integer from `lowest` to 2^53; True and False are none."""
    return type(value) is int and lowest <= value <= LARGEST_WHOLE


def as_whole(value: float) -> float:
    """200.0, as pandas writes whole numbers beside missing ones, is 200; others are as they are."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@contextlib.contextmanager
def no_cycle_search() -> Iterator[None]:
    """Spare Python's search for reference cycles, which takes as long as reading 100,000 rows.

    Rows hold no cycles. Also a decorator.
    """
    searched = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searched:
            gc.enable()


def read_lines(path: Path) -> Iterator[tuple[int, bytes | DataError]]:
    """(line number from 1, line) per line that is not blank; an error in place of a huge one.

    Args:
        path: the file, packed by gzip or not.

    Raises:
        DataError: no such file, or one whose gzip is damaged or unpacks to too much.
    """
    number = 0
    with _opened_lines(path) as handle:
        while line := handle.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = handle.readline(MAX_LINE_BYTES)
                yield (
                    number,
                    DataError(
                        f"{path}:{number}: line of more than {MAX_LINE_BYTES // 2**20} MB; "
                        "expected one JSON object a line"
                    ),
                )
            elif line.strip():
                yield number, line


@contextlib.contextmanager
def _opened_lines(path: Path) -> Iterator[IO[bytes]]:
    """The file, out of gzip where it is in it."""
    try:
        handle = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    with handle:
        if handle.peek(2)[:2] != GZIP:
            yield handle
            return
        most = max(MAX_LINE_BYTES, MOST_UNPACKED * os.fstat(handle.fileno()).st_size)
        try:
            with gzip.GzipFile(fileobj=handle) as unpacked:
                yield cast(IO[bytes], _Bounded(unpacked, most))
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}:1: a gzip file that cannot be read ({error})") from error


class _Bounded:
    """A packed stream whose lines end in an error where they hold more than can be meant."""

    def __init__(self, stream: gzip.GzipFile, most: int) -> None:
        self._stream, self._left = stream, most

    def readline(self, limit: int) -> bytes:
        line = self._stream.readline(limit)
        self._left -= len(line)
        if self._left < 0:
            raise OSError("it unpacks to too much; unpack it yourself: gunzip -k")
        return line


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, JSON object) per line; blank lines are skipped.

    Raises:
        DataError: no such file, a line too long, not UTF-8, or not a JSON object; the message
            starts with `file:line`.
    """
    for number, line in read_lines(path):
        if isinstance(line, DataError):
            raise line
        yield number, parse_json_object(line, f"{path}:{number}")


def open_locked(path: Path, target: Path, patience_s: float = 0.0) -> IO[str]:
    """The file, opened for appending; no other process gets it so before it is closed.

    A process that is killed lets go of it. A file system without locks gives none.

    Args:
        path: created where it is missing; a link is not followed.
        target: what it guards, for the message.
        patience_s: how long another process is waited for.

    Raises:
        UsageError: another process is writing it, or the system is Windows.
        OSError: it cannot be opened.
    """
    try:
        import fcntl  # here, so that rewards and metrics import on Windows, which has none
    except ImportError as error:
        raise UsageError(f"{target}: boxrl writes files on Linux and macOS only") from error
    deadline = time.monotonic() + patience_s
    while True:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        handle = os.fdopen(descriptor, "a", encoding="utf-8")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.close()
            if time.monotonic() >= deadline:
                raise UsageError(
                    f"{target}: another process is writing it; wait for it, or write elsewhere"
                ) from error
            time.sleep(0.05)
            continue
        except OSError:  # no locks here, as on some cluster file systems
            return handle
        if path.exists() and os.path.samestat(path.stat(), os.fstat(handle.fileno())):
            return handle
        handle.close()  # renamed or removed by the process that had it


def is_held(path: Path) -> bool | None:
    """Whether a process holds a file that `open_locked` opened.

    Args:
        path: the file.

    Returns:
        None where that cannot be known: there is no such file, or there are no locks here.
    """
    try:
        import fcntl

        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """While the block lasts, a second process that wants to write `path` is told so.

    Raises:
        UsageError: this is the second process.
        OSError: the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    with open_locked(lock, path):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


@contextlib.contextmanager
def write_atomic(path: Path) -> Iterator[IO[str]]:
    """A text file that appears under its name only when it is whole, without any hidden secret.

    Until then it is the hidden `.NAME.partial`; what a kill leaves of it, the next write replaces.

    Raises:
        UsageError: another process is writing it.
        DataError: it is a link, the folder cannot be written to, or the disk is full.
    """
    refuse_link(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open_locked(partial, path, PATIENCE_S)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        handle.truncate(0)
        yield redacting(handle)
        handle.flush()
        os.fsync(handle.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    finally:
        with contextlib.suppress(OSError):  # a full disk is told of once
            handle.close()


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON, written atomically; NaN and infinity become null."""
    with write_atomic(path) as handle:
        dump_json(value, handle)


def dump_json(value: Any, handle: IO[str]) -> None:
    """Write `value` as `write_json` does, into an open file."""
    json.dump(finite(value), handle, indent=2, ensure_ascii=False)
    handle.write("\n")


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def finite(value: Any) -> Any:
    """The value with every NaN or infinite float replaced by None, which JSON can hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def share_weights(folder: Path) -> None:
    """Give a folder's weights the mode of any new file.

    safetensors writes them for their owner alone, whatever the umask says.

    Args:
        folder: with *.safetensors, or without.
    """
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o666 & ~mask)
