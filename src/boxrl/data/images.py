"""The ONE place that opens images: what a file says about itself, and its pixels.

An image is what viewers, OpenCV and labelling tools show: turned as its EXIF data say, 8 bits a
channel, RGB, the first frame of several. Sizes and boxes are those of that picture.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from boxrl.errors import DataError
from boxrl.families import Family
from boxrl.types import Sample

MAX_DECODED_BYTES = 2**30
"""What reading one image takes at most; those that would take more are not decoded."""

PEAK_BYTES_PER_PIXEL = {"WEBP": 16, "AVIF": 12, "I": 12, "F": 12}
"""By format or mode, measured: what the decoder and turning into RGB hold at once."""

OTHER_BYTES_PER_PIXEL = 8

MAX_PIXELS = MAX_DECODED_BYTES // OTHER_BYTES_PER_PIXEL
"""Of formats that are cheap to decode, such as JPEG and PNG."""

MAX_SIDE = 2**16
"""Pixels; Pillow keeps an address for each row."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
"""All that is opened as an image, MPO as JPEG; Pillow hands EPS to a program, Ghostscript."""

STRIP_PIXELS = 2**20

ORIENTATION_TAG = 0x0112
TIFF_WIDTH_TAG, TIFF_HEIGHT_TAG = 0x0100, 0x0101

UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError,
    RuntimeError, struct.error,
)  # fmt: skip
"""What Pillow was seen to raise over files that are cut, damaged or no image, and its kin."""

_FLIPPED = {2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}
"""EXIF orientation -> whether x and y are counted from the other end, before sides change."""


def only_listed_formats() -> None:
    """Let nobody in this process open another format, libraries that open images included."""
    Image.init()
    Image.ID[:] = [name for name in Image.ID if name in FORMATS]


class Header(NamedTuple):
    """What an image file says about itself.

    Attributes:
        size_wh: of the picture as it is shown.
        stored_wh: of the pixels as they are stored.
        orientation: EXIF's, 1 = shown as stored, up to 8.
        format: Pillow's name of it.
        mode: Pillow's name of what a pixel holds.
        animated: whether it holds several pictures; the first is used.
    """

    size_wh: tuple[int, int]
    stored_wh: tuple[int, int]
    orientation: int
    format: str
    mode: str
    animated: bool


def read_header(path: Path, where: str) -> Header:
    """Size and kind from an image's header; no pixel is decoded.

    Args:
        path: the image.
        where: start of the error message.

    Raises:
        DataError: missing, no image, or larger than is decoded.
    """
    with _opened(path, where) as image:
        return _header(image, path, where)


