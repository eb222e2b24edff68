"""What is asked of a scene: one function per kind of question.

Each chooses what to draw, draws it, and asks; what is asked follows from where things came to
stand, so every answer is exact. A scene whose answer could be doubted is drawn anew.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from PIL import Image

from boxrl.data.synthetic.shapes import Shape, lay_out, paint, to_object
from boxrl.data.synthetic.world import COLOURS, LABELS, SHAPES, Ask, World
from boxrl.types import Object, Task

N_OPTIONS = 4
"""Options of a region question."""

COUNT = "How many of the following targets are in the image: {label}? Answer with a number."
NOT = "{shape} that is not {colour}"


class AskedScene(NamedTuple):
    """A painted scene with its question; fields as in `Sample`.

    `others` are the shapes that were not asked for, under their own labels.
    """

    image: Image.Image
    task: Task
    labels: Sequence[str]
    objects: Sequence[Object]
    others: Sequence[Object]
    question: str | None = None
    answer: str | None = None


def ask_labels(world: World, rng: random.Random) -> AskedScene:
    """Where is each shape of one to three labels?"""
    count = rng.choices(range(1, len(world.n_labels) + 1), world.n_labels)[0]
    asked = rng.sample(LABELS, count)
    wanted: list[str] = []
    if rng.random() >= world.p_absent:
        # With several labels, some samples hold only the first: absent beside present.
        present = asked if len(asked) == 1 or rng.random() < 0.6 else asked[:1]
        for label in present:
            wanted += [label] * _copies(world, rng)
    wanted += _distractors(world, rng, asked, fewest=0 if wanted else 1)
    wanted = wanted[: world.max_objects]
    if not world.asked_first:
        rng.shuffle(wanted)
    layout = lay_out(world, rng, wanted)
    image = paint(world, rng, layout)
    rng.shuffle(asked)
    objects = [to_object(shape, world) for shape in layout.shapes]
    found = [item for item in objects if item.label in asked]
    others = [item for item in objects if item.label not in asked]
    return AskedScene(image, "detection", asked, found, others)


def ask_relation(world: World, rng: random.Random) -> AskedScene:
    """Where is each A that is left of (right of, above, below) the only B?

    A holds the relation where it lies beyond B's edge altogether, and fails it where its centre
    is not even beyond B's; scenes with an A in between are drawn anew. Negatives hold A and B.
    """
    absent = rng.random() < world.p_absent
    while True:
        moved, anchor = rng.sample(LABELS, 2)
        relation = rng.choice(list(RELATIONS))
        wanted = [anchor] + [moved] * _copies(world, rng)
        wanted += _distractors(world, rng, [moved, anchor])
        layout = lay_out(world, rng, wanted[: world.max_objects])
        those = [shape for shape in layout.shapes if shape.label == moved]
        to = [shape for shape in layout.shapes if shape.label == anchor]
        held = [RELATIONS[relation](shape, to[0]) for shape in those] if to else []
        if held and None not in held and any(held) is not absent:
            break
    label = f"{moved} {relation} {anchor}"
    right = [shape for shape, holds in zip(those, held, strict=True) if holds]
    others = [to_object(shape, world) for shape in layout.shapes if shape not in right]
    image = paint(world, rng, layout)
    found = [to_object(shape, world, label) for shape in right]
    return AskedScene(image, "detection", [label], found, others)


def ask_negation(world: World, rng: random.Random) -> AskedScene:
    """Where is each SHAPE that is not COLOUR? One or two that are COLOUR are always there."""
    absent = rng.random() < world.p_absent
    colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
    free = [f"{other} {shape}" for other in COLOURS if other != colour]
    unlike = [label for label in LABELS if not label.endswith(shape)]
    while True:
        wanted = [f"{colour} {shape}"] * rng.randint(1, 2)
        wanted += [rng.choice(free) for _ in range(0 if absent else _copies(world, rng))]
        wanted += [rng.choice(unlike) for _ in range(rng.randint(*world.distractors))]
        layout = lay_out(world, rng, wanted[: world.max_objects])
        right = [item for item in layout.shapes if item.label in free]
        if bool(right) is not absent:
            break
    label = NOT.format(shape=shape, colour=colour)
    others = [to_object(item, world) for item in layout.shapes if item not in right]
    image = paint(world, rng, layout)
    found = [to_object(item, world, label) for item in right]
    return AskedScene(image, "detection", [label], found, others)


def ask_count(world: World, rng: random.Random) -> AskedScene:
    """How many shapes of one label are there? `p_absent` of the answers are 0."""
    asked = rng.choice(LABELS)
    wanted = [] if rng.random() < world.p_absent else [asked] * _copies(world, rng)
    wanted += _distractors(world, rng, [asked])
    layout = lay_out(world, rng, wanted[: world.max_objects])
    objects = [to_object(shape, world) for shape in layout.shapes]
    found = [item for item in objects if item.label == asked]
    others = [item for item in objects if item.label != asked]
    return AskedScene(
        paint(world, rng, layout), "counting", [asked], found, others,
        question=COUNT.format(label=asked), answer=str(len(found)),
    )  # fmt: skip


def ask_region(world: World, rng: random.Random) -> AskedScene:
    """Which of four labels stands in this box? Labels from elsewhere in the scene come first."""
    asked = rng.choice(LABELS)
    layout = lay_out(world, rng, [asked, *_distractors(world, rng, [asked])])
    chosen = rng.choice(layout.shapes)
    elsewhere = sorted({shape.label for shape in layout.shapes} - {chosen.label})
    absent = [label for label in LABELS if label != chosen.label and label not in elsewhere]
    rng.shuffle(elsewhere)
    options = [chosen.label, *elsewhere, *rng.sample(absent, N_OPTIONS)][:N_OPTIONS]
    rng.shuffle(options)
    others = [to_object(shape, world) for shape in layout.shapes if shape != chosen]
    return AskedScene(
        paint(world, rng, layout), "region", options, [to_object(chosen, world)], others,
        answer=chosen.label,
    )  # fmt: skip


def _copies(world: World, rng: random.Random) -> int:
    return rng.choices(range(1, len(world.copies) + 1), world.copies)[0]


def _distractors(
    world: World, rng: random.Random, asked: Sequence[str], fewest: int = 0
) -> list[str]:
    """Labels of shapes that are not asked for, some of them near an asked one."""
    low, high = world.distractors
    others = [label for label in LABELS if label not in asked]
    chosen = []
    for _ in range(max(rng.randint(low, high), fewest)):
        colour, shape = rng.choice(asked).split()
        near = [label for label in others if colour in label or shape in label]
        chosen.append(rng.choice(near if rng.random() < world.p_near else others))
    return chosen


def _beyond(side: int, sign: int) -> Callable[[Shape, Shape], bool | None]:
    """Whether a box lies beyond another on one axis: yes, no, or None where it is in between.

    Args:
        side: 0 horizontally, 1 vertically.
        sign: -1 towards the origin, 1 away from it.
    """

    def holds(shape: Shape, other: Shape) -> bool | None:
        near, far = sorted((sign * shape.box[side], sign * shape.box[side + 2]))
        other_near, other_far = sorted((sign * other.box[side], sign * other.box[side + 2]))
        if near >= other_far:
            return True
        return False if near + far <= other_near + other_far else None

    return holds


RELATIONS: dict[str, Callable[[Shape, Shape], bool | None]] = {
    "left of": _beyond(0, -1),
    "right of": _beyond(0, 1),
    "above": _beyond(1, -1),
    "below": _beyond(1, 1),
}
"""Relations by their words; each takes the shape that is asked for and the one it is named by."""

ASK: dict[Ask, Callable[[World, random.Random], AskedScene]] = {
    "labels": ask_labels,
    "relation": ask_relation,
    "negation": ask_negation,
    "count": ask_count,
    "region": ask_region,
}
"""Kinds of questions by the name that `World.ask` gives them."""
