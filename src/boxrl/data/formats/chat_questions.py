"""What a question in words asks for: labels, or one expression.

The inverse of `prompts`: every prompt there is read back, and beside them the wordings that
trainers' examples use. What is only likely (plain sentences) is never taken for a list of all that
is asked for: chat.py asks for what the answer names.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from itertools import takewhile
from typing import Literal, NamedTuple

from boxrl.prompts import PROMPTS, Prompt
from boxrl.types import each_once

MOST_BRACKETS = 64
"""Tries to find the end of a Python list whose labels hold brackets."""

_LIST = re.compile(r"\b(?:objects|targets|categories|classes|items)\b[^\[\n]{0,40}:\s*(?=\[)")
_SENTENCE = re.compile(r"\bsentence describes:?\s*([^\n]*?)\.?\s*(?:Output\b.*)?$", re.DOTALL)
_MARKED = re.compile(
    r"<ref>(.*?)</ref>|<\|object_ref_start\|>(.*?)<\|object_ref_end\|>|<\|ref\|>(.*?)<\|/ref\|>"
)
_QUOTED = re.compile(r"\bcategor(?:y|ies):?\s*'([^'\n]+)'")
_FOLLOWING = re.compile(
    r"\b(?:following|these)\s+(?:objects?|targets?|categor(?:y|ies)|items?|class(?:es)?)"
    r"[^:\n]{0,40}:(\s*)(.+)",
    re.DOTALL,
)
_PLAIN = re.compile(
    r"^\s*(?:please\s+)?(detect|locate|find|where\s+(?:is|are))\s+(.+)", re.IGNORECASE | re.DOTALL
)
_VERBS = r"(?:output|report|return|give|provide|answer|respond|reply|write|use|print|mark|draw)"
_TOLD = (
    _VERBS + r"\s+(?:(?:in|as|with|using|by|only|the|an?|its|their|it|them|each|all|every|one|none"
    r"|null|for|me|json|xml|b?box(?:es)?|bounding|coordinates)\b|[\[{<])"
)
"""The start of what tells how to answer; that of `answer area` is none."""

_END = re.compile(
    r"\n|[.?!](?:\s|$)|\s+in\s+(?:this|the)(?:\s+\w+)?\s+(?:image|picture|photo)\b"
    rf"|(?:\s*[,;:]|\s+and|\s+then){{1,3}}\s+{_TOLD}|,?\s+please\b"
    r"|\s+(?:in|as|using)\s+(?:an?\s+)?(?:valid\s+)?json\b",
    re.IGNORECASE,
)
_INSTRUCTION = re.compile(rf"\s*(?:please\s+)?{_TOLD}", re.IGNORECASE)
_DASHED = re.compile(r"^\s*[-*\u2022\u00b7]\s+")
_NUMBERED = re.compile(r"(?:^\s*|\s)\(?\d{1,3}[.)](?!\d)\s*")
_BRACKETED = re.compile(r"[\[({]([^\[\](){}]*)[\])}]")
_PART = re.compile(r"\s*(\"[^\"\n]*\"(?=\s*(?:[,;\n]|$))|'[^'\n]*'(?=\s*(?:[,;\n]|$))|[^,;\n]+)")
"""An item between commas, which stand in quotes as well."""

MOST_WORDS = 5
"""Of a name; what is longer is a sentence."""

_NAME = re.compile(r"\(?[\w#&+][\w'\u2019&/+.#%()-]*(?:\s+\(?[\w#&+][\w'\u2019&/+.#%()-]*)*")
_BEGINS = re.compile(
    rf"{_VERBS}\b|(?:left|right|top|bottom|front|back|middle)\s+of\b|(?:next|close)\s+to\b"
    r"|(?:if|for|in|on|at|to|with|of|from|by|under|near|behind|beside|not|no|only|also|but|then)\b",
    re.IGNORECASE,
)
"""How a part of a sentence begins that is no name of its own."""

_CLAUSE = re.compile(
    rf"\b{_TOLD}|\s(?:the|an?)\s|\b(?:this|that|these|those|is|are|was|were|has|have|who|which"
    r"|whose|where|when|what|how|why|please|json|xml|yaml|format|coordinates?|it|they|them|you)\b",
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
        kind: `list` of everything that is asked for; `names`, which are asked for, others perhaps,
            too; `words` of a sentence, which are labels perhaps.
    """

    labels: tuple[str, ...]
    task: Literal["detection", "grounding"] = "detection"
    kind: Literal["list", "names", "words"] = "list"


