"""How sure a model was of each box: the mean log-probability of its coordinate tokens.

Tokens are laid onto the completion, then the written coordinates of every kept box are found in
it, and the tokens that touch their digits are averaged. Needs no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from boxrl.families import Family
from boxrl.parsing import parse
from boxrl.types import Asked, Parsed, Sample

Span = tuple[int, int]
"""Start and end, in characters of the completion."""

SLACK = 8
"""Characters that a token may lie beyond the one before it: spaces and cut characters."""

_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


class Token(NamedTuple):
    """A generated token: its text alone, and its log-probability at temperature 1."""

    text: str
    logprob: float


def box_logprobs(
    completion: str,
    tokens: Sequence[Token],
    family: Family,
    sample: Sample,
    input_size_wh: tuple[int, int] | None = None,
) -> tuple[float, ...] | None:
    """Mean log-probability of each box's coordinate tokens.

    Args:
        completion: the text; special tokens may be missing from it.
        tokens: all tokens in order of generation, special ones included.
        family: whose frame and syntax the answer is in.
        sample: what was asked, of which image.
        input_size_wh: size the model saw, as for `parse`.

    Returns:
        One number <= 0 per box of `parse(completion, ...)`, in emission order. Items that the
        parser drops (malformed, without area in the image) get none. None where a coordinate
        cannot be found among the tokens, as when a server shortens them, or a log-probability
        is no finite number.
    """
    asked = Asked.from_sample(sample)
    parsed = parse(completion, family, sample.size_wh, input_size_wh, "optional", asked)
    boxes = find_coordinates(completion, parsed)
    if boxes is None:
        return None
    spans = place_tokens(completion, tokens)
    means = []
    for coordinates in boxes:
        found = [
            token.logprob
            for token, span in zip(tokens, spans, strict=True)
            if any(span[0] < end and start < span[1] for start, end in coordinates)
        ]
        if not found or not math.isfinite(sum(found)):
            return None
        means.append(sum(found) / len(found))
    return tuple(means)


def find_coordinates(completion: str, parsed: Parsed) -> list[list[Span]] | None:
    """Where the four numbers of every kept box are written, in emission order.

    Items are sought from the end of the answer backwards, because a later array is the one
    that counts.

    Returns:
        Four spans per box of `parsed.detections`; None where an item's numbers do not stand
        in the text in a row.
    """
    start = completion.rfind(parsed.answer)
    end = start + len(parsed.answer)
    numbers = [(match.span(), float(match.group())) for match in _NUMBER.finditer(completion)]
    numbers = [number for number in numbers if start <= number[0][0] and number[0][1] <= end]
    values = [value for _, value in numbers]
    found: list[list[Span]] = []
    place = len(numbers)
    for box, _ in reversed(parsed.items):
        place -= 4
        while place >= 0 and values[place : place + 4] != list(box):
            place -= 1
        if place < 0:
            return None
        found.append([span for span, _ in numbers[place : place + 4]])
    found.reverse()
    return found if parsed.kept is None else [found[k] for k in parsed.kept]


def place_tokens(completion: str, tokens: Sequence[Token]) -> list[Span]:
    """Where each token lies in the completion; an empty span for those that left no text.

    A token's own text may lack a leading space or, inside a character of several bytes, be
    unreadable: every token is sought a few characters ahead of the last one's end.
    """
    spans = []
    position = 0
    for token in tokens:
        text = token.text.strip("\ufffd")
        start = completion.find(text, position, position + len(text) + SLACK) if text else -1
        if start < 0:
            spans.append((position, position))
        else:
            position = start + len(text)
            spans.append((start, position))
    return spans
