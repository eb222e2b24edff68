"""Hostile text made visible before people see it."""

from __future__ import annotations

import re

MAX_SHOWN = 20_000
"""Characters of a completion that a page shows; the rest is counted, not shown."""

# C0 and C1 controls but tab and newline, bidirectional controls, zero-width and other invisible
# format characters, line separators, lone surrogates, noncharacters.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff]"
)


def visible(text: str, limit: int = MAX_SHOWN) -> str:
    """The text with invisible characters written out as ⟨U+202E⟩, cut after `limit` characters.

    Law: the result can be encoded as UTF-8 and cannot reorder or hide the text around it.
    """
    shown = _INVISIBLE.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text[:limit])
    if len(text) > limit:
        shown += f"\n… cut here: {limit:,} of {len(text):,} characters are shown"
    return shown
