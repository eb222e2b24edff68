"""Pictures of a page: scaled once, embedded up to a stated size, otherwise beside the file.

Photographs stay JPEG, whose decoder scales for nothing; what was stored without loss becomes
WebP, a third of the size where edges are sharp. Metadata is left behind.
"""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from boxrl.data.images import read_header, read_image
from boxrl.errors import DataError, UsageError, tally

SIDE, SIDE_OF_MANY, MANY = 640, 320, 500
"""Longer side of a picture in pixels, and of one where a page has more than MANY pictures.

Boxes are drawn over the picture at full precision.
"""

MAX_EMBEDDED_BYTES = 16 * 2**20
"""Pictures of a page are embedded while all of them together stay under this size."""

THREADS = 4
LARGE_PIXELS = 2**23
"""Larger pictures are decoded one after the other, so that a page takes no more memory than the
largest of them; JPEGs are small, because they are scaled while they are decoded."""


class Thumbnail(NamedTuple):
    """An image file's bytes and its kind: `jpeg` or `webp`."""

    content: bytes
    kind: str


def fits(path: Path, size_wh: tuple[int, int]) -> bool:
    """Whether boxes of an image of this size lie right over the picture, itself or scaled.

    A picture that cannot be read fits: that is told of where it is drawn.
    """
    try:
        width, height = read_header(path, "picture").size_wh
    except DataError:
        return True
    # Sides of a scaled copy are rounded, each by less than a pixel.
    return abs(width * size_wh[1] - height * size_wh[0]) <= sum(size_wh)


def misfits(count: int) -> list[str]:
    """What a page says of pictures that do not fit their samples; nothing where there are none."""
    said = (
        f"{tally(count, 'sample')} shown without a picture: the image has other proportions than "
        "the sample says, and boxes would lie elsewhere; boxrl data lint --images names them"
    )
    return [said] if count else []


def read_thumbnail(path: Path, side: int) -> Thumbnail | None:
    """The image with sides of at most `side` pixels; None where it cannot be read."""
    written = io.BytesIO()
    try:
        kind = "jpeg" if read_header(path, "picture").format == "JPEG" else "webp"
        read_image(path, "picture", side).save(written, kind, quality=80, method=1)
    except DataError:
        return None
    return Thumbnail(written.getvalue(), kind)


def read_thumbnails(paths: Sequence[Path]) -> list[Thumbnail | None]:
    """`read_thumbnail` of each; Pillow works without the interpreter's lock, so threads help."""
    side = SIDE if len(paths) <= MANY else SIDE_OF_MANY
    large = {path for path in paths if _is_large(path)}
    small = [path for path in paths if path not in large]
    with ThreadPoolExecutor(THREADS) as pool:
        read = dict(
            zip(small, pool.map(lambda path: read_thumbnail(path, side), small), strict=True)
        )
    # In one thread: every thread keeps what it was given for its largest picture.
    read |= {path: read_thumbnail(path, side) for path in sorted(large)}
    return [read[path] for path in paths]


def _is_large(path: Path) -> bool:
    try:
        header = read_header(path, "picture")
    except DataError:
        return False
    return header.format != "JPEG" and header.stored_wh[0] * header.stored_wh[1] > LARGE_PIXELS


def place_thumbnails(pictures: Sequence[Thumbnail | None], out: Path) -> list[str | None]:
    """One URL for each picture: a data URL, or a relative path into `OUT_files/`.

    Args:
        pictures: None for those that could not be read.
        out: the page. A folder `OUT_files` of an earlier page is replaced or removed.

    Raises:
        UsageError: `OUT_files` is of no earlier page.
    """
    folder = out.with_name(f"{out.stem}_files")
    if folder.is_symlink() or (folder.exists() and not out.exists()):
        raise UsageError(f"{folder}: is not of an earlier {out.name}; remove it or name another")
    _remove_pictures(folder)
    if sum(len(picture.content) for picture in pictures if picture) <= MAX_EMBEDDED_BYTES:
        return [_data_url(picture) if picture else None for picture in pictures]
    folder.mkdir(parents=True, exist_ok=True)
    urls: list[str | None] = []
    for number, picture in enumerate(pictures):
        name = f"{number}.{picture.kind}" if picture else None
        if picture and name:
            (folder / name).write_bytes(picture.content)
        urls.append(f"{quote(folder.name)}/{name}" if name else None)
    return urls


def _remove_pictures(folder: Path) -> None:
    """Remove what an earlier page put there, and nothing else."""
    if folder.is_dir():
        for picture in folder.iterdir():
            if picture.stem.isdigit() and picture.suffix in (".jpeg", ".webp"):
                picture.unlink()
        with contextlib.suppress(OSError):  # something else lies in it
            folder.rmdir()


def _data_url(picture: Thumbnail) -> str:
    text = base64.b64encode(picture.content).decode("ascii")
    return f"data:image/{picture.kind};base64,{text}"
