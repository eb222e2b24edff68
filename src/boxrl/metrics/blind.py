"""The blind baseline: a perfect eye that does not read the question.

It answers with every annotated box of the image, asked for or not, each under a random asked
label. A model that scores no higher may have learned where objects are and nothing about names.

Source: boxrl.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from boxrl.types import Detections, Sample


def blind_detections(sample: Sample, rng: random.Random) -> Detections:
    """All annotated boxes in random order, each under one of the asked labels.

    Args:
        sample: boxes that were not asked for stand in `meta.others`, where the source knows
            them; crowd regions are left out.
        rng: the random stream that labels and order are drawn from.

    Returns:
        As many boxes as the image has annotations; none where no label is asked for.
    """
    boxes = [item.bbox for item in sample.objects if not item.iscrowd]
    boxes += [item["bbox"] for item in other_objects(sample)]
    if not sample.labels or not boxes:
        return Detections(np.zeros((0, 4)), ())
    rng.shuffle(boxes)
    return Detections(
        np.array(boxes, dtype=np.float64), tuple(rng.choices(sample.labels, k=len(boxes)))
    )


def other_objects(sample: Sample) -> list[dict[str, Any]]:
    """Annotated objects that were not asked for, crowd regions left out; often unknown."""
    return [item for item in sample.meta.get("others", ()) if not item.get("iscrowd")]
