"""How fast rewards are, beside pycocotools and TRL's own reward on the same completions.

    python perf/rewards.py [--rounds 9] [--json]

512 completions of 1 to 12 boxes, 1 to 4 labels each, every one with a target of its own, in one
process, on one core, in CPU time; what is compared takes turns. Times hold everything from the text
on: reading the answer, checking the target, the reward; but for `parsed boxes`, where that is done
before. TRL's `think_format_reward` looks for tags only, and so does boxrl's `format` by itself,
called as TRL calls it: it reads each sample's line and no box. Exit status 1 where four rewards
take over 25 ms, AP of parsed boxes is under 100 times as fast as pycocotools, or a megabyte of
brackets takes over 50 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/ holds the reference evaluation

from tests.support.coco_reference import coco_stats
from timing import compare, print_tables, summarize, take_turns
from trl.rewards import think_format_reward

from boxrl.data.samples import render_sample
from boxrl.families import FAMILIES
from boxrl.parsing import parse
from boxrl.rewards import REWARDS, build_reward, score
from boxrl.rewards.adapters import parse_once, read_target
from boxrl.rewards.trl import TRLReward
from boxrl.types import Completion, Object, Sample, Target

COMPLETIONS = 512
LABELS = ("cat", "dog", "person", "car", "traffic light", "cup", "bird")
CPU = time.process_time
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


def measure_rewards(rows: list[tuple[str, Objects]], rounds: int) -> list[dict[str, Any]]:
    """The four-reward set, and rewards by themselves."""
    completions, objects = [row[0] for row in rows], [row[1] for row in rows]
    run = partial(score, completions, objects, n_tokens=[200] * len(rows))
    calls = {" + ".join(SET): partial(run, SET)}
    calls |= {
        name: partial(run, [name]) for name in ("format", "ap", "weighted_sum", "f1", "dense_f1")
    }
    summary = summarize(take_turns(calls, rounds, CPU), " + ".join(SET))
    return [{"rewards": row["what"], "ms": row["ms"]} for row in summary]


def measure_coco(rows: list[tuple[str, Objects]], rounds: int) -> list[dict[str, Any]]:
    """AP by pycocotools, and by boxrl from parsed boxes and from text."""
    texts, objects = [row[0] for row in rows], [row[1] for row in rows]
    parsed = [parse(text, FAMILIES["plain"], None) for text in texts]
    targets = [[(item["bbox"], item["label"]) for item in items] for items in objects]
    pairs = [
        (list(zip(p.detections.boxes.tolist(), p.detections.labels, strict=True)), target)
        for p, target in zip(parsed, targets, strict=True)
    ]
    read = [
        (Completion("", p), Target(parse(answer(target), FAMILIES["plain"], None).detections))
        for p, target in zip(parsed, targets, strict=True)
    ]
    ways = {
        "parsed boxes": lambda: [REWARDS["ap"](*pair) for pair in read],
        "text": lambda: score(texts, objects, ["ap"]),
    }
    theirs = {"pycocotools": lambda: [coco_stats(*pair) for pair in pairs]}
    return [
        {"from": way, "completions": len(rows)} | compare(theirs | {"boxrl": ours}, rounds, CPU)
        for way, ours in ways.items()
    ]


def measure_trl(rows: list[tuple[str, Objects]], rounds: int) -> list[dict[str, Any]]:
    """Form by TRL's function and by boxrl's, both called as GRPOTrainer does."""
    texts = [[{"role": "assistant", "content": row[0]}] for row in rows]
    columns = {"completion_ids": [[0] * 200] * len(rows), "sample": []}
    for number, (_, objects) in enumerate(rows):
        items = tuple(Object(tuple(item["bbox"]), item["label"]) for item in objects)
        labels = tuple(dict.fromkeys(item.label for item in items))
        sample = Sample(str(number), "a.jpg", 2000, 1100, "detection", labels, items)
        columns["sample"].append(render_sample(sample))
    reward = TRLReward(build_reward("format"), FAMILIES["plain"])

    def ours() -> None:
        read_target.cache_clear()
        parse_once.cache_clear()
        reward(texts, **columns)

    calls = {"trl": lambda: think_format_reward(texts, **columns), "boxrl": ours}
    return [{"reward": "format", "completions": len(rows)} | compare(calls, rounds, CPU)]


def measure_sizes(rng: random.Random, rounds: int) -> list[dict[str, Any]]:
    """One completion by number of boxes and targets."""
    figures = []
    for n_preds, n_targets in ((1, 1), (10, 10), (30, 30), (100, 100), (10_000, 10), (10_000, 100)):
        text, objects = make_up(rng, n_preds, 2)
        run = partial(score, [text], [objects[:n_targets]], n_tokens=[100])
        names = ("ap", "weighted_sum", "f1", "repetition")
        summary = summarize(
            take_turns({name: partial(run, [name]) for name in names}, rounds, CPU), "ap"
        )
        size = {"boxes x targets": f"{n_preds:,} x {n_targets}"}
        figures.append(size | {f"{row['what']} ms": row["ms"] for row in summary})
    return figures


def measure_hostile() -> list[dict[str, Any]]:
    """The megabyte of one piece that takes longest to be read and scored with every reward."""
    target = Target(parse(answer([([0, 0, 9, 9], "cat")]), FAMILIES["plain"], None).detections)

    def run(text: str) -> None:
        completion = Completion(text, parse(text, FAMILIES["plain"], (640, 480)), 1000)
        for reward in REWARDS.values():
            reward(completion, target)

    calls = {
        f"`{wrap.format(piece * 3 + '...')}`": partial(
            run, wrap.format(piece * (1_000_000 // len(piece)))
        )
        for piece in ("[", "]", "{", "[]", "[{", "9", "1,", "[ ", "9 ")
        for wrap in ("{}", "<answer>{}</answer>", "<answer>[{}</answer>")
    }
    summary = summarize(take_turns(calls, 5, CPU), next(iter(calls)))
    slowest = max(summary, key=lambda row: row["ms"][1])
    return [{"of": f"{len(calls)} kinds", "slowest": slowest["what"], "ms": slowest["ms"]}]


def main() -> int:
    """Measure, print; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rng = random.Random(0)
    rows = [make_up(rng, rng.randint(1, 12), rng.randint(1, 4)) for _ in range(COMPLETIONS)]
    tables = {
        f"Rewards of {COMPLETIONS} completions": measure_rewards(rows, 3 * args.rounds),
        "AP beside pycocotools": measure_coco(rows[:128], args.rounds),
        "Form beside TRL": measure_trl(rows, 3 * args.rounds),
        "One completion of many boxes": measure_sizes(rng, args.rounds),
        "A megabyte, read and scored by every reward": measure_hostile(),
    }
    rewards, coco, _, _, hostile = tables.values()
    reached = {
        "four rewards": rewards[0]["ms"][1] < SET_LIMIT_MS,
        "ap beside pycocotools": coco[0]["times as fast"][1] >= COCO_LIMIT,
        "a megabyte": hostile[0]["ms"][1] < MEGABYTE_LIMIT_MS,
    }
    missed = [what for what, held in reached.items() if not held]
    print_tables(tables, args.json, missed=missed)
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
