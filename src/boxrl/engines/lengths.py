"""How long gold answers are in the model's own tokens, counted without the model.

An answer that is cut at `train.max_completion_length` can never be right, and one that
`train.trl.max_length` cuts is not taught.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from boxrl.config import Recipe
from boxrl.data.files import is_whole
from boxrl.errors import UsageError
from boxrl.families import Family
from boxrl.generation.chat_template import Thinking, read_chat_template
from boxrl.parsing.answers import THOUGHT
from boxrl.prompts import Prompt, render_messages, render_target
from boxrl.types import Sample

BATCH = 1000
"""Texts that are turned into tokens at once."""


class Lengths(NamedTuple):
    """What a limit on tokens would cut.

    Attributes:
        key: of the recipe.
        limit: tokens.
        of: what is limited, in words.
        n: how many there are.
        cut: how many are longer.
        longest: tokens of the longest.
        sample: its id.
    """

    key: str
    limit: int
    of: str
    n: int
    cut: int
    longest: int
    sample: str

    @property
    def words(self) -> str:
        """What would be cut, in one sentence."""
        return (
            f"{self.cut:,} of {self.n:,} {self.of} ({self.cut / self.n:.1%}) are longer than "
            f"{self.key}, {self.limit:,} tokens, and would be cut (sample {self.sample!r}: "
            f"{self.longest:,} tokens)"
        )


def measure_lengths(
    recipe: Recipe,
    samples: Sequence[Sample],
    folder: Path,
    family: Family,
    prompt: Prompt,
    thinking: Thinking,
) -> list[Lengths]:
    """The limits of a recipe beside what they limit.

    Args:
        recipe: with the limits.
        samples: to be trained on.
        folder: of the model, with its tokenizer.json.
        family: in whose frame and syntax answers are written.
        prompt: the words around the question.
        thinking: how the template treats the thought.

    Returns:
        One entry per limit; none where the folder's tokens cannot be counted here.

    Raises:
        UsageError: the folder's tokenizer is damaged.
    """
    tokenizer = _read_tokenizer(folder)
    samples = [sample for sample in samples if family.takes(sample.size_wh)]
    if tokenizer is None or not samples:
        return []
    golds = (_gold(sample, family, prompt, thinking) for sample in samples)
    answers = [n + 1 for n in _count(tokenizer, golds)]  # and the token that ends it
    limit = recipe.train.max_completion_length
    found = []
    if recipe.method == "grpo" or recipe.train.validate_samples:
        key = "train.max_completion_length"
        found.append(_lengths(key, limit, "gold answers", samples, answers))
    longest = recipe.train.trl.get("max_length")
    if recipe.method == "sft" and is_whole(longest, 1):
        prompts = _prompt_lengths(tokenizer, samples, folder, family, prompt, thinking)
        whole = [sum(pair) for pair in zip(prompts, answers, strict=True)]
        of = "prompts with their images and answers"
        found.append(_lengths("train.trl.max_length", longest, of, samples, whole))
    return found


def _lengths(
    key: str, limit: int, of: str, samples: Sequence[Sample], counts: Sequence[int]
) -> Lengths:
    longest = max(range(len(counts)), key=counts.__getitem__)
    cut = sum(count > limit for count in counts)
    return Lengths(key, limit, of, len(counts), cut, counts[longest], samples[longest].id)


def _gold(sample: Sample, family: Family, prompt: Prompt, thinking: Thinking) -> str:
    """What a perfect model writes behind the prompt."""
    text = render_target(sample, family, prompt=prompt, opened=thinking.opened)
    return text.removeprefix(THOUGHT[0]) if thinking.opened else text


def _prompt_lengths(
    tokenizer: Any,
    samples: Sequence[Sample],
    folder: Path,
    family: Family,
    prompt: Prompt,
    thinking: Thinking,
) -> list[int]:
    """Tokens of the rendered prompts; of each image, its own instead of the one that stands in."""
    template = read_chat_template(folder)
    if template is None:
        return [0] * len(samples)
    asked = thinking.template_arguments
    texts = (template.render(render_messages(s, prompt, family), **asked) for s in samples)
    images = (max((family.count_image_tokens(s.size_wh) or 1) - 1, 0) for s in samples)
    return [sum(pair) for pair in zip(_count(tokenizer, texts), images, strict=True)]


def _count(tokenizer: Any, texts: Iterator[str]) -> Iterator[int]:
    while batch := list(islice(texts, BATCH)):
        encoded = tokenizer.encode_batch(batch, add_special_tokens=False)
        yield from (len(one.ids) for one in encoded)


def _read_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer; None where it has no tokenizer.json, or nothing here reads it.

    Raises:
        UsageError: the file is damaged.
    """
    path = folder / "tokenizer.json"
    if not path.is_file() or importlib.util.find_spec("tokenizers") is None:
        return None
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # its own, of no narrower kind
        raise UsageError(f"{path}: no tokenizer ({error}); the model folder is damaged") from error
