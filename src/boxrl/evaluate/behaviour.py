"""What answers do beside finding their targets, over all rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from boxrl.evaluate.rows import Row
from boxrl.metrics.behaviour import Habits, find_habits
from boxrl.metrics.detection import ratio
from boxrl.types import Detections


def behaviour(rows: Sequence[Row]) -> dict[str, Any]:
    """How often answers duplicate, box the whole image, repeat themselves, or invent objects.

    Args:
        rows: judged samples; those whose answer is not boxes say nothing.

    Returns:
        Shares of boxes (`exact_duplicates`, `near_duplicates`, `whole_image`), of answers
        (`repeating`, `truncated`), of labels that were asked for in images without them
        (`absent_named`), and `f1@0.5_without` these boxes; None where there is nothing to share.
    """
    asked = [row for row in rows if row.f1 is not None]
    found = [_habits(row) for row in asked]
    boxes = sum(one.boxes for one in found)
    tp, fp, fn = (sum(one.without[k] for one in found) for k in range(3))
    return {
        "exact_duplicates": ratio(sum(one.exact for one in found), boxes),
        "near_duplicates": ratio(sum(one.near for one in found), boxes),
        "whole_image": ratio(sum(one.whole for one in found), boxes),
        "repeating": ratio(sum(one.repeats for one in found), len(found)),
        "truncated": ratio(sum(row.truncated for row in asked), len(asked)),
        "absent_named": ratio(
            sum(one.absent_named for one in found), sum(one.absent_asked for one in found)
        ),
        "f1@0.5_without": ratio(2 * tp, 2 * tp + fp + fn),
    }


def describe_behaviour(found: Mapping[str, Any]) -> str:
    """`behaviour` in one line, its shares that are not 0; empty where all are.

    Args:
        found: of `behaviour`.
    """
    words = {
        "exact_duplicates": "of the boxes are exact duplicates",
        "near_duplicates": "near duplicates",
        "whole_image": "false boxes around the whole image",
        "repeating": "of the answers repeat themselves",
        "truncated": "are cut",
        "absent_named": "of the absent labels asked for get a box",
    }
    said = [f"{found[key]:.1%} {text}" for key, text in words.items() if found.get(key)]
    without = found.get("f1@0.5_without")
    if not said or without is None:
        return "; ".join(said)
    return f"{'; '.join(said)}; F1 @0.5 without such boxes {without:.3f}"


def _habits(row: Row) -> Habits:
    counting = [box for box in row.predictions if box.kind != "crowd"]
    corners = np.array([box.bbox for box in counting], dtype=np.float64).reshape(-1, 4)
    return find_habits(
        Detections(corners, tuple(box.label for box in counting)),
        Detections.from_objects(row.sample.targets),
        row.labels,
        (row.width, row.height),
        [box.kind == "right" for box in counting],
        [item.label for item in row.objects if item.iscrowd],
    )
