"""Worlds by name: how scenes are drawn and what is asked about them. docs/worlds.md shows each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from boxrl.errors import UsageError, did_you_mean

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 210, 40),
}
SHAPES = ("circle", "square", "triangle")
LABELS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)

GRID_PX = 112
"""Scenes are laid out on a grid of 112 x 112 px, which is what the tiny VLM sees."""

CELL_PX = 28
MAX_OBJECTS = 6

Ask = Literal["labels", "relation", "negation", "count", "region"]


@dataclass(frozen=True, slots=True)
class World:
    """How scenes are drawn and asked about.

    Attributes:
        scale: pixels of the image per pixel of the layout grid; boxes stay exact in both.
        sides: widths of shapes in layout pixels; heights are .75 to 1.33 times the width, within
            the same limits.
        textured: stripes, checks and dots in place of flat colours, and more noise.
        p_absent: share of samples none of whose labels is in the image; 0 for a world that has no
            such samples at all.
        n_labels: relative weights of asking for 1, 2, 3, ... labels.
        copies: relative weights of drawing 1, 2, 3, ... shapes of an asked label.
        distractors: fewest and most shapes that are not asked for.
        p_near: share of distractors that must have the colour or the shape of an asked label.
        max_objects: shapes in a scene at most.
        asked_first: asked shapes are placed before others, so that the first always finds a
            place. The standard world, on which the packaged weights were trained, leaves it to
            chance.
        ask: what is asked, see `boxrl.data.synthetic.asking`.
        questions: how often a scene is asked in a row.
        in_turn: of several questions every second is for a label that differs from the one before
            in one word and is not there, so that of an even number half are negatives, whatever
            `p_absent`; else for such a label only once all that are there were asked for.
    """

    scale: int = 2
    sides: Sequence[int] = range(16, 41)
    textured: bool = False
    p_absent: float = 0.2
    n_labels: tuple[float, ...] = (0.7, 0.25, 0.05)
    copies: tuple[float, ...] = (0.65, 0.25, 0.1)
    distractors: tuple[int, int] = (1, 3)
    p_near: float = 0.5
    max_objects: int = MAX_OBJECTS
    asked_first: bool = False
    ask: Ask = "labels"
    questions: int = 1
    in_turn: bool = True


_NEAR_MISS = World(p_absent=0.0, n_labels=(1.0,), distractors=(2, 4), p_near=1.0, asked_first=True)

WORLDS: dict[str, World] = {
    "standard": World(),
    "small": World(sides=range(10, 14), asked_first=True),
    "large": World(sides=range(41, 49), copies=(1.0,), distractors=(1, 2), asked_first=True),
    "single_box": World(p_absent=0.0, n_labels=(1.0,), copies=(1.0,), asked_first=True),
    "near_miss": World(distractors=(2, 4), p_near=1.0, asked_first=True),
    "near_miss_one": replace(_NEAR_MISS, p_absent=0.5),
    "near_miss_pairs": replace(_NEAR_MISS, questions=2),
    "fours": replace(_NEAR_MISS, distractors=(3, 4), p_near=0.5, questions=4, in_turn=False),
    "relations": World(sides=range(14, 29), copies=(0.2, 0.5, 0.3), ask="relation"),
    "negation": World(copies=(0.5, 0.35, 0.15), distractors=(0, 2), ask="negation"),
    "counting": World(
        sides=range(14, 27), copies=(0.25, 0.25, 0.2, 0.15, 0.15), max_objects=8, ask="count"
    ),
    "region": World(p_absent=0.0, distractors=(2, 4), ask="region"),
    "crowded": World(
        sides=range(10, 19),
        copies=(0.0, 0.0, 0.4, 0.3, 0.2, 0.1),
        distractors=(4, 7),
        max_objects=12,
        asked_first=True,
    ),
    "out_of_domain": World(
        scale=3, sides=(*range(12, 16), *range(41, 49)), textured=True, asked_first=True
    ),
}
"""Every world by the name that a recipe's `data.synthetic.world` gives it."""

Worlds = str | Mapping[str, float]
"""The name of a world, or several with the share of scenes that each is to give."""


def check_worlds(worlds: Worlds) -> None:
    """Raise a UsageError where a name is unknown, a share is not positive, or none is named."""
    known = f"worlds: {', '.join(WORLDS)}"
    if not isinstance(worlds, (str, Mapping)) or not worlds:
        raise UsageError(f"expected the name of a world, or {{name: share}}; {known}")
    shares = {worlds: 1.0} if isinstance(worlds, str) else worlds
    for name, share in shares.items():
        if name not in WORLDS:
            raise UsageError(f"unknown world {name!r}; {known}{did_you_mean(WORLDS, name)}")
        if type(share) not in (int, float) or not 0 < share <= 1e9:
            raise UsageError(
                f"world {name!r}: share {share!r:.40}; expected a positive number up to 1e9"
            )
