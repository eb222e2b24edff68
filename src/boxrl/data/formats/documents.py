"""JSON files read whole, whatever wrote them, with the line of every element."""

from __future__ import annotations

import codecs
import json
import re
import zlib
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from boxrl.data.files import GZIP, MOST_UNPACKED, no_cycle_search
from boxrl.data.formats.reading import Rejected
from boxrl.errors import DataError
from boxrl.guard.files import MOST_BYTES, read_bytes


class Record(msgspec.Struct, gc=False):
    """An object of known fields, read in a fifth of a dict's time and memory; looked up as one."""

    def get(self, key: str) -> Any:
        """The field's value; None for one that the type does not have."""
        return getattr(self, key, None)

    def keys(self) -> list[str]:
        """The fields that hold something, so that `{**record}` is a dict of them."""
        return [key for key in self.__struct_fields__ if getattr(self, key) is not None]

    def __getitem__(self, key: str) -> Any:
        return getattr(self, key)

    def __contains__(self, key: object) -> bool:
        return key in self.keys()


class Document:
    """A JSON file read whole, that can tell on which line an element of an array stands.

    Attributes:
        path: the file.
        content: what it says.
        notes: what people should hear of how it was read.
    """

    def __init__(self, path: Path, *forms: Any) -> None:
        """Read the file.

        Args:
            path: a JSON file, packed by gzip or not.
            forms: types of the content for msgspec, which passes over what a type does not name at
                a fraction of the cost; the first that fits. A file of none is read whole.

        Raises:
            DataError: no such file, not in Unicode, or not JSON; with `file:line`.
        """
        self.path = path
        self.notes: list[str] = []
        self._lines: dict[str | None, list[int]] = {}
        self.content: Any
        self._arrays: dict[str | None, list[Any]] = {}
        packed = _unpacked(path).removeprefix(codecs.BOM_UTF8)
        with no_cycle_search():
            for form in forms or (Any,):
                try:
                    self.content = msgspec.json.decode(packed, type=form)
                    return
                except (ValueError, RecursionError):
                    continue
            # json reads more, such as NaN, and says why not
            self.content = self._read_slowly(_decoded(packed, path))

    def _read_slowly(self, text: str) -> Any:
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            line = text.count("\n", 0, error.pos) + 1
            lines = error.msg == "Extra data" and not self.path.name.endswith(".jsonl")
            hint = "; a file of one JSON object a line is called .jsonl" if lines else ""
            raise DataError(f"{self.path}:{line}: not JSON ({error.msg}){hint}") from error
        except RecursionError as error:
            raise DataError(f"{self.path}:1: JSON nested too deeply to be annotations") from error
        except ValueError as error:
            raise DataError(f"{self.path}:1: a number with too many digits to be read") from error

    def array(self, key: str | None) -> list[dict[str, Any]]:
        """The array of objects under `key`, or the document itself where `key` is None.

        Raises:
            DataError: no such array, or an element that is no object.
        """
        if key not in self._arrays:
            self._arrays[key] = self._checked(key)
        return self._arrays[key]

    def column(self, key: str | None, name: str) -> list[Any]:
        """The values of one field of every element of an array; None where it is missing.

        Args:
            key: of the array.
            name: of the field.

        Raises:
            DataError: see `array`.
        """
        rows: list[Any] = self.array(key)
        if rows and isinstance(rows[0], Record):
            return list(map(attrgetter(name), rows))
        return [row.get(name) for row in rows]

    def _checked(self, key: str | None) -> list[Any]:
        value = self.content
        if key is not None:
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, list):
            what = f"a list {key!r}" if key else "a JSON list"
            raise DataError(f"{self.path}:1: expected {what}, got {type(value).__name__}")
        kinds = {kind for kind in set(map(type, value)) if not issubclass(kind, (dict, Record))}
        for index, item in enumerate(value if kinds else ()):
            if type(item) in kinds:
                where = f"{self.where(key, index)}: {key or ''}[{index}]"
                raise DataError(f"{where}: expected an object, got {item!r:.80}")
        return value

    def where(self, key: str | None, index: int) -> str:
        """`file:line` of an array's element; the file is scanned again at the first call."""
        if key not in self._lines:
            text = read_document(self.path)
            one_line = text.find("\n") in (-1, len(text) - 1)  # as COCO's own; decoding is slow
            listed = self.content if key is None else self.content[key]
            self._lines[key] = [1] * len(listed) if one_line else _element_lines(text, key)
        return f"{self.path}:{self._lines[key][index]}"

    def rejected(
        self, key: str | None, index: int, error: DataError, row: Any, annotations: int = 1
    ) -> Rejected:
        """The rejection of an array's element.

        Args:
            key: of the array in the document; None where the document is the array.
            index: of the element, from 0.
            error: what is wrong with it.
            row: the element as it stands.
            annotations: how many annotations are lost with it.
        """
        return Rejected(f"{self.where(key, index)}: {error}", row, annotations)


def read_document(path: Path) -> str:
    """The file's text: UTF-8, or what its byte order mark says; packed by gzip or not.

    Raises:
        DataError: no such file, not regular, or in another encoding; with `file:line`.
    """
    return _decoded(_unpacked(path), path)


def _unpacked(path: Path) -> bytes:
    """The file's bytes, out of gzip where they are in it."""
    try:
        size = path.stat().st_size
    except (OSError, ValueError):
        size = 0  # the reader says it better
    content = read_bytes(path, max(size, 1))
    if content.startswith(b"PK\x03\x04"):
        raise DataError(f"{path}:1: a zip archive; unpack it first: unzip {path.name}")
    if not content.startswith(GZIP):
        return content
    most = max(MOST_BYTES, MOST_UNPACKED * size)
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(content, most)
    except zlib.error as error:
        raise DataError(f"{path}:1: a damaged gzip file ({error})") from error
    if not unpacker.eof or unpacker.unused_data:
        what = "unpacks to too much, is cut, or holds several files"
        raise DataError(f"{path}:1: a gzip file that {what}; unpack it yourself: gunzip -k")
    return unpacked


_MARKS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"),
          (b"\xfe\xff", "utf-16"))  # fmt: skip


def _decoded(content: bytes, path: Path) -> str:
    marked = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8-sig")
    try:
        return content.decode(marked)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: not {marked.removesuffix('-sig').upper()} (byte {error.start} of the "
            "file); convert it with the encoding that it was written in, such as GBK or CP1252: "
            f"iconv -f ENCODING -t UTF-8 {path.name}"
        ) from error


_BETWEEN = re.compile(r"[\s,:]*")


def _element_lines(text: str, key: str | None) -> list[int]:
    """Line (from 1) of every element of the array under `key` in a valid JSON text."""
    decoder = json.JSONDecoder(object_hook=lambda _: None)

    def skip(position: int) -> int:
        found = _BETWEEN.match(text, position)
        return found.end() if found else position

    position = skip(0)
    if key is not None:
        position = skip(position + 1)
        while True:
            name, position = decoder.raw_decode(text, position)
            position = skip(position)
            if name == key:
                break
            position = skip(decoder.raw_decode(text, position)[1])
    lines: list[int] = []
    line, counted, position = 1, 0, skip(position + 1)
    while text[position] != "]":
        line += text.count("\n", counted, position)
        counted = position
        lines.append(line)
        position = skip(decoder.raw_decode(text, position)[1])
    return lines
