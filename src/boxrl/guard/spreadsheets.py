"""Tables as CSV that no spreadsheet takes for formulas, whatever text stands in them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from typing import IO

_STARTS = r"=+\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u207a-\u207c\u208a-\u208c"
"""What begins a formula, in every width that spreadsheets make one of."""

_BEFORE = (
    r"\x00-\x20\x7f-\xa0\xad\u061c\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\"'"
)
"""What may stand before it unseen."""

_FORMULA = re.compile(rf"(^|[;|\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029])(?=[{_BEFORE}]*+[{_STARTS}])")
"""Where one would begin: at the start, and where a reader with other separators starts a cell."""


def write_table(handle: IO[str], rows: Iterable[Sequence[object]]) -> int:
    """Write rows as CSV; returns how many.

    Text is quoted, numbers are not. Text that a spreadsheet would run has an apostrophe before
    what begins the formula; half characters, which no file can hold, become `?`.

    Args:
        handle: a text file.
        rows: the header first.
    """
    table = csv.writer(handle, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    count = 0
    for row in rows:
        table.writerow([_plain(value) for value in row])
        count += 1
    return count


def _plain(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.encode("utf-8", "replace").decode("utf-8").replace("\x00", "")
    return _FORMULA.sub(r"\1'", text)
