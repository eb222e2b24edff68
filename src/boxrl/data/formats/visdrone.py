"""VisDrone to samples: one .txt per image, numbers parted by commas, boxes in pixels.

Source: github.com/VisDrone/VisDrone2018-DET-toolkit. A line is left, top, width, height, score,
category, truncation, occlusion, in places with a comma behind. Score 0 or category 0 is a region
in which nothing is counted, category 11 ("others") objects of no label: both are regions here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from boxrl.data.formats.documents import read_document
from boxrl.data.formats.image_folder import ImageFolder, walk
from boxrl.data.formats.marks import Collection, Mark
from boxrl.data.formats.pictures import Asking, Picture
from boxrl.data.formats.reading import Reading
from boxrl.data.images import read_header
from boxrl.data.subsets import Mode
from boxrl.errors import DataError

NAMES = ("pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle",
         "bus", "motor")  # fmt: skip
"""Categories 1 to 10."""

IGNORED, OTHERS = "ignored regions", 11


def read_visdrone(
    annotations: Path,
    images: Path,
    *,
    subset: Sequence[str] = (),
    mode: Mode = "positive",
    negatives: int = 0,
    seed: int = 0,
) -> Reading:
    """Samples of a folder of label files, in order of their names.

    Args:
        annotations: the folder of .txt files, or the one that holds it as `annotations`.
        images: folder of the images; headers are read, since the files tell no sizes.
        subset: as for COCO.
        mode: as for COCO.
        negatives: as for COCO.
        seed: of their draw.

    Raises:
        DataError: no .txt files. A bad file is a `Rejected`.
        UsageError: see `read_coco`.
    """
    asking = Asking(subset, mode, "detection", negatives, seed)
    nested = annotations / "annotations"
    folder = nested if nested.is_dir() else annotations
    files = sorted(walk(folder, frozenset((".txt",))))
    if not files:
        raise DataError(f"{folder}: no .txt files")
    collection = Collection(ImageFolder(images))
    for file in files:
        path, key = folder / file, str(PurePosixPath(file).with_suffix(""))
        try:
            marks = _marks(path)
            found = collection.images.of_stem(key)
            if len(found) != 1:
                raise DataError(f"{path}:1: expected one image {key}.jpg, found {found or 'none'}")
            image = collection.images.locate(found[0], f"{path}:1")
            size_wh = read_header(images / image, f"{path}:1").size_wh
        except DataError as error:
            collection.reject(error, file)
            continue
        collection.add(Picture(key, image, size_wh, [], key, row=file), marks, f"{path}:1")
    collection.tell_unused("without a .txt file")
    return collection.reading(asking, NAMES)


def _marks(path: Path) -> list[Mark]:
    """Every line; regions are crowd regions of what counts as ignored."""
    marks = []
    for line_number, line in enumerate(read_document(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}:{line_number}"
        try:
            x, y, width, height, score, category, _, _ = map(int, line.rstrip(" ,").split(","))
        except ValueError as error:
            raise DataError(
                f"{where}: {line!r:.80}; expected eight whole numbers: left, top, width, height, "
                "score, category, truncation, occlusion"
            ) from error
        if not 0 <= category <= OTHERS:
            raise DataError(f"{where}: category {category}; expected 0 to {OTHERS}")
        region = not score or category in (0, OTHERS)
        label = IGNORED if region else NAMES[category - 1]
        corners = (x, y, x + width, y + height)
        marks.append(Mark(label, corners, where, iscrowd=region, row=line))
    return marks
