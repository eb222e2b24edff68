"""RefGTA to samples: expressions for people in scenes of a computer game.

Source: github.com/mikittt/easy-to-understand-REG. The form of `refer` (see refcoco.py), split by
"utokyo"; sentences carry `info`, who understood them and how fast, which stays in meta.
"""

from __future__ import annotations

from pathlib import Path

from boxrl.data.formats.reading import Reading
from boxrl.data.formats.refcoco import read_refs

REFS = "refs(utokyo).p"


def read_refgta(annotations: Path, images: Path, *, split: str = "val") -> Reading:
    """Samples of one split.

    Args:
        annotations: the data root (with ref2/refgta), or the folder with `refgta`.
        images: the flat folder of images.
        split: `train`, `val` or `test`.

    Raises:
        UsageError: no such split.
        DataError: files missing, damaged or of another form. A bad ref is a `Rejected`.
    """
    nested = annotations / "ref2" / "refgta"
    folder = nested if nested.is_dir() else annotations / "refgta"
    return read_refs(folder, REFS, images, split)
