"""Where in a completion the thought ends and the answer stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

THOUGHT = ("<think>", "</think>")
OTHER_THOUGHTS = (
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<|channel>", "<channel|>"),
    ("<unused94>", "<unused95>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    *(
        (f"<{spelled}>", f"</{spelled}>")
        for word in ("think", "thinking", "thought")
        for spelled in (word, word.capitalize(), word.upper())
        if spelled != "think"
    ),
)
"""Marks of thoughts that some models write instead: Kimi-VL, Gemma 4 and MedGemma, Mistral's,
ByteDance's and gpt-oss; and how some spell the usual ones."""
ANSWER = ("<answer>", "</answer>")
BOXED = ("<|begin_of_box|>", "<|end_of_box|>")
"""Marks in which some models (GLM-V) write what counts of an answer, boxes or not."""
_LONG = len(ANSWER[0])

_FENCE = re.compile(
    r"\A```(?:json|\w{1,16}[ \t]*\n(?=\s*[^`\s]))?\s*(.*?)\s*```\Z", re.DOTALL | re.IGNORECASE
)
_ENDS = re.compile(
    r"(?:<[|\uff5c/]?(?:[\w\u2581]{0,20}(?:end|eos|eot|pad|return)[\w\u2581]{0,20}|s|turn|user)"
    r"[|\uff5c]?>\s*)+\Z"
)
"""Special tokens that end a turn, such as `<|im_end|>`, where a decoder keeps them."""
_AROUND = " \t\r\n.*_`\"'\u2018\u2019\u201c\u201d"
"""What a word alone may stand between: quotes, the signs of bold and of code."""
_CALL = re.compile(r"<tool_call>.*?(?:</tool_call>|\Z)", re.DOTALL)


class FoundAnswer(NamedTuple):
    """The answer of a completion.

    Attributes:
        answer: its text, stripped; all that stands behind the thought where it is not tagged, but
            for calls of tools, whose boxes are what the model would look at.
        tagged: whether it stands in a complete `<answer>...</answer>`.
        reason: why there is no tagged answer; "" where there is one.
    """

    answer: str
    tagged: bool
    reason: str = ""


def as_read(completion: str, opened: bool) -> str:
    """The completion with the `<think>` in front that its prompt had opened already."""
    return THOUGHT[0] + completion if opened else completion


def opens_thought(prompt: str) -> bool:
    r"""Whether a rendered prompt ends inside an open thought, so that the completion begins there.

    >>> opens_thought("<|im_start|>assistant\n<think>\n"), opens_thought("a <think>b</think>")
    (True, False)
    """
    prompt = usual_marks(prompt)
    return prompt.rfind(THOUGHT[0]) > prompt.rfind(THOUGHT[1])


def begun_elsewhere(completion: str) -> bool:
    """Whether a completion ends a thought that it does not begin: its prompt had opened it."""
    before, end, _ = usual_marks(completion).partition(THOUGHT[1])
    return bool(end) and THOUGHT[0] not in before


def mostly_begun_elsewhere(completions: Sequence[str]) -> str:
    """The beginning of a sentence that most completions begin inside a thought; "" where few do.

    Args:
        completions: of one model, as it wrote them.
    """
    ended = sum(map(begun_elsewhere, completions))
    if 2 * ended <= len(completions):
        return ""
    return (
        f"{ended:,} of {len(completions):,} completions end a thought that they do not begin: the "
        "chat template has opened it"
    )


def find_answer(text: str) -> FoundAnswer:
    """The answer of a completion: behind its thought, the last complete `<answer>...</answer>`.

    Nothing inside a thought is ever an answer.

    Args:
        text: the completion, with `<think>` in front where the prompt opened it.
    """
    _, text = split_thought(text)
    if THOUGHT[0] in text:
        return FoundAnswer("", False, "open thought")
    opening = text.rfind(ANSWER[0])
    end = text.find(ANSWER[1], opening + _LONG) if opening >= 0 else -1
    if end < 0 <= opening:  # the last one is never closed; one before it may be
        opening = text.rfind(ANSWER[0], 0, max(text.rfind(ANSWER[1]), 0))
        end = text.find(ANSWER[1], opening + _LONG)
    if opening < 0:
        return FoundAnswer(_CALL.sub(" ", text).strip(), False, "no answer tag")
    return FoundAnswer(text[opening + _LONG : end].strip(), True)


def split_thought(text: str) -> tuple[str, str]:
    """A completion's thought, which ends at the last `</think>`, and what stands behind it.

    Models that have marks of their own for thoughts are read by those, which become `<think>` and
    `</think>` here. A thought that never ends stands behind none.
    """
    before, mark, behind = usual_marks(text).rpartition(THOUGHT[1])
    return before + mark, behind


def usual_marks(text: str) -> str:
    """The text with `<think>` and `</think>` in place of other models' marks of thoughts."""
    for begin, end in OTHER_THOUGHTS:
        text = text.replace(begin, THOUGHT[0]).replace(end, THOUGHT[1])
    return text


def unboxed(answer: str) -> str:
    """What counts of a short answer: the text between `BOXED`, where they stand in it once.

    >>> unboxed("There are <|begin_of_box|>5<|end_of_box|> cats."), unboxed("5")
    ('5', '5')
    """
    if [answer.count(mark) for mark in BOXED] != [1, 1]:
        return answer
    inside, ended, _ = answer.partition(BOXED[0])[2].partition(BOXED[1])
    return inside if ended else answer


def read_count(answer: str) -> str | None:
    """The whole number that a short answer is, as its digits; None where it is none.

    Digits alone, leading zeros and one trailing period allowed. A string, because a hostile answer
    may have millions of digits.

    >>> read_count(" 07."), read_count("three"), read_count("3.0")
    ('7', None, None)
    """
    digits = answer.strip().removesuffix(".")
    return digits.lstrip("0") or "0" if digits.isascii() and digits.isdigit() else None


def says_none(answer: str) -> bool:
    """Whether the answer is the word None, any case, fenced, between quotes or not."""
    if len(answer) > 64:  # cheaper than folding a megabyte to find that it is not "none"
        return False
    answer = _ENDS.sub("", answer.strip()).strip()
    fenced = _FENCE.match(answer)
    word = fenced.group(1) if fenced else answer
    return word.strip(_AROUND).casefold() == "none"
