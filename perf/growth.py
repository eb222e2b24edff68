"""How cost grows with boxes, completions and samples.

    python perf/growth.py [--curves boxes completions samples] [--rounds 3] [--json]

Every curve is measured at several sizes that take turns in one process. `power` is k of
cost ~ size^k between the smallest and the largest size: 1 is linear. Boxes: one completion against
as many targets. Samples: `boxrl evaluate` without intervals, 4 boxes a sample. How a GRPO step
grows with image tokens, completions per prompt and their length stands under grpo_step.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from timing import Calls, print_rows, summarize, take_turns

from boxrl.data.predictions import Prediction
from boxrl.evaluate import evaluate
from boxrl.families import FAMILIES
from boxrl.rewards import score
from boxrl.types import Object, Sample
from rewards import make_up

Curve = dict[int, Callable[[], object]]
"""{size: what costs}."""


def grow_boxes() -> Iterator[tuple[str, Curve]]:
    """One completion of n boxes against n targets."""
    rng = random.Random(0)
    pairs = {n: make_up(rng, n, 4) for n in (10, 30, 100, 300, 1000)}
    for name in ("f1", "ap", "weighted_sum"):
        yield (
            f"{name}, boxes",
            {n: partial(score, [text], [target], [name]) for n, (text, target) in pairs.items()},
        )


def grow_completions() -> Iterator[tuple[str, Curve]]:
    """A batch of n completions of 1 to 12 boxes."""
    rng = random.Random(0)
    rows = [make_up(rng, rng.randint(1, 12), 3) for _ in range(4096)]
    texts, objects = [row[0] for row in rows], [row[1] for row in rows]
    yield (
        "format + f1, completions",
        {n: partial(score, texts[:n], objects[:n], ["format", "f1"]) for n in (64, 512, 4096)},
    )


def grow_samples() -> Iterator[tuple[str, Curve]]:
    """An evaluation of n samples."""
    rng = random.Random(0)
    samples, answers = [], {}
    for number in range(8000):
        text, target = make_up(rng, 4, 2)
        objects = tuple(Object(tuple(item["bbox"]), item["label"]) for item in target)
        labels = tuple(dict.fromkeys(item.label for item in objects))
        name = str(number)
        samples.append(Sample(name, f"{name}.jpg", 2000, 1100, "detection", labels, objects))
        answers[name] = Prediction(name, text, 90, "stop")

    def run(n: int) -> object:
        part = {sample.id: answers[sample.id] for sample in samples[:n]}
        return evaluate(samples[:n], part, FAMILIES["plain"], resamples=0)

    yield "evaluate, samples", {n: partial(run, n) for n in (500, 2000, 8000)}


CURVES: dict[str, Callable[[], Iterator[tuple[str, Curve]]]] = {
    "boxes": grow_boxes,
    "completions": grow_completions,
    "samples": grow_samples,
}


def measure(name: str, curve: Curve, rounds: int) -> list[dict[str, Any]]:
    """One row per size; the last one says the power."""
    calls: Calls = {str(size): call for size, call in curve.items()}
    take_turns(calls, 1)  # imports and caches
    summary = summarize(take_turns(calls, rounds), next(iter(calls)))
    rows = [{"cost of": name, "size": row["what"], "ms": row["ms"], "power": ""} for row in summary]
    sizes = list(curve)
    cost = rows[-1]["ms"][1] / rows[0]["ms"][1]
    rows[-1]["power"] = round(math.log(cost) / math.log(sizes[-1] / sizes[0]), 2)
    return rows


def main() -> None:
    """Every curve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", nargs="+", default=list(CURVES), choices=CURVES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = [
        row
        for chosen in args.curves
        for name, curve in CURVES[chosen]()
        for row in measure(name, curve, args.rounds)
    ]
    print_rows(rows, args.json)


if __name__ == "__main__":
    main()
