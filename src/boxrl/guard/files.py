"""Files that others made, read without trusting them.

What is read whole is a regular file of bounded size, so that no pipe is waited for and no device
fills the memory; JSON and YAML are refused before a few lines unfold to gigabytes; and a path
that leaves its folder, by a link or by `..`, is neither read nor written. Nothing is imported,
built or run by what the files say.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any

import msgspec
import yaml
from yaml.constructor import ConstructorError

from boxrl.errors import DataError, UsageError

MOST_BYTES = 64 * 2**20
"""Of a file that is read as a whole. Samples and predictions are read line by line instead."""

MOST_YAML_BYTES = 2**20
"""Of a YAML file; Python takes seconds for as much."""

MOST_YAML_VALUES = 100_000
"""A few lines of aliases can unfold to billions."""

MOST_JSON_VALUES = 5_000_000
"""Of one document: a list of empty lists takes thirty times the memory of its text."""

LONGEST_NUMBER = 10_000
"""Characters of a YAML number; reading one of a million in base 60 takes minutes."""


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file.

    Args:
        path: links are followed; see `inside`.
        most: bytes that it may hold.

    Raises:
        DataError: it cannot be read, is larger, or is a pipe, a device or a folder.
    """
    content = read_head(path, most + 1)
    if len(content) > most:
        raise DataError(f"{path}: holds more than {most / 2**20:g} MB; expected a smaller file")
    return content


def read_head(path: Path, most: int) -> bytes:
    """The first bytes of a regular file, all of them where it holds no more.

    Raises:
        DataError: it cannot be read, or is a pipe, a device or a folder.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for somebody to write into it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as handle:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise DataError(f"{path}: cannot be read (not a regular file)")
            return handle.read(most)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # a NUL in the name
        raise DataError(f"{str(path)!r}: cannot be read ({error})") from error


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a regular file; arguments as `read_bytes` has them.

    Raises:
        DataError: as `read_bytes`, and for what is not UTF-8.
    """
    try:
        return read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start})") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        DataError: as `read_bytes` and `parse_json_object`.
    """
    return parse_json_object(read_bytes(path), str(path))


def parse_json_object(line: bytes | str, where: str) -> dict[str, Any]:
    """The JSON object in `line`; `where` starts the error message.

    Raises:
        DataError: not UTF-8, not JSON, not an object, or of too many values.
    """
    line = line.rstrip()  # a cut line is told as such, not by its newline
    try:
        row = parse_json(line)
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 (byte {error.start} of the line)") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object, got {type(row).__name__}")
    return row


def parse_json(text: bytes | str) -> Any:
    """`json.loads`, for JSON that is well formed twice as fast.

    Raises:
        ValueError: it is no JSON, or holds more than MOST_JSON_VALUES values.
        RecursionError: it is nested too deep.
    """
    if len(text) > MOST_JSON_VALUES and _most_values(text) > MOST_JSON_VALUES:
        raise ValueError(f"more than {MOST_JSON_VALUES:,} values")
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return json.loads(text)  # takes more, such as NaN, and says better what is wrong


def _most_values(text: bytes | str) -> int:
    """No fewer values than the text can hold; marks inside of strings count too."""
    if isinstance(text, bytes):
        return sum(map(text.count, (b",", b"[", b"{")))
    return sum(map(text.count, (",", "[", "{")))


class _Loader(yaml.SafeLoader):
    """YAML where 1e-6 is a number, 1:30 and 010 are none, and a key may stand only once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ConstructorError(None, None, f"{line}: {key!r} is not a valid key")
            if key in seen:
                raise ConstructorError(None, None, f"{line}: duplicate key {key!r}")
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: Any) -> int | float:
        """A number as it is read by everyone: YAML's own 1:30 is 90, and its 010 is 8."""
        text = node.value
        if ":" in text or re.match(r"[-+]?0[\d_]+$", text):
            line = node.start_mark.line + 1
            raise ConstructorError(None, None, f"{line}: {text!r} is not a number; quote a text")
        whole = node.tag.endswith("int")
        return self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def parse_yaml(text: str) -> Any:
    """What YAML says, in plain values: 1e-6 is a number, a key is a text and stands once.

    Raises:
        yaml.YAMLError: it is no YAML, asks for objects, or unfolds to more than
            MOST_YAML_VALUES values; the message can have several lines.
    """
    return _parse(text, _Loader)


def read_own_yaml(path: Path, what: str) -> Any:
    """What a small YAML file that a user wrote and named holds.

    Args:
        path: of the file.
        what: it describes, as the error message begins.

    Raises:
        UsageError: no such file, one that is too large, or no YAML.
    """
    try:
        return parse_yaml(read_text(path, MOST_YAML_BYTES))
    except DataError as error:
        raise UsageError(f"{what} {error}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not YAML ({' '.join(str(error).split())})") from error


def parse_yaml_texts(text: str) -> Any:
    """What YAML says, every number, word and key as the text that is written: yes is "yes".

    Raises:
        yaml.YAMLError: see `parse_yaml`.
    """
    return _parse(text, yaml.BaseLoader)


def _parse(text: str, kind: type[yaml.BaseLoader | yaml.SafeLoader]) -> Any:
    try:
        loader = kind(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _unfolded(node, {}) > MOST_YAML_VALUES:
                raise yaml.YAMLError(f"its aliases unfold to more than {MOST_YAML_VALUES:,} values")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except (ValueError, RecursionError) as error:  # months of 13, deep nesting
        raise yaml.YAMLError(str(error)) from error


def _unfolded(node: Any, sizes: dict[int, float]) -> float:
    """How many values YAML's `*alias` make of the few that are written; inf for a ring.

    Args:
        node: as YAML is composed.
        sizes: of the nodes seen so far, by id.
    """
    if isinstance(node, yaml.ScalarNode):
        if node.tag != "tag:yaml.org,2002:str" and len(node.value) > LONGEST_NUMBER:
            raise ValueError(f"a number of {len(node.value):,} characters")
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = math.inf  # where it is met again inside itself
        pairs = isinstance(node, yaml.MappingNode)
        parts = [part for pair in node.value for part in pair] if pairs else node.value
        sizes[id(node)] = 1 + sum(_unfolded(part, sizes) for part in parts)
    return sizes[id(node)]


def check_regular(path: Path) -> Path:
    """The path, where a file there is a regular one; reading it then waits for nobody.

    Raises:
        DataError: it is a pipe or a device.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DataError(f"{path}: cannot be read (not a regular file)")
    return path


def inside(folder: Path, path: Path) -> Path:
    """The path, where it and every link on the way stay in the folder; see `is_inside`.

    Raises:
        DataError: it leads out of the folder.
    """
    if not is_inside(folder, path):
        raise DataError(f"{path}: leads out of {folder}; nothing outside it is read or written")
    return path


def is_inside(folder: Path, path: Path) -> bool:
    """Whether a path and every link on the way stay in a folder.

    Args:
        folder: the folder that the user named, itself a link or not.
        path: need not exist.
    """
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a ring of links, a NUL in the name
        return False


def check_links(folder: Path) -> None:
    """Refuse a folder in which a link leads out of it, at any depth.

    Raises:
        DataError: the first such link.
    """
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if Path(path, name).is_symlink():
                inside(folder, Path(path, name))
