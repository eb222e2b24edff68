"""Hostile text made visible: nothing hides, reorders or fails to be written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxrl.guard.texts import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("caf\u00e9 \U0001f600 \u5b57", "caf\u00e9 \U0001f600 \u5b57"),
        ("a\x00b", "a\u27e8U+0000\u27e9b"),
        ("\u202eabc", "\u27e8U+202E\u27e9abc"),
        ("a\u200bb\ufeff", "a\u27e8U+200B\u27e9b\u27e8U+FEFF\u27e9"),
        ("\ud83d", "\u27e8U+D83D\u27e9"),  # half a surrogate pair, which JSON can hold
        ("\x85\u2028", "\u27e8U+0085\u27e9\u27e8U+2028\u27e9"),
    ],
)
def test_invisible_characters_are_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(st.characters(), max_size=50), st.integers(1, 60))
def test_shown_text_is_encodable_and_short(text: str, limit: int) -> None:
    shown = visible(text, limit)
    shown.encode("utf-8")
    assert ("cut here" in shown) == (len(text) > limit)
    assert not re.search("[\x00-\x08\u202a-\u202e\u2066-\u2069]", shown)
