"""Keys stay in the process: `hide` one, and no text that leaves through here holds it.

Text leaves by the terminal, whose streams `redact_streams` wraps for all that prints, tracebacks
of Python's own included, and by files, whose writers call `redact`. Servers' words are redacted
when they come in as well, before they are quoted or cut.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import IO, Any, cast

REDACTED = "***"

SHORTEST = 6
"""Characters of a key that is hidden. Servers without keys are given `EMPTY` or `none`, which
may stand in any text."""

_INVISIBLE = (
    "\x00-\x20\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2000-\u200f"
    "\u2028-\u202f\u205f-\u206f\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff"
    "\U000e0000-\U000e0fff"
)
_ESCAPED = r"\\(?:[nrtvf]|x(?![2-7])[0-9a-f]{2}|u(?!00[2-7])[0-9a-f]{4}|U[0-9a-f]{8})"
_BETWEEN = f"(?:[{_INVISIBLE}]|{_ESCAPED})*+"
"""What does not keep a reader from seeing a key, as it is or as Python's repr escapes it."""

_hidden: dict[str, re.Pattern[str]] = {}


def hide(secret: str) -> None:
    """From now on, leave the secret out of every text that leaves the process.

    Args:
        secret: ASCII; one shorter than SHORTEST is none.
    """
    if len(secret) >= SHORTEST:
        _hidden[secret] = re.compile(_BETWEEN.join(map(_spellings, secret)), re.IGNORECASE)


def _spellings(character: str) -> str:
    """A character, as it is and as JSON, repr and URLs may write it."""
    code = f"{ord(character):02x}"
    quoted = {'"': r'\\*+"', "'": r"\\*+'", "\\": r"\\{1,2}"}
    itself = quoted.get(character, re.escape(character))
    return rf"(?:\\u00{code}|\\x{code}|%{code}|{itself})"


def redact(text: str) -> str:
    """The text with every hidden secret replaced by `***`.

    Also found are secrets with invisible characters, blanks or line breaks in between, and those
    spelled by the escapes of JSON and URLs.
    """
    for pattern in _hidden.values():
        text = pattern.sub(REDACTED, text)
    return text


def redacting(stream: IO[str]) -> IO[str]:
    """The stream, redacting what is written to it where anything is hidden."""
    return cast(IO[str], Redacting(stream)) if _hidden else stream


class Redacting:
    """A text stream that writes nothing hidden; in all else the stream that it wraps."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the text without secrets; returns the characters of it that are done."""
        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)


def redact_streams() -> None:
    """Redact what is printed from now on, by whomever; doing it again changes nothing."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Redacting):
            setattr(sys, name, Redacting(stream))