NOTHING = Question((), kind="words")


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
    for pattern, separator, of_sentences in _templates():
        if found := pattern.fullmatch(text):
            labels = _unique(found.group(1).split(separator))
            doubtful = of_sentences and ("," in found.group(1) or len(labels) == 1)
            if not doubtful or _are_names(labels):
                return Question(labels)
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
def _templates() -> list[tuple[re.Pattern[str], str, bool]]:
    """Patterns of the prompts that list labels, with the separator of each.

    Last, whether the same words ask for a sentence's object, whose commas part no labels.
    """
    return [
        (pattern, prompt.separator, prompt.detect == prompt.ground.replace("expression", "labels"))
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
    text = re.sub(r"[ \t]+", " ", text)  # which patterns would try one by one
    kind: Literal["list", "names", "words"] = "list"
    if following := _FOLLOWING.search(text):
        items = _unique(_items(*following.groups()))
    elif plain := _PLAIN.search(text):
        items = _unique(_parts(_before_end(plain.group(2))))
        kind = "names" if plain.group(1).lower() == "detect" else "words"
    else:
        return NOTHING
    labels = _unique(_ARTICLE.sub("", item) for item in items)
    if not labels or any(map(_LOOSE.search, items)):
        return NOTHING
    return Question(labels, kind=kind if _are_names(items) else "words")


def _items(gap: str, text: str) -> list[str]:
    """The items of a list behind a colon, without the sentence behind them.

    Args:
        gap: between the colon and the list; a line's end where each item has its own.
        text: the rest of the question.
    """
    bracketed = _BRACKETED.match(text)
    if bracketed and not _before_end(text[bracketed.end() :]).strip(" ,;:"):
        return _parts(bracketed.group(1))
    lines = [line for line in text.splitlines() if line.strip()]
    for mark in (_DASHED, _NUMBERED):
        if mark.match(lines[0]):
            marked = takewhile(mark.match, lines)
            items = (item for line in marked for item in mark.split(line)[1:])
            return [_before_end(item).strip(" ,;") for item in items]
    if "\n" in gap:
        paragraph = text.partition("\n\n")[0].splitlines()
        plain = takewhile(lambda line: not _is_sentence(line), paragraph)
        return [part for line in plain for part in _parts(_before_end(line))]
    return _parts(_before_end(re.sub(r",[ \t]*\n\s*", ", ", text)))


def _before_end(text: str) -> str:
    """The text before what tells how to answer, or before the end of its sentence."""
    return _END.split(text, maxsplit=1)[0].strip(" .:")


def _parts(text: str) -> list[str]:
    """What stands between commas and lines' ends."""
    return [part.strip() for part in _PART.findall(text) if part.strip()]


def _is_sentence(line: str) -> bool:
    """Whether a line behind a list is none of its items."""
    ended = line.rstrip().endswith((".", ":", "?", "!"))
    return bool(_INSTRUCTION.match(line)) or (ended and len(line.split()) > MOST_WORDS)


def _are_names(labels: tuple[str, ...]) -> bool:
    """Whether all are short names of objects, none a part of a sentence.

    Behind a first one with an article, one without is rather an apposition: `the car, parked`.
    """
    articles = [bool(_ARTICLE.match(label)) for label in labels]
    apposed = any(articles[:1]) and not all(articles)
    return not apposed and not any(
        len(label.split()) > MOST_WORDS
        or not _NAME.fullmatch(label)
        or _BEGINS.match(label)
        or _CLAUSE.search(label)
        or _LOOSE.search(label)
        for label in labels
    )


def _unique(labels: object) -> tuple[str, ...]:
    """Labels without the blanks and quotes around them, each once in whichever case."""
    stripped = (str(label).strip().strip("'\"`*").strip() for label in labels)  # type: ignore[attr-defined]
    return each_once(filter(None, stripped))
