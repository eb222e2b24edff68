"""How fast completions are read, and how many are read right, beside two other readers.

    python perf/parse.py [--rounds 15] [--json]

512 completions of 1 to 12 boxes in each of seven forms. `published` is the way of the published
code, written here: the last fence of the text by a regular expression, then json.loads.
`supervision` is its `Detections.from_vlm`, where it is installed. Read right means: the boxes that
were written, in order, and no error. The readers take turns in one process; times are CPU time.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from timing import print_rows, summarize, take_turns

from boxrl.families import FAMILIES
from boxrl.parsing import parse

COMPLETIONS, SIZE_WH = 512, (2000, 1000)
LABELS = ("cat", "dog", "person", "car", "traffic light", "cup", "bird")
Boxes = list[list[float]]


def draw_boxes(rng: random.Random) -> Boxes:
    """1 to 12 boxes inside the image."""
    corners = [(rng.randint(0, 1800), rng.randint(0, 880)) for _ in range(rng.randint(1, 12))]
    return [[x, y, x + rng.randint(10, 190), y + rng.randint(10, 110)] for x, y in corners]


def write_items(rng: random.Random, boxes: Boxes) -> str:
    """The boxes as models write them."""
    return json.dumps([{"bbox_2d": box, "label": rng.choice(LABELS)} for box in boxes])


def write_forms(rng: random.Random, boxes: Boxes) -> dict[str, tuple[str, Boxes]]:
    """{form: (completion, boxes that it holds)}."""
    items = write_items(rng, boxes)
    twelve = (12 * boxes)[:12]
    think, fence = "<think>I look at the image.</think>\n", f"```json\n{items}\n```"
    long = "<think>" + "I look at the next part of the image. " * 120 + "</think>\n"
    cut = items[: items.rindex("{")]
    return {
        "fenced": (f"{think}<answer>{fence}</answer>", boxes),
        "fenced, 12 boxes": (
            f"{think}<answer>```json\n{write_items(rng, twelve)}\n```</answer>", twelve,
        ),
        "not fenced": (f"{think}<answer>{items}</answer>", boxes),
        "None": (f"{think}<answer>None</answer>", []),
        "cut in its last box": (f"{think}<answer>```json\n{cut}</answer>", boxes[:-1]),
        "None after a fence in its thinking": (
            f"<think>Is it {fence}? No.</think>\n<answer>None</answer>", [],
        ),
        "1,000 words of thinking": (f"{long}<answer>{fence}</answer>", boxes),
    }  # fmt: skip


def read_boxrl(text: str) -> Boxes:
    """The one parser of boxrl; boxes in original pixels."""
    boxes: Boxes = parse(text, FAMILIES["plain"], SIZE_WH).detections.boxes.tolist()
    return boxes


def read_published(text: str) -> Boxes:
    """A regular expression and json.loads, as published training code does."""
    fenced = re.findall(r"```json(.*?)```", text, re.DOTALL)
    if fenced:
        return [item["bbox_2d"] for item in json.loads(fenced[-1])]
    answer = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
    if answer is None or answer.group(1).strip().lower() != "none":
        raise ValueError("no boxes")
    return []


def read_supervision(text: str) -> Boxes:
    """The reader of supervision of Qwen2.5-VL, with the image at its own size."""
    import supervision

    found = supervision.Detections.from_vlm(
        supervision.VLM.QWEN_2_5_VL, text, input_wh=SIZE_WH, resolution_wh=SIZE_WH
    )
    boxes: Boxes = found.xyxy.tolist()
    return boxes


def read_all(read: Callable[[str], Boxes], texts: list[str]) -> list[Boxes | None]:
    """What the reader makes of every text; None where it gives up."""
    found: list[Boxes | None] = []
    for text in texts:
        try:
            found.append(read(text))
        except (ValueError, KeyError, TypeError, IndexError):
            found.append(None)
    return found


def is_right(found: Boxes | None, boxes: Boxes) -> bool:
    """Whether these are the boxes that were written, to a thousandth of a pixel."""
    return (
        found is not None
        and len(found) == len(boxes)
        and all(
            abs(a - b) < 1e-3
            for box, target in zip(found, boxes, strict=True)
            for a, b in zip(box, target, strict=True)
        )
    )


def main() -> None:
    """Read every form with every reader, print times and shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rng = random.Random(0)
    written = [write_forms(rng, draw_boxes(rng)) for _ in range(COMPLETIONS)]
    readers = {"boxrl": read_boxrl, "published": read_published}
    if find_spec("supervision"):
        readers["supervision"] = read_supervision
    rows = []
    for form in written[0]:
        texts, boxes = zip(*(forms[form] for forms in written), strict=True)
        calls = {name: partial(read_all, read, list(texts)) for name, read in readers.items()}
        right = {
            name: sum(map(is_right, call(), boxes)) / COMPLETIONS for name, call in calls.items()
        }
        rows += [
            {"form": form, "reader": row["what"], "ms": row["ms"],
             "times_ours": row["times_ours"], "read right": right[row["what"]]}
            for row in summarize(take_turns(calls, args.rounds, time.process_time), "boxrl")
        ]  # fmt: skip
    print_rows(rows, args.json, completions=COMPLETIONS)


if __name__ == "__main__":
    main()
