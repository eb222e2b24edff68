"""How fast rewards are, beside pycocotools on the same completions.

    python benchmarks/rewards.py [--json]

512 completions of 1 to 12 boxes, 1 to 4 labels each, every one with a target of its own; one
process, one core, the fastest of several rounds. Times hold everything from the text on: reading
the answer, checking the target, the reward. Exit status 1 where a target of the issue is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/ holds the reference evaluation

from tests.coco_reference import coco_stats

from boxrl.families import FAMILIES
from boxrl.parsing import parse
from boxrl.rewards import REWARDS, score
from boxrl.types import Completion, Target

COMPLETIONS = 512
LABELS = ("cat", "dog", "person", "car", "traffic light", "cup", "bird")
SET = ["format", "weighted_sum", "cosine", "repetition"]
SET_LIMIT_MS, COCO_LIMIT, MEGABYTE_LIMIT_MS = 25.0, 100.0, 50.0

Objects = list[dict[str, Any]]


def answer(boxes: list[tuple[list[int], str]]) -> str:
    """A completion with these boxes."""
    items = json.dumps([{"bbox_2d": box, "label": label} for box, label in boxes])
    return f"<think>I look at the image.</think>\n<answer>```json\n{items}\n```</answer>"


def make_up(rng: random.Random, n_boxes: int, n_labels: int) -> tuple[str, Objects]:
    """A completion whose boxes lie some pixels off the target's, in another order."""
    labels = rng.sample(LABELS, n_labels)
    targets = []
    for _ in range(n_boxes):
        x, y = rng.randint(0, 1800), rng.randint(0, 900)
        side = rng.randint(10, 140), rng.randint(10, 100)
        targets.append(([x, y, x + side[0], y + side[1]], rng.choice(labels)))
    moved = [
        ([max(0, v + rng.randint(-6, 6)) + (9 if k > 1 else 0) for k, v in enumerate(box)], label)
        for box, label in rng.sample(targets, n_boxes)
    ]
    return answer(moved), [{"bbox": box, "label": label} for box, label in targets]


def fastest_ms(run: Callable[[], object], rounds: int) -> float:
    """Processor milliseconds of the fastest round: what a core takes that nothing else uses."""
    times = []
    for _ in range(rounds):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return min(times) * 1e3


def measure_set(rows: list[tuple[str, Objects]]) -> dict[str, float]:
    """Milliseconds of the four-reward set, and of each reward by itself."""
    completions, objects = [row[0] for row in rows], [row[1] for row in rows]
    run = partial(score, completions, objects, n_tokens=[200] * len(rows))
    figures = {" + ".join(SET): fastest_ms(partial(run, SET), 40)}
    for name in ("format", "ap", "weighted_sum", "f1", "dense_f1"):
        figures[name] = fastest_ms(partial(run, [name]), 15)
    return figures


def measure_coco(rows: list[tuple[str, Objects]]) -> dict[str, float]:
    """Microseconds per completion of pycocotools and of `ap`, from parsed boxes and from text."""
    parsed = [parse(text, FAMILIES["plain"], None) for text, _ in rows]
    pairs = [
        (
            list(zip(p.detections.boxes.tolist(), p.detections.labels, strict=True)),
            [(item["bbox"], item["label"]) for item in objects],
        )
        for p, (_, objects) in zip(parsed, rows, strict=True)
    ]
    theirs = fastest_ms(lambda: [coco_stats(*pair) for pair in pairs[:128]], 3) / 128
    targets = [parse(answer(pair[1]), FAMILIES["plain"], None).detections for pair in pairs]
    both = [(Completion("", p), Target(t)) for p, t in zip(parsed, targets, strict=True)]
    boxes = fastest_ms(lambda: [REWARDS["ap"](*pair) for pair in both], 15) / len(rows)
    texts, objects = [row[0] for row in rows], [row[1] for row in rows]
    whole = fastest_ms(lambda: score(texts, objects, ["ap"]), 15) / len(rows)
    return {"pycocotools": theirs * 1e3, "ap, parsed boxes": boxes * 1e3, "ap, text": whole * 1e3}


def measure_sizes(rng: random.Random) -> dict[str, dict[str, float]]:
    """Milliseconds per completion by number of boxes and targets."""
    figures = {}
    for n_preds, n_targets in ((1, 1), (10, 10), (30, 30), (100, 100), (10_000, 10), (10_000, 100)):
        text, objects = make_up(rng, n_preds, 2)
        run = partial(score, [text], [objects[:n_targets]], n_tokens=[100])
        rounds = 10 if n_preds <= 100 else 3
        figures[f"{n_preds:,} x {n_targets}"] = {
            name: fastest_ms(partial(run, [name]), rounds)
            for name in ("ap", "weighted_sum", "f1", "repetition")
        }
    return figures


def measure_hostile() -> dict[str, float]:
    """Milliseconds to read a megabyte of one piece and score it with every reward."""
    target = Target(parse(answer([([0, 0, 9, 9], "cat")]), FAMILIES["plain"], None).detections)

    def run(text: str) -> None:
        completion = Completion(text, parse(text, FAMILIES["plain"], (640, 480)), 1000)
        for reward in REWARDS.values():
            reward(completion, target)

    return {
        wrap.format(piece * 3 + "..."): fastest_ms(
            partial(run, wrap.format(piece * (1_000_000 // len(piece)))), 5
        )
        for piece in ("[", "]", "{", "[]", "[{", "9", "1,", "[ ", "9 ")
        for wrap in ("{}", "<answer>{}</answer>", "<answer>[{}</answer>")
    }


def main() -> int:
    """Measure, print; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rng = random.Random(0)
    rows = [make_up(rng, rng.randint(1, 12), rng.randint(1, 4)) for _ in range(COMPLETIONS)]
    rewards, coco = measure_set(rows), measure_coco(rows)
    sizes, hostile = measure_sizes(rng), measure_hostile()
    ratios = {name: coco["pycocotools"] / coco[name] for name in coco if name != "pycocotools"}
    worst = max(hostile, key=lambda name: hostile[name])
    missed = [
        what
        for what, reached in {
            "four rewards": rewards[" + ".join(SET)] < SET_LIMIT_MS,
            "ap beside pycocotools": ratios["ap, parsed boxes"] >= COCO_LIMIT,
            "a megabyte": hostile[worst] < MEGABYTE_LIMIT_MS,
        }.items()
        if not reached
    ]
    if args.json:
        figures = {"ms_per_512": rewards, "us_per_completion": coco, "ratios": ratios}
        print(
            json.dumps(figures | {"ms_by_boxes": sizes, "megabyte_ms": hostile, "missed": missed})
        )
        return bool(missed)
    print("| rewards | ms for 512 completions |\n|---|---|")
    for name, ms in rewards.items():
        print(f"| {name} | {ms:.1f} |")
    print("\n| AP of one completion | microseconds | times as fast |\n|---|---|---|")
    for name, us in coco.items():
        print(f"| {name} | {us:.0f} | {ratios.get(name, 1):.0f} |")
    print("\n| boxes x targets | ap ms | weighted_sum ms | f1 ms | repetition ms |")
    print("|---|---|---|---|---|")
    for name, figures in sizes.items():
        print(f"| {name} | " + " | ".join(f"{ms:.2f}" for ms in figures.values()) + " |")
    print(f"\nslowest megabyte, read and scored by every reward: `{worst}` {hostile[worst]:.0f} ms")
    print(f"missed: {', '.join(missed) or 'nothing'}")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
