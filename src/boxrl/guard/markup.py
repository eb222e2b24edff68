"""XML that others made, read without trusting it: nothing is fetched, nothing unfolds.

Python's own parser, expat, with its three dangers shut: entities that a file declares (they unfold
to gigabytes), entities of other files, and encodings that expat does not know, which are decoded
here by Python's codecs. References such as `&amp;` and `&#252;` and CDATA are read as XML has them.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from boxrl.errors import DataError
from boxrl.guard.files import read_bytes

MOST_XML_BYTES = 256 * 2**20
"""Of an XML file; the elements of as much take gigabytes."""

_DECLARED = re.compile(rb"<\?xml[^>]*?encoding\s*=\s*[\"']([\w.:-]+)[\"']")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030"}
"""Encodings -> those that hold all of theirs, which is what files that name them are written in."""


@dataclass(slots=True)
class Element:
    """An element of an XML file.

    Attributes:
        tag: its name.
        line: where it starts, from 1.
        attributes: as they are written, references resolved.
        children: elements inside, in order.
        text: all text that stands directly inside, without the blanks around it.
    """

    tag: str
    line: int
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, tag: str) -> list[Element]:
        """The children of that name."""
        return [child for child in self.children if child.tag == tag]

    def text_of(self, tag: str) -> str | None:
        """The text of the first child of that name; None where there is none."""
        return next((child.text for child in self.children if child.tag == tag), None)


def read_xml(path: Path) -> Element:
    """The root element of an XML file.

    Args:
        path: in any encoding that it declares; UTF-8 where it declares none.

    Raises:
        DataError: it cannot be read, is no XML, is not in its encoding, or declares entities;
            the message starts with `file:line`.
    """
    text = _decoded(read_bytes(path, MOST_XML_BYTES), path)
    parser = expat.ParserCreate()
    builder = _Builder(parser)
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        what = expat.errors.messages[error.code]
        raise DataError(f"{path}:{error.lineno}: not XML ({what})") from error
    except UnicodeEncodeError as error:
        raise DataError(f"{path}:1: not XML (unpaired surrogate)") from error
    except _Refused as error:
        line = parser.CurrentLineNumber
        raise DataError(
            f"{path}:{line}: declares an entity; entities are not unfolded, write their text"
        ) from error
    return builder.root


class _Refused(Exception):
    """An entity is declared."""


class _Builder:
    """Builds elements out of what expat meets."""

    def __init__(self, parser: Any) -> None:
        self.root = Element("", 0)
        self.parser = parser
        self.open: list[tuple[Element, list[str]]] = []
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.EntityDeclHandler = self._refuse
        parser.ExternalEntityRefHandler = self._refuse

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        element = Element(tag, self.parser.CurrentLineNumber, attributes)
        if self.open:
            self.open[-1][0].children.append(element)
        else:
            self.root = element
        self.open.append((element, []))

    def _end(self, tag: str) -> None:
        element, pieces = self.open.pop()
        element.text = "".join(pieces).strip()

    def _text(self, text: str) -> None:
        self.open[-1][1].append(text)

    def _refuse(self, *_: Any) -> None:
        raise _Refused


def _decoded(content: bytes, path: Path) -> str:
    """The file as text, by its byte order mark or else by the encoding that it declares."""
    found = _DECLARED.match(content.lstrip())
    declared = found.group(1).decode().lower() if found else "utf-8"
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), declared)
    try:
        return content.decode(_WIDER.get(encoding, encoding))
    except LookupError as error:
        raise DataError(f"{path}:1: unknown encoding {encoding!r}; save it as UTF-8") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        where = f"byte {error.start} of the file"
        raise DataError(f"{path}:{line}: not {encoding} ({where})") from error
