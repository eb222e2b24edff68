"""Marks in an answer that only one frame goes with, whichever model wrote it.

JSON does not tell its frame; location tokens, markers and Visual-RFT's `Position` do.
"""

from __future__ import annotations

import re

_SIGNS = (
    (re.compile(r"<loc_\d+>"), "florence-2"),
    (re.compile(r"<loc\d{4}>"), "paligemma"),
    (re.compile(r"<\|box_start\|>\s*\("), "qwen2-vl"),
    (re.compile(r"<\|box_start\|>\s*(?:<\d+>|None)"), "rex-omni"),
    (re.compile(r"<\|det\|>"), "deepseek-vl2"),
    (re.compile(r"<box>\s*\["), "internvl"),
    (re.compile(r"<box>\s*\d"), "minicpm-v-4.5"),
    (re.compile(r"<box>\s*(?:<\d+>|none)"), "locateanything"),
    (re.compile(r"['\"]Position['\"]"), "qwen3-vl"),
)
"""(sign, name of a family of its frame), Visual-RFT's grid of 1000 last."""

AS_TOKENS = frozenset({"florence-2", "paligemma", "rex-omni", "locateanything"})
"""Those of them whose coordinates are tokens of their own, which nobody writes pixels in."""


def find_sign(answer: str) -> str | None:
    """Name of a family in whose frame an answer is by its marks; None where they do not tell."""
    return next((name for sign, name in _SIGNS if sign.search(answer)), None)
