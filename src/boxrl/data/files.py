"""JSON lines and atomic writes."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from boxrl.errors import DataError

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is no sample; the bound keeps a damaged file from filling the memory."""


def read_lines(path: Path) -> Iterator[tuple[int, bytes | DataError]]:
    """(line number from 1, line) per line that is not blank; an error in place of a huge one.

    Raises:
        DataError: no such file.
    """
    try:
        handle = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    with handle:
        number = 0
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


def parse_json_object(line: bytes | str, where: str) -> dict[str, Any]:
    """The JSON object in `line`; `where` starts the error message.

    Raises:
        DataError: not UTF-8, not JSON, or not an object.
    """
    try:
        row = json.loads(line.rstrip())  # a cut line is told as such, not by its newline
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 (byte {error.start} of the line)") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object, got {type(row).__name__}")
    return row


@contextlib.contextmanager
def write_atomic(path: Path) -> Iterator[IO[str]]:
    """A text file that appears under its name only when it is whole.

    Raises:
        DataError: the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON, written atomically; NaN and infinity become null."""
    with write_atomic(path) as handle:
        json.dump(finite(value), handle, indent=2, ensure_ascii=False)
        handle.write("\n")


def finite(value: Any) -> Any:
    """The value with every NaN or infinite float replaced by None, which JSON can hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
