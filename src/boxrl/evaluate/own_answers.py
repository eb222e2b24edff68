"""A model's own answers as samples whose boxes carry scores: what SFT teaches it to state.

The prompt `scored` asks for a score beside each box, and no annotation has one. A model learns to
say how sure it is from its own answers: of boxes that it was about as sure of, by whatever ranks
them, the share that was right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from boxrl.evaluate.rows import Evaluation
from boxrl.types import UNREADABLE, Object, Sample

BINS = 10


def scored_samples(samples: Sequence[Sample], evaluation: Evaluation) -> list[Sample]:
    """The samples with the boxes of the answers for objects, and in `meta.scores` their worth.

    Boxes are ranked by their confidence and cut into ten bins of as many; the score of each is the
    share of its bin that is right, two digits. Boxes in crowd regions and those without area, which
    no samples file may hold, samples of other tasks than detection, and answers that could not be
    read, are left out.

    Law: among these boxes the scores are calibrated.

    Args:
        samples: what was asked; their targets are replaced, so they serve SFT alone.
        evaluation: of one answer to each, best drawn at temperature 1 and ranked by `logprob`:
            where every answer is right, or all are as sure, there is nothing to be unsure of.
    """
    asked = {sample.id: sample for sample in samples}
    rows = [row for row in evaluation.rows if row.task == "detection"]
    rows = [row for row in rows if row.status not in UNREADABLE]
    answers = [
        [box for box in row.predictions if box.kind != "crowd" and _has_area(box.bbox)]
        for row in rows
    ]
    boxes = [box for some in answers for box in some]
    right = np.array([box.kind == "right" for box in boxes], dtype=np.float64)
    shares = np.zeros(len(boxes))
    for mine in np.array_split(np.argsort([box.confidence for box in boxes], kind="stable"), BINS):
        shares[mine] = right[mine].mean() if len(mine) else 0.0
    scores = iter(shares.round(2).tolist())
    return [
        replace(
            asked[row.id],
            objects=tuple([Object(box.bbox, box.label) for box in some]),
            meta={"scores": [next(scores) for _ in some]},
        )
        for row, some in zip(rows, answers, strict=True)
    ]


def _has_area(bbox: Sequence[float]) -> bool:
    x1, y1, x2, y2 = bbox
    return x1 < x2 and y1 < y2
