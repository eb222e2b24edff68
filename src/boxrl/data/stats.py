"""What a samples file holds, in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from boxrl.data.subsets import SMALL_SHARE
from boxrl.families import FAMILIES, Family
from boxrl.types import Sample

COCO_SMALL, COCO_LARGE = 32**2, 96**2
"""Limits of COCO's size classes in square pixels; small < 32 x 32 <= medium < 96 x 96 <= large."""

LIMITS = (200_704, 401_408, 1_003_520)
"""Largest areas that are compared, in pixels: 256, 512 and 1,280 tokens of Qwen2.5-VL."""


def describe(samples: Iterable[Sample]) -> dict[str, Any]:
    """Counts over a samples file.

    Returns:
        `samples`, `images`, `negatives` (detection and grounding samples whose image is known to
        hold nothing of what is asked for), `boxes`, `crowd` (regions, in no other count),
        `tasks`, `labels` {name: {asked, boxes, negatives}} by number of boxes, where a label that
        is only a crowd region is no negative, `labels_asked` and `boxes_per_sample` (min, mean,
        median, max), `sizes` of boxes: COCO's three classes and `tiny` (under 0.5 % of the image),
        `image_tokens`: see `count_tokens`.
        Law: the boxes of all labels, and of the three size classes, add up to `boxes`.
    """
    tasks: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    boxes: Counter[str] = Counter()
    absent: Counter[str] = Counter()
    sizes = Counter(small=0, medium=0, large=0, tiny=0)
    images: dict[str, tuple[int, int]] = {}
    per_sample, labels_per_sample = [], []
    negatives = crowd = 0
    for sample in samples:
        found = sample.targets
        present = {item.label for item in (*found, *sample.ignored)}
        tasks[sample.task] += 1
        images[sample.image] = sample.size_wh
        asked.update(sample.labels)
        boxes.update(item.label for item in found)
        absent.update(label for label in sample.labels if label not in present)
        crowd += len(sample.objects) - len(found)
        negatives += sample.is_negative
        per_sample.append(len(found))
        labels_per_sample.append(len(sample.labels))
        for item in found:
            x1, y1, x2, y2 = item.bbox
            _count_size(sizes, (x2 - x1) * (y2 - y1), sample.width * sample.height)
    return {
        "samples": len(per_sample),
        "images": len(images),
        "tasks": dict(tasks),
        "negatives": negatives,
        "boxes": sum(per_sample),
        "crowd": crowd,
        "boxes_per_sample": _spread(per_sample),
        "labels_asked": _spread(labels_per_sample),
        "sizes": dict(sizes),
        "image_tokens": count_tokens(images.values()),
        "labels": {
            label: {"asked": asked[label], "boxes": boxes[label], "negatives": absent[label]}
            for label in sorted(asked | boxes, key=lambda name: (-boxes[name], name))
        },
    }


def count_tokens(sizes: Iterable[tuple[int, int]]) -> dict[str, dict[str, Any]]:
    """What images cost in the language model, per family and largest area.

    Args:
        sizes: (width, height) of each image.

    Returns:
        Family -> largest area as the model sees an image, in pixels, or `own` for the family's
        released limits -> `mean` and `max` tokens of an image; families without limits have `own`
        alone. Images whose shape a family's processor refuses are left out.
    """
    counted = Counter(sizes)
    found: dict[str, dict[str, Any]] = {}
    for family in FAMILIES.values():
        if family.resizing == "unknown":
            continue
        shown = {str(limit): at_most(family, limit) for limit in LIMITS if family.has_limits}
        columns = shown | {"own": family}
        found[family.name] = {name: image_tokens(counted, at) for name, at in columns.items()}
    return found


def at_most(family: Family, limit: int) -> Family:
    """The family with that largest area, and no larger least one."""
    return family.with_limits(min(family.min_pixels, limit), limit)


def image_tokens(counted: Mapping[tuple[int, int], int], family: Family) -> dict[str, float]:
    """`mean` and `max` tokens of an image in the language model; 0 where none can be shown.

    Args:
        counted: how many images there are of each (width, height).
        family: with its pixel limits.
    """
    tokens = [
        (family.count_image_tokens(size) or 0, count)
        for size, count in counted.items()
        if family.takes(size)
    ]
    n = sum(count for _, count in tokens)
    total = sum(each * count for each, count in tokens)
    return {
        "mean": round(total / n, 1) if n else 0.0,
        "max": max((t for t, _ in tokens), default=0),
    }


def _count_size(sizes: Counter[str], area: float, image_area: float) -> None:
    sizes["small" if area < COCO_SMALL else "medium" if area < COCO_LARGE else "large"] += 1
    sizes["tiny"] += area < SMALL_SHARE * image_area


def _spread(counts: Sequence[int]) -> dict[str, float]:
    if not counts:
        return {"min": 0, "mean": 0.0, "median": 0, "max": 0}
    ordered = sorted(counts)
    middle = ordered[len(ordered) // 2]
    mean = round(sum(ordered) / len(ordered), 3)
    return {"min": ordered[0], "mean": mean, "median": middle, "max": ordered[-1]}
