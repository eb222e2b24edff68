"""A model's own answers as samples whose boxes carry scores: what SFT teaches it to state.

The prompt `scored` asks for a score beside each box, and no annotation has one. A model learns to
say how sure it is from its own answers: a box that is right is worth its IoU, a false one nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from boxrl.evaluate.rows import Evaluation
from boxrl.types import UNREADABLE, Object, Sample


def scored_samples(samples: Sequence[Sample], evaluation: Evaluation) -> list[Sample]:
    """The samples with the boxes of the answers for objects, and in `meta.scores` their worth.

    The score of a box is its IoU with the object that it is right about, 0 where it is right about
    none. Samples of other tasks than detection, and answers that could not be read, are left out.

    Args:
        samples: what was asked; their targets are replaced, so they serve SFT alone.
        evaluation: of one answer to each, best drawn at temperature 1: where every answer is right
            there is nothing to be unsure of.
    """
    asked = {sample.id: sample for sample in samples}
    found = []
    for row in evaluation.rows:
        if row.task != "detection" or row.status in UNREADABLE:
            continue
        boxes = [box for box in row.predictions if box.kind != "crowd"]  # of which nothing is known
        scores = [round(box.iou, 2) if box.kind == "right" else 0.0 for box in boxes]
        objects = tuple([Object(box.bbox, box.label) for box in boxes])
        found.append(replace(asked[row.id], objects=objects, meta={"scores": scores}))
    return found
