"""Counting questions about CLEVR and SuperCLEVR scenes to samples.

Source: github.com/Deep-Agent/R1-V. SuperCLEVR-200 is JSON lines of `image_path`, `question` and
`ground_truth`; the CLEVR-CoGenT training set has `image`, `problem` and `solution`, whose number
stands in answer tags. Neither tells image sizes; headers are read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from boxrl.data.formats.image_folder import ImageFolder
from boxrl.data.formats.reading import Reading, read_records, require
from boxrl.data.images import read_header
from boxrl.errors import DataError
from boxrl.types import Sample

_SOLUTION = re.compile(r"\s*(?:<answer>)?\s*(\d{1,6})\s*(?:</answer>)?\s*")


def read_clevr(annotations: Path, images: Path) -> Reading:
    """Counting samples of a JSON lines file; a sample's id is its line.

    Args:
        annotations: the file.
        images: folder that the image paths start from, or a folder inside it.

    Raises:
        DataError: no such file. A bad line is a `Rejected`.
    """
    found = ImageFolder(images)
    reading = read_records(annotations, lambda row, key, where: _sample(row, key, found, where))
    return reading._replace(images=found)


def _sample(row: dict[str, Any], key: str, images: ImageFolder, where: str) -> Sample:
    super_clevr = "image_path" in row
    path = require(row, "image_path" if super_clevr else "image", str, where)
    question = require(row, "question" if super_clevr else "problem", str, where)
    count = row.get("ground_truth" if super_clevr else "solution")
    found = _SOLUTION.fullmatch(str(count)) if isinstance(count, (int, str)) else None
    if found is None or not question.strip():
        raise DataError(f"{where}: expected a question and a count, got {count!r:.80}")
    image = images.locate(path, where)
    size_wh = read_header(images.folder / image, where).size_wh
    return Sample(
        id=key,
        image=image,
        width=size_wh[0],
        height=size_wh[1],
        task="counting",
        labels=(),
        question=question.strip(),
        answer=str(int(found.group(1))),
    )
