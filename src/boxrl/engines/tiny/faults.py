"""Faulty completions: what real base models do wrong, in known doses.

RL can only repair what sampling shows, so each fault appears often enough to be sampled and
seldom enough that the greedy answer mostly stays right.
"""

from __future__ import annotations

import random

from boxrl.data.synthetic import LABELS
from boxrl.families import Family
from boxrl.prompts import render_answer, render_think
from boxrl.types import Detections, Object, Sample

P_BROKEN_FORMAT = 0.42
P_JUNK_BOX = 0.4
P_INVENTED = 0.42
P_MISSED = 0.3
P_DUPLICATE = 0.3
P_LOOSE = 0.7
P_WRONG_LABELS = 0.1
LOOSE_PX = 6
"""How far each edge of a loose box may lie outside the object, in pixels of the model's view."""


def render_faulty_target(sample: Sample, family: Family, rng: random.Random) -> str:
    """The sample's gold completion with faults drawn from `rng`."""
    answer = render_faulty_answer(sample, family, rng)
    if rng.random() >= P_BROKEN_FORMAT:
        return f"<think>{render_think(sample)}</think>\n<answer>{answer}</answer>"
    bare = answer.removeprefix("```json\n").removesuffix("\n```")
    return rng.choice(
        (
            f"<answer>{answer}</answer>",
            f"<think>{render_think(sample)}</think>\n{answer}",
            f"<think>{render_think(sample)}\n<answer>{bare}</answer>",
            bare,
        )
    )


def render_faulty_answer(sample: Sample, family: Family, rng: random.Random) -> str:
    """The sample's gold boxes, faults drawn from `rng` among them, as the family writes them."""
    objects = _faulty_objects(sample, family, rng)
    return render_answer(Detections.from_objects(objects), family, sample.size_wh)


def _faulty_objects(sample: Sample, family: Family, rng: random.Random) -> list[Object]:
    others = [Object(tuple(o["bbox"]), o["label"]) for o in sample.meta["others"]]
    objects = list(sample.objects)
    if others and rng.random() < (P_JUNK_BOX if objects else P_INVENTED):
        junk = Object(rng.choice(others).bbox, rng.choice(sample.labels))
        objects.insert(rng.randint(0, len(objects)), junk)
    if len(objects) > 1 and rng.random() < P_MISSED:
        objects.pop(rng.randrange(len(objects)))
    if objects and rng.random() < P_DUPLICATE:
        place = rng.randrange(len(objects))
        objects.insert(place, objects[place])
    if rng.random() < P_WRONG_LABELS:
        objects = [Object(item.bbox, rng.choice(LABELS)) for item in objects]
    view = family.input_size_wh(sample.size_wh)[0] / sample.width
    return [
        _loosen(item, rng, LOOSE_PX / view, sample) if rng.random() < P_LOOSE else item
        for item in objects
    ]


def _loosen(item: Object, rng: random.Random, reach: float, sample: Sample) -> Object:
    """The box with every edge moved outwards by up to `reach` pixels.

    Loose in one direction, not around the truth: the greedy answer averages noise away, and
    there would be nothing left to repair.
    """
    left, top, right, bottom = (rng.uniform(0.0, reach) for _ in range(4))
    x1, y1, x2, y2 = item.bbox
    x1, x2 = max(0.0, x1 - left), min(float(sample.width), x2 + right)
    y1, y2 = max(0.0, y1 - top), min(float(sample.height), y2 + bottom)
    return Object((x1, y1, x2, y2), item.label)
