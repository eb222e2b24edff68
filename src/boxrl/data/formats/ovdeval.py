"""OVDEval to samples: one file per aspect, with hard negative labels for every image.

Source: github.com/om-ai-lab/OVDEval. COCO form, ids from 0; images also have `text`, the labels
that they hold, and `neg_text`, similar labels that they do not hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from boxrl.data.formats.coco import read_categories, read_pictures
from boxrl.data.formats.coco_dialects import open_coco
from boxrl.data.formats.image_folder import ImageFolder
from boxrl.data.formats.pictures import Picture, detection_sample
from boxrl.data.formats.reading import Reading, Rejected, text_list
from boxrl.errors import DataError
from boxrl.types import Sample

WHOLE_VOCABULARY = ("celebrity", "logo", "landmark")
"""Aspects whose `all` mode asks for every name of the file, as the official script does."""


def read_ovdeval(
    annotations: Path, images: Path, *, mode: Literal["all", "positive"] = "all"
) -> Reading:
    """Samples of one OVDEval file; ids start with the file's name, so that files can be joined.

    Args:
        annotations: `celebrity.json`, `color.json`, ...
        images: folder that `file_name` starts from.
        mode: `all` asks for text and neg_text (for WHOLE_VOCABULARY for all names of the file);
            `positive` for text alone, which leaves out images without any.

    Raises:
        DataError: the file is not in COCO form. A bad row is a `Rejected`.
    """
    document, found = open_coco(annotations), ImageFolder(images)
    categories = read_categories(document)
    ids, notes = categories.ids, list(categories.notes)
    aspect = annotations.stem

    def rows() -> Iterator[Sample | Rejected]:
        for picture in read_pictures(document, categories, found, notes):
            if isinstance(picture, Rejected):
                yield picture
                continue
            try:
                names = list(ids) if aspect in WHOLE_VOCABULARY else []
                labels = _asked(picture, mode, names)
            except DataError as error:
                yield document.rejected("images", picture.place, error, picture.row)
                continue
            if labels:
                meta = {"mode": mode, "subset": aspect}
                key = f"{aspect}/{picture.key}"
                kept = picture.instances
                yield detection_sample(key, picture, labels, kept, ids, meta, picture.unknown)

    annotated = len(document.array("annotations"))
    return Reading(len(document.array("images")), rows(), annotated, notes, found)


def _asked(picture: Picture, mode: str, names: list[str]) -> list[str]:
    """Labels in prompt order, each once; a label of the text without any box is in doubt."""
    present = text_list(picture.row.get("text"), "text", "image")
    hard = text_list(picture.row.get("neg_text", []), "neg_text", "image")
    picture.hidden |= frozenset(present) - picture.present
    wanted = present if mode == "positive" else names or [*present, *hard]
    unknown = picture.unknown
    return [label for label in dict.fromkeys(wanted) if label not in unknown]
