"""Special tokens that answers are written with; decoders drop special tokens, and what they mark.

Some models mark their thought by them, and a thought without marks reads as the answer; some write
boxes with them. Needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from boxrl.families import Family
from boxrl.families.syntaxes import SYNTAXES
from boxrl.generation.model_folders import added_tokens
from boxrl.parsing.answers import ANSWER, OTHER_THOUGHTS, THOUGHT

Ids = Sequence[int]

_NUMBER = re.compile(r"\d+")
_EXAMPLE = [(0, 0, 0, 0)], ["label"]


def is_mark(token: str, family: Family) -> bool:
    """Whether a special token marks a thought, an answer or, as the family writes them, boxes.

    Args:
        token: its text; a coordinate's is any that differs by its number alone.
        family: whose syntax boxes are written in.
    """
    written = SYNTAXES[family.syntax].write(*_EXAMPLE, family.box_key)
    if any(token in mark for mark in chain(THOUGHT, ANSWER, *OTHER_THOUGHTS)):
        return True
    return _NUMBER.sub("0", token) in _NUMBER.sub("0", written)


def has_marks(folder: Path, family: Family) -> bool:
    """Whether marks are special tokens of the folder's tokenizer; False where it has none.

    Raises:
        UsageError: tokenizer.json is damaged.
    """
    return any(token.special and is_mark(token.text, family) for token in added_tokens(folder))


def reader(tokenizer: Any, family: Family) -> Callable[[Ids], str]:
    """What a completion's token ids say: its text without special tokens, but with the marks.

    Args:
        tokenizer: of transformers.
        family: see `is_mark`.
    """
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= set(tokenizer.all_special_ids)
    names = {id: tokenizer.convert_ids_to_tokens(id) for id in special}
    dropped = {id for id, name in names.items() if not is_mark(name, family)}

    def read(ids: Ids) -> str:
        said: str = tokenizer.decode([id for id in ids if id not in dropped])
        return said

    return read
