"""Counting questions to samples: CLEVR, SuperCLEVR, CountBenchQA and PixMo-Count.

Source: github.com/Deep-Agent/R1-V: SuperCLEVR-200 is JSON lines of `image_path`, `question` and
`ground_truth`; the CLEVR-CoGenT training set has `image`, `problem` and `solution`, whose number
stands in answer tags. huggingface.co/datasets/vikhyatk/CountBenchQA: `image`, `question` and
`number`; allenai/pixmo-count: `image_sha256`, `label` and `count`, and images by their address,
which have to be fetched. Both are parquet; rows of the same fields in JSON lines are read too. None
tells image sizes; headers are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from boxrl.data.formats.image_folder import ImageFolder
from boxrl.data.formats.parquet import ImageWriter, read_parquet
from boxrl.data.formats.reading import Reading, Rejected, read_records, require
from boxrl.data.images import read_header
from boxrl.errors import DataError
from boxrl.types import Sample

HOW_MANY = "How many {label} are there in the image?"
"""The question where a row has a label alone; PixMo-Count states none."""

_SOLUTION = re.compile(r"\s*(?:<answer>)?\s*(\d{1,6})\s*(?:</answer>)?\s*")
_FORMS = (
    ("image_path", "question", "ground_truth"),
    ("image", "problem", "solution"),
    ("image", "question", "number"),
    ("image", "label", "count"),
    ("file_name", "label", "count"),
    ("image_sha256", "label", "count"),
)
"""Names of a row's image, question and count; the first that are all there."""


def read_clevr(annotations: Path, images: Path) -> Reading:
    """Counting samples of a JSON lines or parquet file; a sample's id is its line.

    Args:
        annotations: the file.
        images: folder that the image paths start from, or a folder inside it; images that stand in
            a parquet file are written there.

    Raises:
        DataError: no such file. A bad line is a `Rejected`.
        MissingExtra: a parquet file without pyarrow.
    """
    found = ImageFolder(images)
    places = _Places(found, ImageWriter(images))
    if annotations.suffix == ".parquet":
        rows = list(read_parquet(annotations))
        return Reading(len(rows), _of_parquet(rows, places), images=found)
    reading = read_records(annotations, lambda row, key, where: _sample(row, key, places, where))
    return reading._replace(images=found)


class _Places(NamedTuple):
    """Where images are found, and where those are written that stand in rows."""

    images: ImageFolder
    writer: ImageWriter

    def locate(self, image: Any, where: str) -> str:
        """The path of a row's image from the folder."""
        if isinstance(image, Mapping):
            if image.get("bytes"):
                name = self.writer.write(image["bytes"], image.get("path"), where)
                return self.images.locate(self.images.admit(name), where)
            image = image.get("path")
        written = require({"image": image}, "image", str, where)
        for suffix in ("", ".jpg", ".jpeg", ".png", ".webp"):
            if self.images.holds(written + suffix):
                return self.images.locate(written + suffix, where)
        return self.images.locate(written, where)


def _of_parquet(
    rows: list[tuple[dict[str, Any], str]], places: _Places
) -> Iterator[Sample | Rejected]:
    for number, (row, where) in enumerate(rows, start=1):
        try:
            yield _sample(row, str(number), places, where)
        except DataError as error:
            yield Rejected(str(error), {k: v for k, v in row.items() if k != "image"})


def _sample(row: dict[str, Any], key: str, places: _Places, where: str) -> Sample:
    form = next((form for form in _FORMS if all(name in row for name in form)), None)
    if form is None:
        known = "; ".join(" + ".join(names) for names in _FORMS)
        raise DataError(f"{where}: no counting question; expected {known}")
    image, asked, counted = form
    question, count = require(row, asked, str, where), row.get(counted)
    whole = isinstance(count, (int, str)) and not isinstance(count, bool)
    found = _SOLUTION.fullmatch(str(count)) if whole else None
    if found is None or not question.strip():
        raise DataError(f"{where}: expected a question and a count, got {count!r:.80}")
    if asked == "label":
        question = HOW_MANY.format(label=question.strip())
    path = places.locate(row[image], where)
    size_wh = read_header(places.images.folder / path, where).size_wh
    return Sample(
        id=key,
        image=path,
        width=size_wh[0],
        height=size_wh[1],
        task="counting",
        labels=(),
        question=question.strip(),
        answer=str(int(found.group(1))),
    )
