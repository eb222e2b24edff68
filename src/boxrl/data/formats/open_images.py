"""What stands beside the boxes of OpenImages: names of labels, and labels that people verified.

Source: storage.googleapis.com/openimages/web/download_v7.html. Boxes name labels by codes such as
/m/0bt9lr; `class-descriptions-boxable.csv` names them. Image labels with confidence 1 are in the
image, with 0 they are not; nobody looked for the others.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from boxrl.data.formats.documents import read_document
from boxrl.errors import DataError


class Verified(NamedTuple):
    """What people said of an image, by code.

    Attributes:
        present: labels that are in it.
        absent: labels that are not.
    """

    present: set[str]
    absent: set[str]


def read_names(folder: Path) -> dict[str, str]:
    """Names of labels by code.

    Args:
        folder: holds one of OpenImages' class descriptions.

    Raises:
        DataError: it holds none.
    """
    found = sorted(folder.glob("*class-descriptions*.csv"))
    if not found:
        raise DataError(
            f"{folder}: no class-descriptions-boxable.csv, which names the labels; "
            "it is part of OpenImages"
        )
    boxable = [path for path in found if "boxable" in path.name] or found
    rows = csv.reader(io.StringIO(read_document(boxable[0])))
    return {row[0]: row[1] for row in rows if len(row) >= 2 and row[0] != "LabelName"}


def read_verified(boxes: Path) -> dict[str, Verified]:
    """What people said of the images of a file of boxes; empty where that file is not there.

    Args:
        boxes: such as train-annotations-bbox.csv, beside
            train-annotations-human-imagelabels-boxable.csv.

    Raises:
        DataError: it cannot be read.
    """
    prefix = boxes.name.partition("annotations")[0]
    said: dict[str, Verified] = defaultdict(lambda: Verified(set(), set()))
    for path in sorted(boxes.parent.glob(f"{prefix}annotations*imagelabels*.csv")):
        for row in csv.DictReader(io.StringIO(read_document(path))):
            known = said[row.get("ImageID") or ""]
            if row.get("Confidence") in ("1", "1.0"):
                known.present.add(row.get("LabelName") or "")
            elif row.get("Confidence") in ("0", "0.0"):
                known.absent.add(row.get("LabelName") or "")
    return said
