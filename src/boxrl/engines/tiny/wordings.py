"""Wordings of the format instruction for a tiny VLM that reads it: what is asked, in many words.

Four forms of an answer, each asked for by templates whose slots are filled at random. One filling
in five is held out, and so are whole sentences: what a model does under those tells whether it
reads or remembers.
"""

from __future__ import annotations

import hashlib
import random
import re
from typing import Literal, get_args

from boxrl import prompts
from boxrl.prompts import Prompt

AskedForm = Literal["think", "answer", "json", "raw"]
"""Thought and answer in tags, answer tags alone, the bare fenced JSON, the JSON without fence."""

FORMS: tuple[AskedForm, ...] = get_args(AskedForm)
SHARES = (0.4, 0.2, 0.2, 0.2)
"""How often each form is asked for while the model is taught."""

SLOTS = {
    "thought": ("the thinking process", "the reasoning process", "your reasoning", "your thought",
                "the thinking"),
    "result": ("the final answer", "the answer", "your answer", "the result"),
    "put": ("output", "write", "give", "put"),
    "inside": ("in", "inside", "within"),
}  # fmt: skip

TEMPLATES: dict[AskedForm, tuple[str, ...]] = {
    "think": (
        "{Put} {thought} {inside} <think> </think> and {result} {inside} <answer> </answer>.",
        "First {put} {thought} {inside} <think> </think> tags, then {result} {inside} <answer> "
        "</answer> tags.",
        "{Put} {result} {inside} <answer> </answer> after {thought} {inside} <think> </think>.",
        "Think first. {Put} {thought} {inside} <think> </think> and then {result} {inside} "
        "<answer> </answer> tags.",
    ),
    "answer": (
        "{Put} {result} {inside} <answer> </answer> tags.",
        "Do not {put} {thought} {inside} <think> </think>, only {result} {inside} <answer> "
        "</answer>.",
        "{Put} only {result} {inside} <answer> </answer>, not {thought}.",
        "Without {thought}, {put} {result} {inside} <answer> </answer> tags.",
    ),
    "json": (
        "{Put} only {result} as JSON, without <think> </think> and <answer> </answer> tags.",
        "Do not {put} tags, only {result} as JSON.",
        "{Put} {result} as JSON without tags.",
        "Without {thought} and tags, {put} {result} as JSON.",
    ),
    "raw": (
        "{Put} only {result} as raw text, without JSON fence and tags.",
        "Do not {put} a fence or tags, only {result} as raw text.",
        "{Put} {result} as raw text.",
    ),
}
"""`{Put}` is `{put}` with a capital letter."""

DECIDING = frozenset({"not", "without", "only", "raw", "json"})
"""Words that are never lost: without them another form would be asked for."""

FILLERS = (
    "please", "kindly", "now", "just", "make", "sure", "that", "each", "your", "own", "part",
    "of", "it", "there", "stands", "here", "so", "as", "use", "keep", "state", "show", "mind",
    "user", "provides", "enclosed", "i.e.", "respectively", "respond", "with", "block",
)  # fmt: skip
"""Words that say nothing about the form."""

P_NOISY = 0.6
"""Share of the taught wordings that lose words or gain fillers."""

# Where the first sentence begins, the missing space of the VLM-R1-OVD blog stands.
_FIRST, _, _REST = prompts.OUTPUT.partition(". ")
SENTENCES = (prompts.DETECT.strip(), prompts.GROUND.strip(), _REST)
"""What stays one token each; everything else that is asked is read word by word."""


def _words() -> tuple[str, ...]:
    texts = [part for parts in (*SLOTS.values(), *TEMPLATES.values()) for part in parts]
    texts += [part.capitalize() for part in SLOTS["put"]]
    texts += [*FILLERS, _FIRST, prompts.STANDARD, prompts.ENHANCED, prompts.REC]
    plain = re.sub(r"</?\w+>|{\w+}", " ", " ".join(texts))  # tags and slots are no words
    return tuple(sorted(set(re.findall(r"[A-Za-z]+", plain))))


WORDS = _words()
"""Every word that is one token; others are spelled in bytes."""


def draw_wording(form: AskedForm, rng: random.Random, held_out: bool = False) -> str:
    """A wording that asks for the form.

    Args:
        form: what is asked for.
        rng: draws template and slots.
        held_out: one of those that are never taught.
    """
    while True:
        filled = {name: rng.choice(choices) for name, choices in SLOTS.items()}
        filled["Put"] = filled["put"].capitalize()
        text = rng.choice(TEMPLATES[form]).format_map(filled)
        if (hashlib.sha256(text.encode()).digest()[0] % 5 == 0) is held_out:
            return text


def add_noise(text: str, rng: random.Random) -> str:
    """The wording with words lost, replaced or added; its tags and `DECIDING` words stay."""
    share = rng.choice((0.1, 0.2, 0.35))
    kept: list[str] = []
    for word in text.split(" "):
        lost = word[0].isalpha() and word.strip(".,").lower() not in DECIDING
        if lost and rng.random() < share:
            kept += [rng.choice(FILLERS)] if rng.random() < 0.7 else []
        else:
            kept.append(word)
        if rng.random() < share / 3:
            kept.append(rng.choice(FILLERS))
    return " ".join(kept)


def draw_prompt(form: AskedForm, rng: random.Random, p_system: float) -> Prompt:
    """A taught wording where it stands: mostly behind the problem.

    Args:
        form: what is asked for.
        rng: draws it.
        p_system: share of the wordings that stand in the system message.
    """
    text = draw_wording(form, rng)
    if rng.random() < P_NOISY:
        text = add_noise(text, rng)
    if rng.random() < p_system:
        return Prompt("drawn", text, "system")
    return Prompt("drawn", text, "user-suffix" if rng.random() < 0.85 else "user-prefix")


def render_form(answer: str, thought: str, form: AskedForm) -> str:
    """A completion in the form that was asked for.

    Args:
        answer: as the family writes it.
        thought: as `prompts.render_think` gives it.
        form: what was asked for.
    """
    if form == "think":
        return f"<think>{thought}</think>\n<answer>{answer}</answer>"
    if form == "answer":
        return f"<answer>{answer}</answer>"
    return answer if form == "json" else answer.removeprefix("```json\n").removesuffix("\n```")
