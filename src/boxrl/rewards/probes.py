"""Answers that a model learns to give when a reward pays for them: what would yours pay?

Each probe makes one answer from a sample's gold boxes: better, equal or worse than gold by
construction. A reward that pays a worse one as much as gold will be gamed in training.
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from boxrl.boxes import iou, paired_iou, scale
from boxrl.families import FAMILIES
from boxrl.parsing import parse
from boxrl.rewards import Reward
from boxrl.types import Asked, Completion, Sample, Target

Item = tuple[tuple[float, ...], str]
"""A box, original pixels, and its label."""

JUNK = 30
"""Boxes that the junk probes add."""

REPEATS = 8
"""How often an answer that runs into the limit has said its boxes by then."""

CHARACTERS_PER_TOKEN = 4
"""Probes have no tokenizer; rewards of length see this estimate."""


class Probe(NamedTuple):
    """One way to answer.

    Attributes:
        what: what is wrong with it, for people.
        answer: from (sample, random numbers) the answer's text, or None where it cannot be made.
        worse: whether it is worse than gold, so that a reward must not pay it as much.
        form: the completion around the answer.
    """

    what: str
    answer: Callable[[Sample, random.Random], str | None]
    worse: bool = True
    form: str = "<think>{count} objects</think>\n<answer>{answer}</answer>"


def gold_items(sample: Sample) -> list[Item]:
    """The target's boxes as a model is trained to write them, in whole pixels."""
    targets = Target.from_sample(sample).detections
    boxes = FAMILIES["plain"].render_boxes(targets.boxes, sample.size_wh)
    return [(tuple(box), label) for box, label in zip(boxes, targets.labels, strict=True)]


def render_items(items: Sequence[Item]) -> str:
    """Items as a fenced JSON array, `None` for none."""
    rows = [_row(*item) for item in items]
    return f"```json\n{json.dumps(rows, ensure_ascii=False)}\n```" if rows else "None"


def _row(box: tuple[float, ...], label: str) -> dict[str, Any]:
    return {"bbox_2d": list(box), "label": label}


def junk_items(sample: Sample, rng: random.Random, label: str | None = None) -> list[Item]:
    """Boxes that hit no target (IoU below .3), under `label` or the sample's own labels."""
    width, height = sample.size_wh
    targets = Target.from_sample(sample).detections
    names = list(dict.fromkeys(targets.labels)) or list(sample.labels) or ["object"]
    drawn = [
        (min(x), min(y), max(x), max(y))
        for _ in range(10 * JUNK)
        for x in [rng.sample(range(width + 1), 2)]
        for y in [rng.sample(range(height + 1), 2)]
    ]
    misses = (iou(np.array(drawn, dtype=np.float64), targets.boxes) < 0.3).all(axis=1)
    junk = [drawn[index] for index in np.flatnonzero(misses)[:JUNK].tolist()]
    return [(box, label or rng.choice(names)) for box in junk]


def _shuffled(sample: Sample, rng: random.Random) -> str | None:
    items = gold_items(sample)
    return render_items(rng.sample(items, len(items))) if len(items) > 1 else None


def _duplicated(sample: Sample, rng: random.Random) -> str | None:
    items = [item for item in gold_items(sample) for _ in range(2)]
    return render_items(items) if items else None


def _nearly_duplicated(sample: Sample, rng: random.Random) -> str | None:
    items = [
        ((x1, y1, x2 + shift, y2), label)
        for (x1, y1, x2, y2), label in gold_items(sample)
        for shift in (0, 1, -1)
        if x2 + shift > x1
    ]
    return render_items(items) if items else None


def _whole_image(sample: Sample, rng: random.Random) -> str | None:
    box = (0.0, 0.0, float(sample.width), float(sample.height))
    return render_items([(box, label) for label in sample.labels])


def _every_label(sample: Sample, rng: random.Random) -> str | None:
    items = gold_items(sample)
    names = list(dict.fromkeys([*sample.labels, *(label for _, label in items)]))
    everywhere = [(box, name) for box, _ in items for name in names]
    return render_items(everywhere) if len(everywhere) > len(items) else None


def _empty(sample: Sample, rng: random.Random) -> str | None:
    return "None" if gold_items(sample) else None


def _broken(sample: Sample, rng: random.Random) -> str | None:
    return render_items(gold_items(sample) or junk_items(sample, rng)[:1]).replace('":', '"')


