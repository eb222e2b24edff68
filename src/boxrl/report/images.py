"""Pictures of a page: scaled once, embedded up to a stated size, otherwise beside the file."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

MAX_SIDE = 480
"""Longer side of a picture in the page, in pixels; boxes are drawn over it at full precision."""

MAX_EMBEDDED_BYTES = 16 * 2**20
"""Pictures of a page are embedded while all of them together stay under this size."""

THREADS = 4


def read_picture(path: Path) -> bytes | None:
    """The image as WebP with sides of at most MAX_SIDE; None where it cannot be read."""
    try:
        with Image.open(path) as image:
            image.draft("RGB", (MAX_SIDE, MAX_SIDE))  # JPEGs decode at a fraction of their size
            image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BILINEAR, reducing_gap=None)
            picture = io.BytesIO()
            image.convert("RGB").save(picture, "WEBP", quality=80, method=1)
    except (OSError, Image.DecompressionBombError, ValueError):
        return None
    return picture.getvalue()


def read_pictures(paths: Sequence[Path]) -> list[bytes | None]:
    """`read_picture` of each; Pillow works without the interpreter's lock, so threads help."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(read_picture, paths))


def place_pictures(pictures: Sequence[bytes | None], out: Path) -> list[str | None]:
    """One URL for each picture: a data URL, or a relative path into `OUT_files/`.

    Args:
        pictures: WebP files.
        out: the page. A folder `OUT_files` of an earlier page is replaced or removed.
    """
    folder = out.with_name(f"{out.stem}_files")
    _remove_pictures(folder)
    if sum(len(picture) for picture in pictures if picture) <= MAX_EMBEDDED_BYTES:
        return [_data_url(picture) if picture else None for picture in pictures]
    folder.mkdir(parents=True, exist_ok=True)
    urls: list[str | None] = []
    for number, picture in enumerate(pictures):
        if picture:
            (folder / f"{number}.webp").write_bytes(picture)
        urls.append(f"{folder.name}/{number}.webp" if picture else None)
    return urls


def _remove_pictures(folder: Path) -> None:
    """Remove what an earlier page put there, and nothing else."""
    if folder.is_dir():
        for picture in folder.glob("*.webp"):
            if picture.stem.isdigit():
                picture.unlink()
        with contextlib.suppress(OSError):  # something else lies in it
            folder.rmdir()


def _data_url(picture: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(picture).decode("ascii")
