"""Section ThoughtTable: the commonest ways to think, labels and numbers aside."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from boxrl.guard.texts import MAX_SHOWN
from boxrl.parsing.answers import ANSWER, THOUGHT, usual_marks
from boxrl.report.reading import ShownEvaluation
from boxrl.types import fold_label


def extract_thinking(text: str) -> str | None:
    """What stands in the first thought, up to its end mark or the answer; None where none is."""
    text = usual_marks(text)
    start = text.find(THOUGHT[0])
    if start < 0:
        return None
    start += len(THOUGHT[0])
    ends = [place for tag in (THOUGHT[1], ANSWER[0]) if (place := text.find(tag, start)) >= 0]
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


@dataclass(frozen=True, slots=True)
class ThoughtTable:
    """What one evaluation's completions think.

    Attributes:
        title: name of the evaluation.
        n: completions.
        patterns: the commonest thoughts.
    """

    title: str
    n: int
    patterns: list[Pattern]


def describe_thinking(title: str, evaluation: ShownEvaluation) -> ThoughtTable:
    """The commonest thoughts of an evaluation's completions."""
    written = zip(evaluation.rows, evaluation.completions, strict=True)
    thoughts = [(row.id, extract_thinking(found.text), row.labels) for row, found in written]
    return ThoughtTable(title, len(thoughts), thinking_patterns(thoughts))


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
