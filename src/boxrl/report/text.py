"""Model text for people: hostile characters made visible, thinking found and grouped."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from boxrl.types import fold_label

MAX_SHOWN = 20_000
"""Characters of a completion that a page shows; the rest is counted, not shown."""

# C0 and C1 controls but tab and newline, bidirectional controls, zero-width and other invisible
# format characters, line separators, lone surrogates, noncharacters.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff]"
)
_THINK = "<think>"
_THINK_END = "</think>"


def visible(text: str, limit: int = MAX_SHOWN) -> str:
    """The text with invisible characters written out as ⟨U+202E⟩, cut after `limit` characters.

    Law: the result can be encoded as UTF-8 and cannot reorder or hide the text around it.
    """
    shown = _INVISIBLE.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text[:limit])
    if len(text) > limit:
        shown += f"\n… cut here: {limit:,} of {len(text):,} characters are shown"
    return shown


def extract_thinking(text: str) -> str | None:
    """What stands in the first `<think>`, up to its end tag or the answer; None where none is."""
    start = text.find(_THINK)
    if start < 0:
        return None
    start += len(_THINK)
    ends = [place for tag in (_THINK_END, "<answer>") if (place := text.find(tag, start)) >= 0]
    return text[start : min(ends, default=len(text))].strip()


def normalise_thinking(thinking: str, labels: Iterable[str]) -> str:
    """A thought without what depends on its sample: labels become [label], numbers #.

    >>> normalise_thinking("2 red circle,  0 blue square", ["red circle", "blue square"])
    '# [label], # [label]'
    """
    folded = fold_label(thinking[:MAX_SHOWN])
    names = sorted({fold_label(label) for label in labels}, key=len, reverse=True)
    if names:
        anyone = "|".join(map(re.escape, names))
        folded = re.sub(rf"(?<!\w)(?:{anyone})(?:e?s)?(?!\w)", "[label]", folded)
    return re.sub(r"\d+(?:\.\d+)?", "#", folded)


@dataclass(frozen=True, slots=True)
class Pattern:
    """Thoughts that are the same after `normalise_thinking`.

    Attributes:
        text: the normalised thought; empty for an empty one.
        count: how many completions think so.
        share: of all completions, in [0, 1].
        example: the first such thought as the model wrote it.
        example_id: id of its sample.
    """

    text: str
    count: int
    share: float
    example: str
    example_id: str


def thinking_patterns(
    thoughts: Iterable[tuple[str, str | None, Iterable[str]]], top: int = 8
) -> list[Pattern]:
    """The commonest ways to think, most frequent first.

    Args:
        thoughts: (sample id, thinking or None, labels asked for) of every completion;
            completions without thinking count in the shares only.
        top: how many patterns to return.
    """
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    total = 0
    for sample_id, thinking, labels in thoughts:
        total += 1
        if thinking is not None:
            groups[normalise_thinking(thinking, labels)].append((sample_id, thinking))
    ranked = sorted(groups.items(), key=lambda group: -len(group[1]))[:top]
    return [
        Pattern(text, len(members), len(members) / total, members[0][1], members[0][0])
        for text, members in ranked
    ]
