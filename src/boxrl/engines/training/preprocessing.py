"""Images decoded and preprocessed once each, however many completions a prompt has."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers.feature_extraction_utils import BatchFeature

from boxrl.data.samples import parse_line
from boxrl.generation.questions import load_image


@contextmanager
def once_per_image(image_processor: Any) -> Iterator[None]:
    """Within the block every distinct image goes through `image_processor` once.

    TRL preprocesses every copy of an image, twice per generation, once as arrays and once as
    tensors. Law: the same numbers, as tensors.
    """
    original = image_processor.preprocess
    seen: dict[Any, Any] = {}
    joined: dict[Any, dict[str, Any]] = {}

    def preprocess(images: Any, *args: Any, **kwargs: Any) -> BatchFeature:
        options = {**kwargs, "return_tensors": "pt"}
        asked = repr(args), repr(sorted(options.items()))
        keys = []
        for image in _flat(images):
            keys.append((_fingerprint(image), asked))
            if keys[-1] not in seen:
                seen[keys[-1]] = original([image], *args, **options)
        batch = tuple(keys)
        if batch not in joined:
            parts = [seen[key] for key in batch]
            joined[batch] = {name: _join([part[name] for part in parts]) for name in parts[0]}
        return BatchFeature(dict(joined[batch]))

    image_processor.preprocess = preprocess
    try:
        yield
    finally:
        del image_processor.preprocess  # the class's own is back


def decode_once(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose `image`, a path, becomes the picture, one for all copies of a sample.

    Law: the pixels that `boxrl predict` shows the model.

    Raises:
        DataError: an image is gone, damaged, or of another size than its sample says.
    """
    pictures: dict[str, Image.Image] = {}
    decoded = []
    for row in rows:
        key = row["sample"]
        if key not in pictures:
            pictures[key] = load_image(Path(row["image"]), parse_line(key))
        decoded.append({**row, "image": pictures[key]})
    return decoded


def _flat(images: Any) -> Iterator[Any]:
    if isinstance(images, (list, tuple)):
        for item in images:
            yield from _flat(item)
    else:
        yield images


def _fingerprint(image: Any) -> Any:
    """Equal for equal pictures; copies are told by their pixels."""
    if isinstance(image, Image.Image):
        return image.size, image.mode, zlib.crc32(image.tobytes()), zlib.adler32(image.tobytes())
    return id(image)


def _join(parts: list[Any]) -> Any:
    """Features of single images as those of a batch."""
    if torch.is_tensor(parts[0]):
        return torch.cat(parts)
    return [item for part in parts for item in part]
