"""XML of others: nothing is fetched, nothing unfolds, every encoding is the one that is told."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from boxrl.errors import DataError
from boxrl.guard.markup import read_xml


def written(folder: Path, content: bytes) -> Path:
    path = folder / "x.xml"
    path.write_bytes(content)
    return path


def test_elements_have_their_line_text_and_attributes(tmp_path: Path) -> None:
    root = read_xml(written(tmp_path, b'<a><b k="1 &amp; 2">x<i/>y</b>\n<c> &#252; </c>\n<c/></a>'))
    first, second, third = root.children
    assert (first.tag, first.text, first.line, first.attributes) == ("b", "xy", 1, {"k": "1 & 2"})
    assert (second.text, second.line, third.text) == ("ü", 2, "")
    assert root.all("c") == [second, third]
    assert (root.text_of("c"), root.text_of("d")) == ("ü", None)


LAUGHS = b'<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">]><a>&y;</a>'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LAUGHS, ":1: declares an entity"),
        (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', "declares an entity"),
        (b'<!DOCTYPE a [<!ENTITY % x SYSTEM "http://h/">%x;]><a/>', "declares an entity"),
        (b"<a>\n&x;</a>", ":2: not XML (undefined entity)"),
        (b"<a>\n<b></a>", ":2: not XML (mismatched tag)"),
        (b"<a>\n\xff</a>", ":2: not utf-8 (byte 4 of the file)"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', ":1: unknown encoding 'klingon'"),
        (b'<?xml version="1.0" encoding="zlib"?><a/>', ":1: unknown encoding 'zlib'"),
        (b"<a>\x00</a>", ":1: not XML"),
        (b"", ":1: not XML (no element found)"),
    ],
)
def test_what_is_no_xml_or_unfolds_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DataError) as raised:
        read_xml(path)
    assert str(raised.value).startswith(f"{path}:")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_doctype_that_names_another_file_opens_none(tmp_path: Path) -> None:
    path = written(tmp_path, b'<!DOCTYPE a SYSTEM "file:///dev/zero"><a>x</a>')
    assert read_xml(path).text == "x"


def test_depth_and_pieces_cost_no_more_than_their_bytes(tmp_path: Path) -> None:
    began = time.process_time()
    assert read_xml(written(tmp_path, b"<a>" * 100_000 + b"</a>" * 100_000)).tag == "a"
    assert (
        len(read_xml(written(tmp_path, b"<a>" + b"x<!-- -->" * 200_000 + b"</a>")).text) == 200_000
    )
    assert time.process_time() - began < 5
