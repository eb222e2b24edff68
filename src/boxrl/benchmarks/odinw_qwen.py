"""ODinW-13 as Qwen's own script scores it, which differs from boxrl's in reading and in caps.

Source: github.com/QwenLM/Qwen3-VL, evaluation/ODinW-13. Its sampling (temperature .7, top_p .8,
top_k 20, presence penalty 1.5, 32,768 tokens) is that of whoever predicts.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hotcoco import COCO, COCOeval

from boxrl.benchmarks.record import Benchmark
from boxrl.data.predictions import Prediction
from boxrl.errors import UsageError
from boxrl.families import Family
from boxrl.types import Sample

QWEN = "qwen"
PROMPT = "qwen-native"
CAPS = [100, 300, 1000]
SIZES = ("s", "m", "l")
LONGEST = 1_000_000
"""Characters of an answer beyond which it is not read."""

Box = tuple[float, float, float, float]


def read_answer(
    completion: str,
    names: Sequence[str],
    size_wh: tuple[int, int],
    input_size_wh: tuple[int, int] | None,
) -> list[tuple[int, Box]]:
    """The boxes that Qwen's script reads: all of the answer as one Python literal, or none.

    Flipped boxes and those that leave the image stay as they are. Where the script would stop
    (numbers as text, labels that are none), nothing is read.

    Args:
        completion: the answer; what stands before the last `</think>` is passed over.
        names: the classes; another label is passed over.
        size_wh: of the image.
        input_size_wh: as the model saw it, where its boxes are pixels of that; None: of 1000.

    Returns:
        (place of the name, box in pixels of the image), by name, then in order of emission.
    """
    text = completion.rpartition("</think>")[2].replace("```json", "").replace("```", "").strip()
    if len(text) > LONGEST:
        return []
    known = {name.lower(): place for place, name in enumerate(names)}
    scale = input_size_wh or (1000, 1000)
    found: list[tuple[int, Box]] = []
    try:
        for item in ast.literal_eval(text):
            box, label = item["bbox_2d"], item["label"].lower()
            if len(box) != 4:
                continue
            if any(isinstance(value, complex) for value in box):
                return []  # which the script cannot make an array of
            x1, y1, x2, y2 = (
                value / scale[k % 2] * size_wh[k % 2] for k, value in enumerate(box)
            )  # fmt: skip
            if label in known:
                found.append((known[label], (x1, y1, x2, y2)))
    except (ValueError, SyntaxError, TypeError, KeyError, AttributeError, MemoryError,
            RecursionError, OverflowError):  # fmt: skip
        return []
    return sorted(found, key=lambda item: item[0])


def qwen_figures(
    samples: Sequence[Sample], answers: Sequence[Sequence[tuple[int, Box]]], names: Sequence[str]
) -> dict[str, float]:
    """The script's six figures of one set, rounded to three digits as it does.

    Args:
        samples: with their targets.
        answers: of `read_answer`, in the samples' order; every score is 1.
        names: the classes.

    Returns:
        `mAP` at 100 boxes per image and class, `mAP_50`, `mAP_75`, `mAP_s`, `mAP_m`, `mAP_l` at
        1,000; -1 where there is no target of a size.
    """
    place = {name: index for index, name in enumerate(names)}
    targets, preds = [], []
    for image, (sample, answer) in enumerate(zip(samples, answers, strict=True), start=1):
        areas = sample.meta.get("areas") or [None] * len(sample.objects)
        for item, area in zip(sample.objects, areas, strict=True):
            x1, y1, x2, y2 = item.bbox
            size = (x2 - x1) * (y2 - y1) if area is None else area
            box = [x1, y1, x2 - x1, y2 - y1]
            targets.append((image, place[item.label] + 1, box, size, item.iscrowd))
        preds += [(image, x1, y1, x2 - x1, y2 - y1, 1.0, k + 1) for k, (x1, y1, x2, y2) in answer]
    dataset = COCO.from_arrays(
        [{"id": image} for image in range(1, len(samples) + 1)],
        [{"id": index + 1, "name": name} for index, name in enumerate(names)],
        np.array([row[0] for row in targets], dtype=np.int64),
        np.array([row[1] for row in targets], dtype=np.int64),
        np.array([row[2] for row in targets], dtype=np.float64).reshape(-1, 4),
        area=np.array([row[3] for row in targets], dtype=np.float64),
        iscrowd=np.array([row[4] for row in targets], dtype=bool),
    )
    results = np.array(preds, dtype=np.float64).reshape(-1, 7)
    evaluator = COCOeval(dataset, dataset.load_res(results), "bbox")
    params = evaluator.params
    params.max_dets = CAPS
    evaluator.params = params
    evaluator.evaluate()
    evaluator.accumulate()
    curves: Any = evaluator.eval
    precision = curves["precision"]  # IoU threshold, recall, label, size, cap
    figures = {
        "mAP": _mean(precision[..., 0, 0]),
        "mAP_50": _mean(precision[0, :, :, 0, -1]),
        "mAP_75": _mean(precision[5, :, :, 0, -1]),
    }
    sizes = {f"mAP_{name}": _mean(precision[..., k, -1]) for k, name in enumerate(SIZES, start=1)}
    return figures | sizes


def summarize_qwen(
    benchmark: Benchmark,
    samples: Sequence[Sample],
    predictions: Mapping[str, Prediction],
    family: Family,
) -> dict[str, Any]:
    """Qwen's own table: six figures of every set, and the mean of their mAP, its `Average`.

    Args:
        benchmark: whose sets.
        samples: of all sets, all names of a set asked for.
        predictions: by sample id.
        family: in whose frame the answers are: pixels of the resized image, or of 1000.

    Returns:
        `mean`, whose mAP is None where a set is not there, and `sets`.

    Raises:
        UsageError: the family's frame is neither.
    """
    if family.frame != "resized" and (family.frame, family.grid) != ("grid", 1000):
        raise UsageError(
            f"--protocol qwen: family {family.name!r} answers in the frame {family.frame!r}; the "
            "script reads pixels of the resized image, or thousandths"
        )
    sets: dict[str, Any] = {}
    for part in benchmark.parts:
        mine = [sample for sample in samples if sample.meta["part"] == part.name]
        if not mine:
            continue
        names = list(dict.fromkeys(label for sample in mine for label in sample.labels))
        answers = []
        for sample in mine:
            row = predictions[sample.id]
            resized = row.input_size_wh or family.input_size_wh(sample.size_wh)
            seen = resized if family.frame == "resized" else None
            answers.append(read_answer(row.completion, names, sample.size_wh, seen))
        sets[part.name] = qwen_figures(mine, answers, names)
    whole = len(sets) == len(benchmark.parts)
    return {"mean": average(sets) if whole else {"mAP": None}, "sets": sets}


def average(sets: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Mean of the sets' rounded mAP, -1 among them where a set has no target."""
    return {"mAP": sum(figures["mAP"] for figures in sets.values()) / len(sets)}


def _mean(precision: Any) -> float:
    known = precision[precision > -1]
    return round(float(known.mean()), 3) if known.size else -1.0
