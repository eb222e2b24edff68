"""LVIS to samples: COCO's form, of which some labels were looked for in each image.

Source: lvisdataset.org, lvis-api 0.5.3. Images have no `file_name`: it is the last two parts of
`coco_url`. `neg_category_ids` were looked for and not found; `not_exhaustive_category_ids` are
annotated in part. Law: only what is annotated or verified absent is asked for, in every mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from boxrl.data.formats.coco import read_instances
from boxrl.data.formats.coco_dialects import open_coco
from boxrl.data.formats.pictures import Asking
from boxrl.data.formats.reading import Reading
from boxrl.data.subsets import Mode
from boxrl.errors import DataError


def read_lvis(
    annotations: Path,
    images: Path,
    *,
    subset: Sequence[str] = (),
    mode: Mode = "positive",
    task: Literal["detection", "region"] = "detection",
    negatives: int = 0,
    seed: int = 0,
) -> Reading:
    """Samples of an LVIS file, in the file's order of images.

    Args:
        annotations: `lvis_v1_train.json`, packed by gzip or not.
        images: folder that holds `train2017` and `val2017`.
        subset: as for COCO.
        mode: as for COCO; `all` asks for the labels present and those verified absent.
        task: as for COCO.
        negatives: so many labels that are verified absent are drawn and asked for too.
        seed: of that draw, and of the options of region questions.

    Raises:
        DataError: no LVIS file. A bad image or annotation is a `Rejected`.
        UsageError: see `read_coco`.
    """
    document = open_coco(annotations)
    if not any("neg_category_ids" in row for row in document.array("images")):
        raise DataError(
            f"{annotations}: no image has neg_category_ids, so that this is no LVIS file; "
            f"run boxrl data convert coco --annotations {annotations}"
        )
    return read_instances(document, images, Asking(subset, mode, task, negatives, seed))
