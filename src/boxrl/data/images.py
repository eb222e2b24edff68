"""What an image file says about itself, read without trusting it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from boxrl.errors import DataError

MAX_PIXELS = 178_956_970
"""Larger images are refused before they are decoded: 512 MiB as RGB, Pillow's own last limit."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""All that is opened as an image, MPO as JPEG; Pillow hands EPS to a program, Ghostscript."""

ORIENTATION_TAG = 0x0112


class Header(NamedTuple):
    """Size of the stored pixels and the EXIF orientation (1 = as stored, up to 8)."""

    size_wh: tuple[int, int]
    orientation: int


def read_header(path: Path, where: str) -> Header:
    """Size and orientation from an image's header; no pixel is decoded.

    Args:
        path: the image.
        where: start of the error message.

    Raises:
        DataError: missing, no image, or more than MAX_PIXELS pixels.
    """
    with _open(path, where) as image:
        return _header(image, path, where)


def check_pixels(path: Path, where: str) -> Header:
    """The header of an image all of whose pixels could be decoded.

    JPEGs are decoded at an eighth of their size, which reads every byte at a fraction of the cost.

    Raises:
        DataError: as `read_header`, and for a file that is cut or damaged.
    """
    with _open(path, where) as image:
        header = _header(image, path, where)
        try:
            image.draft("RGB", (header.size_wh[0] // 8, header.size_wh[1] // 8))
            image.load()
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{where}: image {path} is damaged ({error}); replace it") from error
        return header


def _open(path: Path, where: str) -> Image.Image:
    try:
        if not path.is_file():  # nor a pipe, which would be waited for
            raise DataError(
                f"{where}: no image {path}; --images names the folder that the paths start from"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{where}: image {path} declares more than {MAX_PIXELS:,} pixels and was not opened; "
            "scale it down or leave it out"
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{where}: {path} is not a readable image ({error})") from error


def _header(image: Image.Image, path: Path, where: str) -> Header:
    try:
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
    except (OSError, SyntaxError, ValueError, KeyError) as error:
        raise DataError(f"{where}: image {path} has damaged EXIF data ({error})") from error
    return Header(image.size, orientation if orientation in range(1, 9) else 1)
