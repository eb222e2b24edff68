"""Text in tables stays text."""

from __future__ import annotations

import csv
import io

import pytest

from boxrl.guard.spreadsheets import write_table

DISGUISES = (
    "{}", " {}", "\t{}", "\n{}", "\r\n{}", "\x0b{}", "\x00{}", "\xa0{}", "\u200b{}", "\ufeff{}",
    "\u3000{}", "\u2028{}", "\x1f{}", "'{}", '"{}', "\u200b \n\t{}", ";{}", "a;{}", "a\t{}", "a|{}",
    "a\n{}", "a; {}", 'a";"{}', "a;\u200b{}", "cat\u2029{}",
)  # fmt: skip
STARTS = "=+-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u207c"


def cells_of(text: str) -> list[str]:
    """What readers of any separator see as the starts of cells, unseen characters aside."""
    found = []
    for part in (
        text.replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n").split("\n")
    ):
        for mark in ";|\t":
            for cell in part.split(mark):
                found.append(
                    "".join(c for c in cell if c.isprintable() and c not in ' "\u3000\xa0')
                )
    return found


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("disguise", DISGUISES)
def test_no_formula_begins_a_cell(disguise: str, start: str) -> None:
    text = disguise.format(f"{start}HYPERLINK(1)")
    handle = io.StringIO()
    assert write_table(handle, [("label", "n"), (text, 3)]) == 2
    (_, (cell, n)) = csv.reader(io.StringIO(handle.getvalue(), newline=""))
    assert n == "3"
    assert not any(part.startswith(start) for part in cells_of(cell)), cell
    assert cell.replace("'", "") == text.replace("'", "").replace("\x00", "")


def test_other_text_and_numbers_stay_as_they_are() -> None:
    row = ("red circle", "a-b", "x=1", "5 + 3", "a;b", "né\u200be", -1.5, 0, "", "quote \" '")
    handle = io.StringIO()
    write_table(handle, [row])
    assert next(csv.reader(io.StringIO(handle.getvalue()))) == [str(value) for value in row]
    assert ",-1.5,0," in handle.getvalue()


def test_half_characters_are_written() -> None:
    handle = io.StringIO()
    write_table(handle, [("\ud800",)])
    assert handle.getvalue() == '"?"\n'
