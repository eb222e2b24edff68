"""The tiny VLM's tokenizer: real special tokens and chat template, a vocabulary of its own.

Bytes cover any text; whole pieces keep sequences short: numbers up to the largest coordinate are
one token each (0-127 in the packaged models), the glue of an answer item is merged (one box = 8
tokens), a label is two tokens (colour, shape), and each sentence of the shipped prompts is one.
Tags are ordinary tokens, because trainers decode with `skip_special_tokens` and special ones would
vanish before the reward.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from boxrl import prompts
from boxrl.data.synthetic import COLOURS, SHAPES

NUMBERS = 128
"""Coordinates and counts below it are single tokens."""

IMAGE_TOKEN = "<|image_pad|>"
EOS_TOKEN = "<|im_end|>"
PAD_TOKEN = "<|endoftext|>"
SPECIAL_TOKENS = (
    "<|im_start|>",
    "<|vision_start|>",
    "<|vision_end|>",
    IMAGE_TOKEN,
    "<|video_pad|>",
)

SENTENCES = (
    prompts.DETECT.strip(),
    prompts.GROUND.strip(),
    prompts.OUTPUT,
    prompts.STANDARD,
    prompts.ENHANCED,
)
PIECES = tuple(
    ["<think>", "</think>", "<answer>", "\n<answer>", "</answer>", "```json\n", "\n```", "```"]
    + ['[{"bbox_2d": [', '], "label": "', '"}, {"bbox_2d": [', '"}]', "None", "json", "\n"]
    + ["user", "system", "assistant", "bbox_2d", "label"]
    + [space + word for space in ("", " ") for word in [*COLOURS, *SHAPES]]
)

SPLIT = "|".join(
    [r"\n?<answer>", r"</?[a-z]+>", r"```json\n", r"\n?```"]
    + [re.escape(glue) for glue in ('"}, {"bbox_2d": [', '[{"bbox_2d": [', '], "label": "', '"}]')]
    + [r", \d+", r"\d+", r" ?[A-Za-z]+", r"\n", r"[^\n]"]
)

_TEXT = "{% for c in m['content'] %}{% if 'text' in c %}{{ c['text'] }}{% endif %}{% endfor %}"
_IMAGE = (
    "{% for c in m['content'] %}{% if c['type'] == 'image' or 'image' in c or 'image_url' in c %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% endif %}{% endfor %}"
)


def _template(content: str) -> str:
    return (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% if m['content'] is string %}{{ m['content'] }}{% else %}" + content +
        "{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )  # fmt: skip


# The text stands before the image whatever the order in the message: image tokens can then
# look at the question, and one small model learns to look far sooner.
CHAT_TEMPLATE = _template(_TEXT + _IMAGE)
IMAGE_FIRST = _template(_IMAGE + _TEXT)
"""As most models have it: prompts of one image can share its tokens."""


def build_tokenizer(
    numbers: int = NUMBERS, sentences: Sequence[str] = SENTENCES, words: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """The tokenizer from nothing; equal on every machine.

    Args:
        numbers: coordinates and counts below it are single tokens.
        sentences: single tokens each, with and without a space before.
        words: the same; words beyond these and those of the answers are spelled in bytes.
    """
    texts = [*sentences, *words]
    whole = [" ?" + re.escape(sentence) for sentence in sorted(sentences, key=len, reverse=True)]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    def as_bytes(piece: str) -> str:
        return "".join(part for part, _ in byte_level.pre_tokenize_str(piece))

    spelled = [str(n) for n in range(numbers)] + [f", {n}" for n in range(numbers)]
    vocabulary: dict[str, int] = {}
    spelled += [*PIECES, *(space + text for space in ("", " ") for text in texts)]
    for piece in [as_bytes(p) for p in spelled] + sorted(byte_level.alphabet()):
        vocabulary.setdefault(piece, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex("|".join([*whole, SPLIT])), "isolated"), byte_level]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS_TOKEN,
        pad_token=PAD_TOKEN,
        extra_special_tokens=list(SPECIAL_TOKENS),
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
        chat_template=CHAT_TEMPLATE,
    )


def number_ids(tokenizer: PreTrainedTokenizerFast, numbers: int = NUMBERS) -> list[list[int]]:
    """Token ids of the numbers: as `7` (a first coordinate, a count) and as `, 7`.

    Args:
        tokenizer: of `build_tokenizer`.
        numbers: what it was built for.
    """
    first: list[int] = tokenizer.convert_tokens_to_ids([str(n) for n in range(numbers)])
    later = [tokenizer(f", {n}")["input_ids"][0] for n in range(numbers)]
    return [first, later]
