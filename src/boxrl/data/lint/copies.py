"""Images of one samples file that another one holds too, under whatever name.

Equal files are found by their content, Roboflow's copies of one photo by their names. A picture
that was resized, compressed or brightened is found by its perceptual hash, a short description
that such changes hardly alter: imagehash's `phash` of 256 bits (Zauner 2010), of which unrelated
photos differ in about 128.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ImageOps

from boxrl.data.files import hash_file
from boxrl.data.formats.image_folder import inside_folder
from boxrl.data.images import read_image
from boxrl.data.lint.rows import Checked, Defect
from boxrl.data.splitting import ROBOFLOW, group_key
from boxrl.errors import DataError
from boxrl.types import Sample

HASH_SIZE = 16
"""Side of the hash in bits: 256 in all. With 64, scenes of few shapes look alike."""

NEAR = 40
"""Bits in which a near copy may differ; measured in docs/decisions/0015-imagehash.md."""

LONGER_SIDE = 128
"""Pixels to which a picture is reduced before it is hashed; JPEGs are decoded at that size."""

PLAIN = 4.0
"""Standard deviation of the grey values below which a picture has nothing to compare."""

UNCOMPARED = (
    "near copies of validation images are not looked for: imagehash is missing; "
    'pip install "boxrl[copies]"'
)

Bits = npt.NDArray[np.float32]


class _Picture(NamedTuple):
    """An image of the other file: its path there, and where it lies."""

    image: str
    path: Path


class _Found(NamedTuple):
    """What an image is to the other file, and what to do about it."""

    what: str
    fix: str


class HeldOut:
    """The images of another samples file, to be found again."""

    def __init__(self, file: Path, samples: Sequence[Sample], images: Path | None) -> None:
        """Read what tells them apart.

        Args:
            file: the other samples file, for messages.
            samples: all of it.
            images: its images folder; None compares names alone. Images that cannot be read have
                no copies.
        """
        self.file = file
        self.names = frozenset(sample.image for sample in samples)
        self.groups = {key: name for name in self.names if (key := group_key(name, ROBOFLOW))}
        placed = [(name, _located(images, name)) for name in sorted(self.names)] if images else []
        self.pictures = [_Picture(name, path) for name, path in placed if path is not None]
        self.by_size: dict[int, list[_Picture]] = {}
        for picture in self.pictures:
            self.by_size.setdefault(picture.path.stat().st_size, []).append(picture)
        self.content = lru_cache(maxsize=None)(hash_file)
        self.copy_of = lru_cache(maxsize=65536)(self._copy_of)
        self.hashes: Bits | None = None
        if self.pictures and can_hash():
            self.hashes = np.concatenate([perceptual_hashes(p.path) for p in self.pictures])

    def check(self, row: Checked, images: Path | None) -> Checked:
        """The row, with a defect where its image is one of these.

        Args:
            row: a row of the first file.
            images: the folder of its image; None compares names alone.
        """
        if row.sample is None:
            return row
        image = row.sample.image
        told = self._named_alike(image) or (self.copy_of(images, image) if images else None)
        if told is None:
            return row
        near = told.what.startswith("looks")
        defect = Defect(
            row.line, row.id,
            "image-like-validation" if near else "image-in-validation",
            "warning" if near else "error",
            f"image {image!r} {told.what}",
            told.fix,
        )  # fmt: skip
        return row._replace(defects=[*row.defects, defect])

    def _named_alike(self, image: str) -> _Found | None:
        if image in self.names:
            return _Found(f"is also in {self.file}", "split by image: boxrl data split")
        sibling = self.groups.get(group_key(image, ROBOFLOW) or "")
        if sibling is None:
            return None
        what = f"is, by its name, a copy of {sibling!r} in {self.file}"
        return _Found(what, "split by photo: boxrl data split")

    def _copy_of(self, images: Path, image: str) -> _Found | None:
        path = _located(images, image)
        if path is None:  # which another rule tells
            return None
        for other in self.by_size.get(path.stat().st_size, ()):
            if self.content(other.path) == self.content(path):
                what = f"is a copy of {other.image!r} in {self.file}"
                return _Found(what, "split by content: boxrl data split --images DIR")
        return None if self.hashes is None else self._near(perceptual_hashes(path)[0])

    def _near(self, bits: Bits) -> _Found | None:
        """The picture that looks most like the hash "256", as it is or mirrored."""
        differing = (len(bits) - np.asarray(self.hashes) @ bits) / 2
        nearest = int(differing.argmin())
        if differing[nearest] > NEAR:
            return None
        other = f"{self.pictures[nearest // 2].image!r}{', mirrored,' if nearest % 2 else ''}"
        return _Found(
            f"looks like {other} in {self.file}: {differing[nearest]:.0f} of {len(bits)} bits of "
            "their perceptual hashes differ",
            "look at both; boxrl data split --group-by keeps copies on one side",
        )


def _located(images: Path, image: str) -> Path | None:
    """Where the image lies; None where it is missing, no file, or outside of its folder."""
    try:
        path = images / inside_folder(images, image, "row")
    except DataError:
        return None
    return path if path.is_file() else None


def can_hash() -> bool:
    """Whether the library that near copies need is installed."""
    return importlib.util.find_spec("imagehash") is not None


def perceptual_hashes(path: Path) -> Bits:
    """The hashes of the picture and of its mirror image, Float "2 256" of 1 and -1.

    All 0, and so like nothing, where the picture is plain or cannot be read.
    """
    import imagehash

    try:
        picture = read_image(path, str(path), LONGER_SIDE).convert("L")
    except DataError:
        return np.zeros((2, HASH_SIZE**2), dtype=np.float32)
    if np.asarray(picture, dtype=np.float64).std() < PLAIN:
        return np.zeros((2, HASH_SIZE**2), dtype=np.float32)
    sides = (picture, ImageOps.mirror(picture))
    bits = [imagehash.phash(side, hash_size=HASH_SIZE).hash.ravel() for side in sides]
    return np.where(bits, 1.0, -1.0).astype(np.float32)