def _prose(sample: Sample, rng: random.Random) -> str | None:
    return f"I can see {' and '.join(sample.labels) or 'objects'} everywhere in this image."


def _wrong_case(sample: Sample, rng: random.Random) -> str | None:
    items = [(box, label.swapcase()) for box, label in gold_items(sample)]
    return render_items(items) if items else None


def _swapped_axes(sample: Sample, rng: random.Random) -> str | None:
    items = [((y1, x1, y2, x2), label) for (x1, y1, x2, y2), label in gold_items(sample)]
    return render_items(items) if items else None


def _per_mille(sample: Sample, rng: random.Random) -> str | None:
    """None, too, for an image of about 1,000 pixels, where this frame shows the right boxes."""
    gold = gold_items(sample)
    boxes = np.array([box for box, _ in gold]).reshape(-1, 4)
    wrong = scale(boxes, sample.size_wh, (1000, 1000)).round()
    if (paired_iou(boxes, wrong) >= 0.5).any() or not gold:
        return None
    return render_items(
        [(tuple(map(int, b)), label) for b, (_, label) in zip(wrong, gold, strict=True)]
    )


def _cut(sample: Sample, rng: random.Random) -> str | None:
    text = render_items(gold_items(sample))
    return text[: len(text) // 2] if gold_items(sample) else None


def _junk_then_none(sample: Sample, rng: random.Random) -> str | None:
    return f"{render_items(junk_items(sample, rng)[:1])}\n[]"


def _two_answers(sample: Sample, rng: random.Random) -> str | None:
    junk = render_items(junk_items(sample, rng)[:1])
    return f"{render_items(gold_items(sample))}</answer>\n<answer>{junk}"


def _one_object(sample: Sample, rng: random.Random) -> str | None:
    items = gold_items(sample)
    return json.dumps(_row(*items[0]), ensure_ascii=False) if len(items) == 1 else None


def _repeated(sample: Sample, rng: random.Random) -> str | None:
    items = gold_items(sample)
    text = json.dumps([_row(*item) for _ in range(REPEATS) for item in items], ensure_ascii=False)
    return text[: -len(text) // (2 * REPEATS * len(items))] if items else None


def _outside(sample: Sample, rng: random.Random) -> str | None:
    width, height = sample.size_wh
    far = [
        ((x1 + width, y1 + height, x2 + width, y2 + height), label)
        for (x1, y1, x2, y2), label in junk_items(sample, rng)
    ]
    return render_items(far + gold_items(sample))


PROBES: dict[str, Probe] = {
    "gold": Probe("the right answer", lambda s, _: render_items(gold_items(s)), worse=False),
    "gold, shuffled": Probe("the right boxes in another order", _shuffled, worse=False),
    "gold, recased": Probe("the right answer, labels in the other case", _wrong_case, False),
    "junk last": Probe(
        f"gold, then {JUNK} boxes that hit nothing",
        lambda s, rng: render_items(gold_items(s) + junk_items(s, rng)),
    ),
    "junk first": Probe(
        f"{JUNK} boxes that hit nothing, then gold",
        lambda s, rng: render_items(junk_items(s, rng) + gold_items(s)),
    ),
    "duplicates": Probe("every box twice", _duplicated),
    "near-duplicates": Probe("every box three times, a pixel apart", _nearly_duplicated),
    "whole image": Probe("one box around the image for each label", _whole_image),
    "invented label": Probe(
        f"{JUNK} boxes of a label that was not asked for, then gold",
        lambda s, rng: render_items(junk_items(s, rng, "dragon") + gold_items(s)),
    ),
    "every label": Probe("every box under every asked label", _every_label),
    "empty": Probe("None where there are objects", _empty),
    "broken JSON": Probe("gold with its colons lost", _broken),
    "prose": Probe("a sentence", _prose),
    "swapped axes": Probe("gold as y, x", _swapped_axes),
    "wrong frame": Probe("gold scaled to 0..1000", _per_mille),
    "cut JSON": Probe("gold, cut in the middle", _cut),
    "one object": Probe("the only right box, outside of an array", _one_object, worse=False),
    "junk, then []": Probe("a box that hits nothing, then an empty array", _junk_then_none),
    "two answers": Probe("gold, then another answer with a box that hits nothing", _two_answers),
    "repeated": Probe(f"gold {REPEATS} times over, cut at the limit", _repeated),
    "answer in the thought": Probe(
        "gold quoted in the thought, the answer itself cut",
        lambda s, _: f"<answer>{render_items(gold_items(s))}</answer> so",
        form="<think>{answer}</think>\n<answer>[{{",
    ),
    "endless thought": Probe(
        "gold in a thought that never ends",
        lambda s, _: f"<answer>{render_items(gold_items(s))}</answer>",
        form="<think>{answer}",
    ),
    "outside": Probe(f"{JUNK} boxes outside of the image, then gold", _outside),
}
"""Every probe by name; `gold` is what the others are compared with."""


def probe_completion(sample: Sample, probe: Probe, answer: str) -> Completion:
    """The probe's completion with this answer, read as family `plain` reads it."""
    text = probe.form.format(count=len(sample.objects), answer=answer)
    parsed = parse(text, FAMILIES["plain"], sample.size_wh, asked=Asked.from_sample(sample))
    return Completion(text, parsed, n_tokens=len(text) // CHARACTERS_PER_TOKEN)


def run_probes(
    samples: Sequence[Sample], rewards: Sequence[Reward], margin: float = 0.1, seed: int = 0
) -> dict[str, Any]:
    """What each reward pays for each probe.

    Args:
        samples: detection and grounding samples count; others are left out.
        rewards: built rewards; with several, `sum` stands for all of them together, as trainers
            add them.
        margin: a worse answer is overpaid where it earns more than gold minus `margin`.
        seed: of the junk boxes.

    Returns:
        `{"n", "margin", "rewards": {NAME: {"probes": {PROBE: {"n", "mean", "gold", "overpaid",
        "underpaid"}}, "zero_variance": [id, ...]}}}`: means over the samples to which the probe
        and the reward apply, `gold` over the same samples; `overpaid` the share of them where a
        worse answer earns too much, `underpaid` where one as good as gold earns less than gold
        minus `margin`; `zero_variance` the samples all of whose probes earn the same.
    """
    asked = [sample for sample in samples if sample.task in ("detection", "grounding")]
    rng = random.Random(seed)
    values = [_pay(sample, rewards, rng) for sample in asked]
    names = [reward.name for reward in rewards] + (["sum"] if len(rewards) > 1 else [])
    return {
        "n": len(asked),
        "margin": margin,
        "rewards": {
            name: {
                "probes": {probe: _summarize(values, name, probe, margin) for probe in PROBES},
                "zero_variance": [
                    sample.id
                    for sample, paid in zip(asked, values, strict=True)
                    if len({by_probe[name] for by_probe in paid.values()}) == 1
                ],
            }
            for name in names
        },
    }


Paid = dict[str, dict[str, float | None]]
"""Probe -> reward -> value, for one sample."""


def _pay(sample: Sample, rewards: Sequence[Reward], rng: random.Random) -> Paid:
    target = Target.from_sample(sample)
    paid: Paid = {}
    for name, probe in PROBES.items():
        answer = probe.answer(sample, rng)
        if answer is None:
            continue
        completion = probe_completion(sample, probe, answer)
        values = {reward.name: reward(completion, target) for reward in rewards}
        applicable = [value for value in values.values() if value is not None]
        paid[name] = values | {"sum": sum(applicable) if applicable else None}
    return paid


def _summarize(values: Sequence[Paid], reward: str, probe: str, margin: float) -> dict[str, Any]:
    pairs = [
        (value, gold)
        for paid in values
        if probe in paid
        and (value := paid[probe][reward]) is not None
        and (gold := paid["gold"][reward]) is not None
    ]
    if not pairs:
        return {"n": 0, "mean": None, "gold": None, "overpaid": 0.0, "underpaid": 0.0}
    worse = PROBES[probe].worse
    too_much = [value > gold - margin for value, gold in pairs]
    too_little = [value < gold - margin for value, gold in pairs]
    return {
        "n": len(pairs),
        "mean": statistics.fmean(value for value, _ in pairs),
        "gold": statistics.fmean(gold for _, gold in pairs),
        "overpaid": statistics.fmean(too_much) if worse else 0.0,
        "underpaid": 0.0 if worse else statistics.fmean(too_little),
    }
