"""Rewards of form and of short answers: think and answer tags, the option, the number."""

from __future__ import annotations

from boxrl.parsing.answers import ANSWER, THOUGHT, read_count, unboxed
from boxrl.types import Completion, Parsed, Target, fold_label

TAGS = (*THOUGHT, *ANSWER)


def format_tags(completion: Completion, target: Target) -> float:
    """1 if the completion is exactly one thought, then one answer. Range {0, 1}.

    `<think>...</think>`, white space, `<answer>...</answer>`; white space around both is allowed,
    text and further tags are not. What the answer holds is not looked at: any target will do.

    Source: the format reward of DeepSeek-R1 (arXiv 2501.12948), also that of VLM-R1.
    """
    text = completion.text.strip()
    if [text.count(tag) for tag in TAGS] != [1, 1, 1, 1]:
        return 0.0
    if not (text.startswith(TAGS[0]) and text.endswith(TAGS[3])):
        return 0.0
    thought_ends, answer_starts = text.find(TAGS[1]), text.find(TAGS[2])
    between = text[thought_ends + len(TAGS[1]) : answer_starts]
    return float(thought_ends < answer_starts and not between.strip())


def native_format(completion: Completion, target: Target) -> float:
    """1 if all of the completion is an answer as the model's makers have it. Range {0, 1}.

    Without answer tags, behind one thought or none, and read without anything being passed over:
    boxes in the family's own syntax, or None. Where the question asks for no boxes, any words.
    For prompts that ask for no tags; answers have to be read as such (`answer_tag` optional).

    Source: the answers of the makers' own prompts (`prompts.NATIVE`); as the format reward of
    DeepSeek-R1 (arXiv 2501.12948) for those.
    """
    text, parsed = completion.text.strip(), completion.parsed
    tags = [text.count(tag) for tag in TAGS]
    if tags not in ([0, 0, 0, 0], [1, 1, 0, 0]) or (tags[0] and not text.startswith(TAGS[0])):
        return 0.0
    if target.answer is not None:
        return float(parsed.answer != "")
    return float(_nothing_passed_over(parsed))


def well_formed(completion: Completion, target: Target) -> float | None:
    """1 if the answer is boxes that can all be read, or None. Range {0, 1}.

    For use beside `format_tags`, which does not look into the answer: rewards of boxes pay for
    those before a break. None where the question asks for no boxes.

    Source: this project's; see Written confidence in its findings.
    """
    return None if target.answer is not None else float(_nothing_passed_over(completion.parsed))


def choice(completion: Completion, target: Target) -> float | None:
    """1 if the answer is the right option. Range {0, 1}; None where the target has no answer.

    Compared as labels are: case and white space folded; one trailing period is allowed. Of an
    answer with GLM-V's box marks, what stands between them counts.

    Source: the accuracy reward of DeepSeek-R1 (arXiv 2501.12948), an exact match.
    """
    if target.answer is None:
        return None
    return float(_option(unboxed(completion.parsed.answer)) == _option(target.answer))


def count(completion: Completion, target: Target) -> float | None:
    """1 if the answer is the right number. Range {0, 1}; None where the target is no number.

    Digits only, leading zeros and one trailing period allowed; GLM-V's box marks as for `choice`.

    Source: the accuracy reward of DeepSeek-R1 (arXiv 2501.12948), an exact match.
    """
    right = read_count(target.answer or "")
    return None if right is None else float(read_count(unboxed(completion.parsed.answer)) == right)


def _nothing_passed_over(parsed: Parsed) -> bool:
    return parsed.status in ("ok", "empty") and not parsed.dropped


def _option(answer: str) -> str:
    return fold_label(answer.strip().removesuffix("."))


FORM_ONLY = frozenset({format_tags})
"""Rewards of the text alone: for them neither boxes nor targets are read."""
