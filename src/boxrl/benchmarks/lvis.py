"""LVIS v1: 1,203 names, of which each image was searched for some.

Source: lvisdataset.org. The images are COCO's; those of `val` lie in train2017 and val2017.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boxrl.benchmarks.record import Benchmark, Part, located
from boxrl.errors import DataError
from boxrl.evaluate.lvis import lvis_statistics, read_lvis_annotations
from boxrl.evaluate.rows import Evaluation
from boxrl.metrics.average_precision import Predictions
from boxrl.types import Sample, fold_label

LVIS = Benchmark(
    "lvis",
    "LVIS v1 val: 1,203 names, federated",
    "lvis",
    (Part("lvis", ("lvis_v1_val.json", "annotations/lvis_v1_val.json"), (".",)),),
    "federated.AP",
    "LVIS's federated AP, rare, common and frequent names apart; of an image the 300 best boxes, "
    "and where all confidences are 1 the order of emission decides which. `all` asks for the names "
    "present in an image and those verified absent from it, the only ones whose answer is known; "
    "`positive` for those present, as Rex-Omni does. boxrl's own figures beside it (precision, "
    "recall, F1) count boxes of names annotated in part as neither right nor wrong.",
    ("all", "positive"),
    headline=tuple((key, f"federated.{key}") for key in ("AP", "APr", "APc", "APf", "AP50")),
)


def summarize_lvis(
    samples: Sequence[Sample], parts: Mapping[str, Evaluation], root: Path
) -> dict[str, Any]:
    """LVIS's thirteen figures, over the images that were asked about.

    Args:
        samples: of the one part.
        parts: its evaluation.
        root: the data root, which holds the annotations file.

    Returns:
        `federated` {statistic: value}.

    Raises:
        DataError: the samples are not those of the file.
    """
    [part] = parts.values()
    data = read_lvis_annotations(located(root, LVIS.parts[0].annotations))
    place = {key: index for index, key in enumerate(data.coco.image_ids.tolist())}
    try:
        image = {sample.id: place[sample.meta["image_id"]] for sample in samples}
    except KeyError as error:
        raise DataError(f"image id {error} is not in LVIS's file; convert it again") from error
    names = {fold_label(name): index for index, name in enumerate(data.coco.labels)}
    found = [
        (image[row.id], names[fold_label(box.label)], box)
        for row in part.rows
        for box in row.predictions
        if fold_label(box.label) in names
    ]
    preds = Predictions(
        np.array([at for at, _, _ in found], dtype=np.int64),
        np.array([label for _, label, _ in found], dtype=np.int64),
        np.array([box.bbox for _, _, box in found], dtype=np.float64).reshape(-1, 4),
        np.array([box.confidence for _, _, box in found], dtype=np.float64),
    )
    asked = np.unique(np.array(list(image.values()), dtype=np.int64))
    return {"federated": lvis_statistics(data, preds, asked)}