def check_pixels(path: Path, where: str) -> Header:
    """The header of an image all of whose pixels could be decoded.

    JPEGs are decoded at an eighth of their size, which reads every byte at a fraction of the cost.

    Raises:
        DataError: as `read_header`, and for a file that is cut or damaged.
    """
    with _opened(path, where) as image:
        header = _header(image, path, where)
        with _image_errors(path, where):
            image.draft("RGB", (header.stored_wh[0] // 8, header.stored_wh[1] // 8))
            image.load()
        return header


def read_image(path: Path, where: str, side: int | None = None) -> Image.Image:
    """The picture as it is shown, RGB.

    Args:
        path: the image.
        where: start of the error message.
        side: longer side in pixels to which a larger picture is reduced, cheaply; None keeps it.

    Raises:
        DataError: as `read_header`, and for a file that is cut or damaged.
    """
    with _opened(path, where) as image, _image_errors(path, where):
        if side is not None:
            image.draft("RGB", (side, side))
        ImageOps.exif_transpose(image, in_place=True)
        if side is not None and image.mode in ("RGB", "L", "CMYK"):
            image.thumbnail((side, side), Image.Resampling.BILINEAR)
        shown = _eight_bits(image)
        shown = shown if shown.mode == "RGB" else shown.convert("RGB")  # which would copy
        if side is not None:
            shown.thumbnail((side, side), Image.Resampling.BILINEAR)
        return shown


def as_shown(image: Image.Image) -> Image.Image:
    """An image in memory as `read_image` gives one: upright, 8 bits a channel, RGB.

    Args:
        image: of any mode.
    """
    return _eight_bits(ImageOps.exif_transpose(image)).convert("RGB")


def check_sample(sample: Sample, family: Family) -> None:
    """See that the model's processor takes the sample: its image's shape, and its words.

    Raises:
        DataError: it does not, or would count images in the words.
    """
    try:
        family.input_size_wh(sample.size_wh)
    except DataError as error:
        raise DataError(f"sample {sample.id!r}: {error}") from error
    words = " ".join([sample.question or "", *sample.labels])
    token = next((token for token in family.image_tokens if token in words), None)
    if token is not None:
        raise DataError(
            f"sample {sample.id!r}: its question holds {token}, which family {family.name!r} takes "
            "for an image; remove it from the sample"
        )


def turn_box(
    bbox: tuple[float, float, float, float], stored_wh: tuple[int, int], orientation: int
) -> tuple[float, float, float, float]:
    """A box of the stored pixels in the picture as it is shown.

    Args:
        bbox: xyxy in stored pixels.
        stored_wh: their (width, height).
        orientation: EXIF's, 1 to 8.

    Source: EXIF 2.32, tag Orientation.
    """
    if orientation == 1:
        return bbox
    xs, ys = bbox[0::2], bbox[1::2]
    from_right, from_below = _FLIPPED[orientation]
    if from_right:
        xs = (stored_wh[0] - xs[1], stored_wh[0] - xs[0])
    if from_below:
        ys = (stored_wh[1] - ys[1], stored_wh[1] - ys[0])
    if orientation >= 5:
        xs, ys = ys, xs
    return xs[0], ys[0], xs[1], ys[1]


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, whole numbers or floats brought to 8 bits; anything else as it is.

    16 bits lose their lower byte, as in OpenCV. Numbers without a range of their own, TIFF's 32
    bits and floats, are taken to be shares of 1, 8-bit or 16-bit values, whichever is the
    smallest range that holds them all, and else stretched from least to largest.
    """
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    if image.mode != "F" and (image.mode != "I" or image.format == "PNG"):
        return _by_strips(image, lambda values: values >> 8)
    seen = [(v.min(), v.max()) for v in (_numbers(values) for _, values in _strips(image))]
    low, high = float(min(pair[0] for pair in seen)), float(max(pair[1] for pair in seen))
    ends = [(0.0, limit) for limit in (1.0, 255.0, 65535.0) if limit > 1 or image.mode == "F"]
    start, end = next((e for e in ends if e[0] <= low and high <= e[1]), (low, max(high, low + 1)))
    scale = 255 / (end - start)
    return _by_strips(image, lambda values: np.rint((_numbers(values) - start) * scale))


def _numbers(values: Any) -> Any:
    """Floats without NaN and infinity."""
    return np.nan_to_num(values.astype(np.float64))


def _strips(image: Image.Image) -> Iterator[tuple[int, Any]]:
    """(first row, values) of bands of the image: whole, its numbers would take many times more."""
    width, height = image.size
    step = max(1, STRIP_PIXELS // width)
    for top in range(0, height, step):
        yield top, np.asarray(image.crop((0, top, width, min(height, top + step))))


def _by_strips(image: Image.Image, convert: Callable[[Any], Any]) -> Image.Image:
    """The grey image of 8 bits that `convert` makes of the values."""
    grey = Image.new("L", image.size)
    for top, values in _strips(image):
        grey.paste(Image.fromarray(convert(values).astype(np.uint8)), (0, top))
    return grey


@contextmanager
def _opened(path: Path, where: str) -> Iterator[Image.Image]:
    try:
        if not path.is_file():  # nor a pipe, which would be waited for
            raise DataError(
                f"{where}: no image {path}; --images names the folder that the paths start from"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise DataError(_too_large(path, where, MAX_PIXELS)) from error
    except UnidentifiedImageError as error:
        raise DataError(f"{where}: {_what_it_is(path)}") from error
    except UNREADABLE as error:
        raise DataError(f"{where}: {path} is not a readable image ({error})") from error
    with image:
        kinds = (image.format, image.mode)
        cost = max(PEAK_BYTES_PER_PIXEL.get(str(k), OTHER_BYTES_PER_PIXEL) for k in kinds)
        if image.size[0] * image.size[1] * cost > MAX_DECODED_BYTES:
            raise DataError(_too_large(path, where, MAX_DECODED_BYTES // cost))
        if max(image.size) > MAX_SIDE:
            raise DataError(
                f"{where}: image {path} declares {image.size[0]} x {image.size[1]} pixels; a side "
                f"of more than {MAX_SIDE:,} is not opened"
            )
        yield image


def _too_large(path: Path, where: str, limit: int) -> str:
    return (
        f"{where}: image {path} declares more than {limit:,} pixels and was not opened; "
        "scale it down or leave it out"
    )


def _what_it_is(path: Path) -> str:
    """A sentence on a file that cannot be opened."""
    with path.open("rb") as handle:
        start = handle.read(12)
    kind = next((kind for kind, is_one in _KINDS if is_one(start)), None)
    if kind is None:
        return f"{path} is not a readable image (JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF)"
    return f"{path} is {kind}; convert it to JPEG or PNG"


def _is_heic(start: bytes) -> bool:
    kinds = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
    return start[4:8] == b"ftyp" and start[8:12] in kinds


def _is_avif(start: bytes) -> bool:
    return start[4:8] == b"ftyp" and start[8:12] in (b"avif", b"avis")


def _is_jpeg_2000(start: bytes) -> bool:
    return start.startswith((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"))


_KINDS = (
    ("a HEIC image, which boxrl does not open (pillow-heif reads it)", _is_heic),
    ("an AVIF image, which this Pillow does not open (pip install 'pillow>=11.3')", _is_avif),
    ("a JPEG 2000 image, which boxrl does not open (Pillow, imagecodecs read it)", _is_jpeg_2000),
)
"""(what it is, whether its first 12 bytes say so) of kinds that people have and boxrl refuses."""


@contextmanager
def _image_errors(path: Path, where: str) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        raise DataError(f"{where}: image {path} is damaged ({error}); replace it") from error


def _header(image: Image.Image, path: Path, where: str) -> Header:
    stored = image.size
    try:
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
        animated = bool(getattr(image, "is_animated", False))
        if image.format == "TIFF":  # whose size Pillow turns by itself
            tags = image.tag_v2  # type: ignore[attr-defined]
            stored = (tags[TIFF_WIDTH_TAG], tags[TIFF_HEIGHT_TAG])
    except UNREADABLE as error:
        raise DataError(f"{where}: image {path} has damaged metadata ({error})") from error
    orientation = orientation if orientation in range(1, 9) else 1
    return Header(
        size_wh=stored[::-1] if orientation >= 5 else stored,
        stored_wh=stored,
        orientation=orientation,
        format=image.format or "",
        mode=image.mode,
        animated=animated,
    )
