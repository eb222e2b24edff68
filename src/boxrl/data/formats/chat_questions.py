"""What a question in words asks for: labels, or one expression.

The inverse of `prompts`: every prompt there is read back, and beside them the wordings that
trainers' examples use. What is only likely (plain sentences) is taken where the answer agrees.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import Literal, NamedTuple

from boxrl.prompts import PROMPTS, Prompt
from boxrl.types import each_once

MOST_BRACKETS = 64
"""Tries to find the end of a Python list whose labels hold brackets."""

_LIST = re.compile(r"\b(?:objects|targets|categories)\b[^\[\n]{0,40}:\s*(?=\[)")
_SENTENCE = re.compile(r"\bsentence describes:?\s*([^\n]*?)\.?\s*(?:Output\b.*)?$", re.DOTALL)
_MARKED = re.compile(
    r"<ref>(.*?)</ref>|<\|object_ref_start\|>(.*?)<\|object_ref_end\|>|<\|ref\|>(.*?)<\|/ref\|>"
)
_QUOTED = re.compile(r"\bcategor(?:y|ies):?\s*'([^'\n]+)'")
_FOLLOWING = re.compile(
    r"\b(?:following|these)\s+(?:objects?|targets?|categor(?:y|ies)|items?|class(?:es)?)"
    r"[^:\n]{0,40}:\s*(.+)"
)
_PLAIN = re.compile(
    r"^\s*(?:please\s+)?(?:detect|locate|find|where\s+(?:is|are))\s+(.+)", re.IGNORECASE | re.DOTALL
)
_END = re.compile(
    r"\n|[.?!](?:\s|$)|\s+in\s+(?:this|the)(?:\s+\w+)?\s+(?:image|picture|photo)\b"
    r"|,?\s+(?:and\s+)?(?:output|report|return|give|provide)\b",
    re.IGNORECASE,
)
_LOOSE = re.compile(
    r"\b(?:all|every|everything|each|any|and|or|objects?|instances?|their|its|bounding|bbox)\b",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^(?:the|an?)\s+", re.IGNORECASE)


class Question(NamedTuple):
    """What is asked for.

    Attributes:
        labels: in order; one for an expression.
        task: `grounding` for an expression.
        certain: whether the wording is one that lists everything that is asked for.
    """

    labels: tuple[str, ...]
    task: Literal["detection", "grounding"] = "detection"
    certain: bool = True


NOTHING = Question((), certain=False)


def read_question(text: str) -> Question:
    """What a question asks for; NOTHING where its words do not say.

    Args:
        text: without marks of images.
    """
    text = text.replace("<image>", " ").strip()
    if labels := _python_list(text):
        return Question(labels)
    if described := _SENTENCE.search(text):
        marked = _marked(described.group(1))
        if len(marked) > 1:
            return Question(marked)
        expression = marked[0] if marked else described.group(1).strip()
        return Question((expression,), "grounding") if expression else NOTHING
    for pattern, separator in _templates():
        if found := pattern.fullmatch(text):
            return Question(_unique(found.group(1).split(separator)))
    if marked := _marked(text):
        return Question(marked)
    if quoted := _QUOTED.search(text):
        return Question(_unique(re.split(r"\s*[,;]\s+", quoted.group(1))))
    return _sentence(text)


def _marked(text: str) -> tuple[str, ...]:
    """Labels between the marks of a family."""
    return _unique(next(filter(None, groups), "") for groups in _MARKED.findall(text))


def _python_list(text: str) -> tuple[str, ...]:
    """Labels as a Python list, which VLM-R1's prompts write."""
    listed = _LIST.search(text)
    end = listed.end() if listed else 0
    for _ in range(MOST_BRACKETS if listed else 0):
        end = text.find("]", end) + 1
        if not end:
            break
        try:
            labels = ast.literal_eval(text[listed.end() : end]) if listed else []
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue  # a bracket inside a label
        return _unique(label for label in labels if isinstance(label, str))
    return ()


@cache
def _templates() -> list[tuple[re.Pattern[str], str]]:
    """Patterns of the prompts that list labels, with the separator of each."""
    return [
        (pattern, prompt.separator)
        for prompt in PROMPTS.values()
        if (pattern := _pattern(prompt)) is not None
    ]


def _pattern(prompt: Prompt) -> re.Pattern[str] | None:
    before, found, behind = (
        part.replace("{{", "{").replace("}}", "}") for part in prompt.detect.partition("{labels}")
    )
    if found != "{labels}" or prompt.label != "{label}" or len(before) < len("detect "):
        return None
    literal, output, _ = behind.partition("{output}")
    end = re.escape(literal.rstrip())
    if output:  # the form of the answer is described, then perhaps an instruction
        end += r"\s*Output\b.*"
    return re.compile(rf"(?s)(?:.*\n)?{re.escape(before)}([^\n]*?){end}")


def _sentence(text: str) -> Question:
    """Labels of a plain sentence, which may be no list of labels at all."""
    following = _FOLLOWING.search(text)
    found = following or _PLAIN.search(text)
    if found is None:
        return NOTHING
    phrase = _END.split(found.group(1), maxsplit=1)[0].strip(" .:'\"")
    labels = _unique(_ARTICLE.sub("", part) for part in re.split(r"\s*[,;]\s*", phrase))
    if not labels or _LOOSE.search(phrase):
        return NOTHING
    return Question(labels, certain=bool(following))


def _unique(labels: object) -> tuple[str, ...]:
    """Labels without the blanks and quotes around them, each once in whichever case."""
    stripped = (str(label).strip().strip("'\"`").strip() for label in labels)  # type: ignore[attr-defined]
    return each_once(filter(None, stripped))
