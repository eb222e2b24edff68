"""Images decoded and prepared once each, texts read once each, however many rows have them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import BatchEncoding
from transformers.feature_extraction_utils import BatchFeature

from boxrl.data.samples import parse_line
from boxrl.engines.loading import refusal
from boxrl.engines.seam import replaced
from boxrl.errors import DataError
from boxrl.generation.questions import load_image


@contextmanager
def once_per_group(processor: Any, group: int) -> Iterator[None]:
    """Within the block `once_per_image` and `once_per_text` hold.

    Args:
        processor: the model's, of texts and images.
        group: rows that have a prompt, one after the other.
    """
    with once_per_image(processor.image_processor, group), once_per_text(processor):
        yield


@contextmanager
def once_per_text(processor: Any) -> Iterator[None]:
    """Within the block `processor` reads equal texts of a batch once.

    TRL has it read the prompt of every completion, with a token for every patch of its image.
    Law: the same rows of tokens.

    Args:
        processor: the model's, of texts and images.
    """
    tokenizer = processor.tokenizer

    def once(text: Any, **options: Any) -> Any:
        if not isinstance(text, list) or not all(isinstance(own, str) for own in text):
            return tokenizer(text, **options)
        places = {own: place for place, own in enumerate(dict.fromkeys(text))}
        read = tokenizer([*places], **options)
        rows = [places[own] for own in text]
        return BatchEncoding({name: _take(values, rows) for name, values in read.items()})

    with replaced(processor, "tokenizer", _Reading(tokenizer, once)):
        yield


@contextmanager
def one_beginning(processor: Any) -> Iterator[None]:
    """Within the block a prompt that its template has begun gets no second token of beginning.

    transformers holds to that where it renders and reads a prompt at once, as for generation. TRL
    then has it read the rendered prompts again, whose types of tokens would be of one token more.

    Args:
        processor: the model's, of texts and images.
    """
    tokenizer = processor.tokenizer

    def begun(text: Any, **options: Any) -> Any:
        first, bos = text[0] if isinstance(text, list) and text else text, tokenizer.bos_token
        if bos and isinstance(first, str) and first.startswith(bos):
            options["add_special_tokens"] = False
        return tokenizer(text, **options)

    with replaced(processor, "tokenizer", _Reading(tokenizer, begun)):
        yield


class _Reading:
    """A tokenizer in everything but how it reads."""

    def __init__(self, tokenizer: Any, read: Callable[..., Any]) -> None:
        self._tokenizer, self._read = tokenizer, read

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: Any, **options: Any) -> Any:
        return self._read(text, **options)


def _take(values: Any, rows: list[int]) -> Any:
    """Rows of a tensor or list, each its own."""
    if isinstance(values, list):
        return [copy(values[row]) for row in rows]
    return values[rows]


@contextmanager
def once_per_image(image_processor: Any, group: int = 1) -> Iterator[None]:
    """Within the block every distinct image goes through `image_processor` once.

    TRL preprocesses every copy of an image, twice per generation, once as arrays and once as
    tensors. Law: the same numbers, as tensors; but for the pixel values of images with a grid, of
    which only every group's first is there: `images.count_first` makes the rest say so.

    Args:
        image_processor: the model's.
        group: rows that show an image, one after the other.
    """
    original = image_processor.preprocess
    seen: dict[Any, Any] = {}
    joined: dict[Any, dict[str, Any]] = {}
    fingerprint = _remembered(_fingerprint)

    def preprocess(images: Any, *args: Any, **kwargs: Any) -> BatchFeature:
        options = {**kwargs, "return_tensors": "pt"}
        asked = repr(args), repr(sorted(options.items()))
        keys = []
        for image in _flat(images):
            keys.append((fingerprint(image), asked))
            if keys[-1] not in seen:
                seen[keys[-1]] = original([image], *args, **options)
        batch = tuple(keys)
        if batch not in joined:
            joined[batch] = _join_features([seen[key] for key in batch], group)
        return BatchFeature(dict(joined[batch]))

    image_processor.preprocess = preprocess
    # TRL copies prompts deeply, their pictures included, which nobody changes.
    Image.Image.__deepcopy__ = lambda picture, _: picture  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del image_processor.preprocess  # the class's own is back
        del Image.Image.__deepcopy__  # type: ignore[attr-defined]


@contextmanager
def in_plain_text(processor: Any) -> Iterator[None]:
    """Within the block the chat template gets messages of text alone as a text, not in parts.

    Args:
        processor: the model's, of texts and images.
    """
    render = processor.apply_chat_template

    def rendered(chat: Sequence[dict[str, Any]], **options: Any) -> Any:
        return render([_in_plain_text(message) for message in chat], **options)

    with replaced(processor, "apply_chat_template", rendered):
        yield


def _in_plain_text(message: dict[str, Any]) -> dict[str, Any]:
    parts = message["content"]
    if isinstance(parts, str) or any(part["type"] != "text" for part in parts):
        return message
    return {**message, "content": "".join(part["text"] for part in parts)}


@contextmanager
def unparsed(tokenizer: Any) -> Iterator[None]:
    """Within the block completions stay whole, whatever `tokenizer` knows of an answer's parts.

    TRL would take thoughts out of them by the tokenizer's template; rewards read what was written.

    Args:
        tokenizer: the model's; outside the block, and where it is saved, it has its template.
    """
    with ExitStack() as hidden:
        for name in ("response_template", "response_schema"):
            if getattr(tokenizer, name, None) is not None:
                hidden.enter_context(replaced(tokenizer, name, None))
        yield


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


@contextmanager
def refusals_by_sample(rows: Sequence[dict[str, Any]], image_processor: Any) -> Iterator[None]:
    """Within the block, an image that the processor refuses is told of with its sample.

    Args:
        rows: as of `decode_once`, with the pictures.
        image_processor: the model's.

    Raises:
        DataError: the sample and the processor's words, instead of what it raised.
    """
    pictures = {row["sample"]: row["image"] for row in rows}  # TRL takes the rows apart
    try:
        yield
    except Exception as error:
        for line, picture in pictures.items():
            if said := refusal(image_processor, picture):
                key = parse_line(line).id
                raise DataError(
                    f"sample {key!r}: the image processor refuses its image ({said})"
                ) from error
        raise


def _flat(images: Any) -> Iterator[Any]:
    if isinstance(images, (list, tuple)):
        for item in images:
            yield from _flat(item)
    else:
        yield images


def _remembered(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function, called once for each object; every object is kept, so no other has its id."""
    known: dict[int, tuple[Any, Any]] = {}

    def remembered(item: Any) -> Any:
        if id(item) not in known:
            known[id(item)] = item, function(item)
        return known[id(item)][1]

    return remembered


def _fingerprint(image: Any) -> Any:
    """Equal for equal pictures; copies are told by their pixels."""
    if isinstance(image, Image.Image):
        pixels = image.tobytes()
        return image.size, image.mode, zlib.crc32(pixels), zlib.adler32(pixels)
    return id(image)


def _join_features(parts: list[Any], group: int) -> dict[str, Any]:
    """Features of single images as those of a batch; see `once_per_image`."""
    firsts = parts[::group]
    whole = len(parts) == group * len(firsts)
    alike = whole and all(part is firsts[row // group] for row, part in enumerate(parts))
    shown = firsts if alike and "image_grid_thw" in parts[0] else parts
    return {
        name: _join([part[name] for part in (shown if name == "pixel_values" else parts)])
        for name in parts[0]
    }


def _join(features: list[Any]) -> Any:
    if torch.is_tensor(features[0]):
        return torch.cat(features)
    return [item for feature in features for item in feature]
