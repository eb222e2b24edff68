"""Defects of a prompt's text. A missing space cost the VLM-R1-OVD blog 60 training steps.

Source: the blog, section 5.1: accuracy began to rise at step 125 with "...by person.Output each",
and at step 65 once the space was there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from boxrl.families import FAMILIES, Family
from boxrl.families.syntaxes import SYNTAXES
from boxrl.parsing import parse
from boxrl.prompts import Prompt, render_messages
from boxrl.types import Sample

FORMAT_TAGS = frozenset({"think", "answer"})
"""Tags that the format reward knows."""

_CODE = re.compile(r"```.*?```", re.DOTALL)
_URL = re.compile(r"\bhttps?://\S+|\b\w+\.(?:com|org|io|jpg|png|json)\b")
_NO_SPACE = re.compile(r"\S([.!?])[A-Z][a-z]")
_DOUBLED = re.compile(r"\S(  +)\S")
_TAG = re.compile(r"<(/?)([a-zA-Z][\w-]*)>")
_QUOTED_LIST = re.compile(r"\[[^\[\]]*[\"'][^\[\]]*\]")
_MARKERS = re.compile(r"<\|[a-z_]+\|>|<loc_?\w+>")
_PAIRS = {")": "(", "]": "[", "}": "{"}


class PromptDefect(NamedTuple):
    """A defect of a prompt: short name of its kind, what is wrong, what to do about it."""

    rule: str
    message: str
    fix: str


def lint_prompt(text: str, family: Family = FAMILIES["plain"]) -> list[PromptDefect]:
    """Everything that looks wrong in a prompt as the model gets it.

    Args:
        text: a rendered prompt.
        family: whose syntax its example must be in.
    """
    return [
        *_spacing(text),
        *_brackets(_MARKERS.sub("", text)),
        *_tags(_MARKERS.sub("", text), family),
        *_quotes(text),
        *_example(text, family),
    ]


def lint_rendered(sample: Sample, prompt: Prompt, family: Family) -> list[PromptDefect]:
    """The defects of every message that a sample and a prompt give."""
    messages = render_messages(sample, prompt, family)
    texts = [part["text"] for turn in messages for part in turn["content"] if "text" in part]
    return [defect for text in texts for defect in lint_prompt(text, family)]


def _excerpt(text: str, position: int) -> str:
    return " ".join(text[max(0, position - 20) : position + 20].split())


def _spacing(text: str) -> Iterator[PromptDefect]:
    prose = _URL.sub(lambda match: "x" * len(match.group()), text)
    for match in _NO_SPACE.finditer(prose):
        mark = _excerpt(text, match.start(1))
        message = f"no space after the full stop in {mark!r}"
        yield PromptDefect("missing-space", message, "put one space there")
    for match in _DOUBLED.finditer(_CODE.sub("", text)):
        mark = _excerpt(_CODE.sub("", text), match.start(1))
        yield PromptDefect("doubled-space", f"doubled space in {mark!r}", "keep one")


def _brackets(text: str) -> Iterator[PromptDefect]:
    """Brackets that are not closed, or closed without having been opened."""
    opened: list[tuple[str, int]] = []
    for position, character in enumerate(text):
        if character in "([{":
            opened.append((character, position))
        elif character in _PAIRS:
            if opened and opened[-1][0] == _PAIRS[character]:
                opened.pop()
                continue
            mark = _excerpt(text, position)
            message = f"{character!r} closes nothing in {mark!r}"
            yield PromptDefect("unbalanced", message, "balance the brackets")
            return
    for character, position in opened[:1]:
        message = f"{character!r} is never closed in {_excerpt(text, position)!r}"
        yield PromptDefect("unbalanced", message, "balance the brackets")
    if text.count("```") % 2:
        yield PromptDefect("unbalanced", "a ``` fence is never closed", "close the fence")


def _tags(text: str, family: Family) -> Iterator[PromptDefect]:
    """Tags that do not pair up, or that the format reward does not know."""
    own = SYNTAXES[family.syntax].tags
    counts: dict[str, list[int]] = {}
    for closing, name in _TAG.findall(text):
        if name not in own and name != "image":
            counts.setdefault(name, [0, 0])[bool(closing)] += 1
    for name, (openings, closings) in counts.items():
        if name not in FORMAT_TAGS:
            message = f"tag <{name}> is unknown to the format reward, which wants <think>, <answer>"
            yield PromptDefect("unknown-tag", message, "use <think> and <answer>")
        if openings != closings:
            message = f"{openings} <{name}> but {closings} </{name}>"
            yield PromptDefect("unbalanced", message, "close every tag")


def _quotes(text: str) -> Iterator[PromptDefect]:
    """Lists whose quoting is broken, as by an apostrophe in a label of a Python list."""
    for match in _QUOTED_LIST.finditer(_CODE.sub("", text)):
        try:
            ast.literal_eval(match.group())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            message = f"odd quoting in the list {match.group()!r:.60}"
            yield PromptDefect("odd-quoting", message, "quote every label the same way")


_NUMBERS = {"x1": 1, "y1": 2, "x2": 30, "y2": 40}


def _example(text: str, family: Family) -> Iterator[PromptDefect]:
    """The example of the answer's form must be readable by the parser, once numbers are put in."""
    start, end = text.find("[{"), text.rfind("}]")
    syntax = SYNTAXES[family.syntax]
    read = None if syntax.is_json else syntax.read
    if "x1" not in text or (read is None and (start < 0 or end < start)):
        return  # no example
    if read is not None and not all(name in text for name in _NUMBERS):
        return  # coordinates of another name
    example = text if read else text[start : end + 2]
    for name, value in _NUMBERS.items():
        example = example.replace(f"<loc_{name}>", f"<loc{value:04d}>")
        example = re.sub(rf"\b{name}\b", str(value), example)
    example = example.replace(": score", ": 0.5")
    readable = (
        read(example).items
        if read
        else parse(example, family, (1000, 1000), answer_tag="optional").status == "ok"
    )
    if not readable:
        message = f"the example of an answer in {family.name}'s form cannot be read"
        yield PromptDefect("unreadable-example", message, "show an answer that the parser reads")


def lint_labels(labels: Sequence[str]) -> list[PromptDefect]:
    """Labels that make a list of labels hard to read."""
    found = []
    for label in labels:
        if label != label.strip() or "  " in label or "\n" in label:
            message = f"label {label!r} has spaces at its ends, doubled spaces or a line break"
            found.append(PromptDefect("label-spacing", message, "trim it"))
        elif label[0] in "\"'[" and label[-1] in "\"']":
            message = f"label {label!r} is quoted or a list by itself"
            found.append(PromptDefect("odd-quoting", message, "remove the quotes"))
        elif ";" in label:
            message = f"label {label!r} contains the semicolon that separates labels in the prompt"
            found.append(PromptDefect("label-separator", message, "use a comma"))
    return found
