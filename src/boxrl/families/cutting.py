"""Image tokens of processors that cut an image into parts, or pad it, by rules of their own.

No coordinate depends on them: these models write boxes over the image, whatever is made of it.
Each rule holds its processor's settings under their names, with the defaults of transformers'
class. Processors of no class there are not computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from boxrl.families.resizing import nearest_grid, scaled_between, whole_steps


@dataclass(frozen=True, slots=True)
class Lfm2Cut:
    """LFM2-VL: one image, or tiles with a thumbnail where it is too large for one.

    Source: transformers, models/lfm2_vl/image_processing_lfm2_vl.py.
    """

    processor: ClassVar[str] = "Lfm2VlImageProcessor"
    encoder_patch_size: int = 16
    downsample_factor: int = 2
    min_image_tokens: int = 64
    max_image_tokens: int = 256
    max_pixels_tolerance: float = 2.0
    do_image_splitting: bool = True
    tile_size: int = 512
    min_tiles: int = 2
    max_tiles: int = 10
    use_thumbnail: bool = True

    def count(self, size_wh: tuple[int, int]) -> int:
        """Tokens of an image of (width, height)."""
        side = self.encoder_patch_size * self.downsample_factor
        most = self.max_image_tokens * side**2
        width, height = (
            max(self.encoder_patch_size, whole_steps(length, side) * side) for length in size_wh
        )
        whole = scaled_between(size_wh, side, self.min_image_tokens * side**2, most)
        tokens = math.prod(whole) // side**2
        if not self.do_image_splitting or width * height <= most * self.max_pixels_tolerance:
            return tokens
        tiles = nearest_grid(size_wh, self.tile_size, self.min_tiles, self.max_tiles)
        thumbnail = tokens if self.use_thumbnail and tiles > 1 else 0
        return tiles * (self.tile_size // side) ** 2 + thumbnail


@dataclass(frozen=True, slots=True)
class KimiPad:
    """Kimi K2.5: never enlarged, shrunk to a number of patches, padded to whole tokens.

    Source: transformers, models/kimi_k25/image_processing_kimi_k25.py.
    """

    processor: ClassVar[str] = "Kimi_K25ImageProcessor"
    patch_size: int = 14
    merge_size: int = 2
    max_patches: int = 16384
    max_height: int = 512
    """Patches of a side, whichever it is."""

    def count(self, size_wh: tuple[int, int]) -> int:
        """Tokens of an image of (width, height)."""
        patches = math.prod(max(1, length // self.patch_size) for length in size_wh)
        longest = self.max_height * self.patch_size
        scale = min(1.0, math.sqrt(self.max_patches / patches), *(longest / n for n in size_wh))
        token = self.patch_size * self.merge_size
        sides = (min(max(1, int(length * scale)), longest) for length in size_wh)
        return math.prod(-(-length // token) for length in sides)


@dataclass(frozen=True, slots=True)
class MiniCpmCut:
    """MiniCPM-V from 4.6: an overview, and slices where the image is larger than one.

    Source: transformers, models/minicpmv4_6/image_processing_minicpmv4_6.py.
    """

    processor: ClassVar[str] = "MiniCPMV4_6ImageProcessor"
    patch_size: int = 14
    scale_resolution: int = 448
    max_slice_nums: int = 9
    slice_mode: bool = True
    downsample_mode: str = "16x"

    def count(self, size_wh: tuple[int, int]) -> int:
        """Tokens of an image of (width, height)."""
        grid = self._grid(size_wh) if self.slice_mode else None
        tokens = self._part(size_wh, enlarge=grid is None)
        if grid is None:
            return tokens
        # Each side is a whole number of slices first, then every slice is fitted by itself.
        part_wh = [
            max(whole_steps(length, parts), 1) for length, parts in zip(size_wh, grid, strict=True)
        ]
        return tokens + math.prod(grid) * self._part((part_wh[0], part_wh[1]), enlarge=True)

    def _part(self, size_wh: tuple[float, float], enlarge: bool) -> int:
        """Tokens of the overview, or of a slice."""
        width, height = size_wh
        if enlarge or width * height > self.scale_resolution**2:
            aspect = width / height
            height = int(self.scale_resolution / math.sqrt(aspect))
            width = int(height * aspect)
        merge = 2 if self.downsample_mode == "4x" else 4
        token = self.patch_size * merge
        return math.prod(max(whole_steps(length, token), 1) for length in (width, height))

    def _grid(self, size_wh: tuple[int, int]) -> tuple[int, int] | None:
        """(columns, rows) of slices; None where the image is one."""
        width, height = size_wh
        wanted = min(math.ceil(width * height / self.scale_resolution**2), self.max_slice_nums)
        if wanted <= 1:
            return None
        grids = [
            (slices // rows, rows)
            for slices in (wanted - 1, wanted, wanted + 1)
            if 1 < slices <= self.max_slice_nums
            for rows in range(1, slices + 1)
            if slices % rows == 0
        ]
        best, nearest = (1, 1), math.inf
        for columns, rows in grids:
            error = abs(math.log(width / height) - math.log(columns / rows))
            if error < nearest or (error == nearest and rows > best[1]):
                best, nearest = (columns, rows), error
        return best


@dataclass(frozen=True, slots=True)
class MolmoCut:
    """Molmo 2: a square view of the whole, and overlapping crops of it.

    Source: transformers, models/molmo2/image_processing_molmo2.py.
    """

    processor: ClassVar[str] = "Molmo2ImageProcessor"
    patch_size: int = 14
    height: int = 378
    """Side of the view and of a crop."""
    max_crops: int = 8
    overlap_margins: tuple[int, int] = (4, 4)
    pooling_size: tuple[int, int] = (2, 2)

    def count(self, size_wh: tuple[int, int]) -> int:
        """Tokens of an image of (width, height)."""
        margin = sum(self.overlap_margins)
        patches = self.height // self.patch_size
        window = patches - margin
        rows, columns = self._tiling(size_wh, window * self.patch_size, margin * self.patch_size)
        whole, cut = (patches, patches), (rows * window + margin, columns * window + margin)
        return sum(
            math.prod(-(-n // pool) for n, pool in zip(view, self.pooling_size, strict=True))
            for view in (whole, cut)
        )

    def _tiling(self, size_wh: tuple[int, int], window: int, margin: int) -> tuple[int, int]:
        """(rows, columns) of crops; the smallest enlargement, else the least shrinking."""
        most = self.max_crops
        grids = [(rows, cols) for rows in range(1, most + 1) for cols in range(1, most // rows + 1)]
        grids.sort(key=lambda grid: (math.prod(grid), grid[0]))
        inside = np.array([size_wh[1] - margin, size_wh[0] - margin], dtype=np.float32)
        with np.errstate(divide="ignore"):  # an image as thin as the margin
            scales = (np.array(grids, dtype=np.float32) * np.float32(window) / inside).min(axis=1)
        if (scales < 1).all():
            return grids[int(scales.argmax())]
        return grids[int(np.where(scales < 1, np.float32(10e9), scales).argmin())]


Cut = Lfm2Cut | KimiPad | MiniCpmCut | MolmoCut
CUTS: dict[str, Callable[[], Cut]] = {
    "lfm2": Lfm2Cut,
    "kimi": KimiPad,
    "minicpm": MiniCpmCut,
    "molmo": MolmoCut,
}
"""Every rule by the name that a family gives."""
