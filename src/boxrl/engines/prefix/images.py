"""The images of a batch, row by row, in the form in which each architecture takes them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

TYPES = ("mm_token_type_ids", "token_type_ids")
"""The model's inputs that say what each token is, such as 1 for images; a model has one of them."""
BY_TOKEN = ("input_ids", "attention_mask", *TYPES)
BY_IMAGE = ("image_grid_thw", "image_position_ids", "image_sizes")
BY_PART = ("pixel_values", "pixel_attention_mask", "spatial_shapes")
"""The model's inputs with one value per token, with one row per image, and with several."""


def row_images(others: dict[str, Any], n_rows: int) -> list[dict[str, Tensor] | None]:
    """The model's inputs for the images of each row; None for rows without one of their own.

    Args:
        others: TRL's arguments: pixel values "patches values" with a grid "images 3", "tiles ..."
            with the count of each row's tiles, or "images ..."; and what goes with them.
        n_rows: rows.
    """
    pixels, grid = others.get("pixel_values"), others.get("image_grid_thw")
    if pixels is None:
        return [None] * n_rows
    counts: list[int] = others.get("num_images") or [1] * n_rows
    parts: list[int] = others.get("num_tiles") or counts
    if grid is not None:
        patches = iter(grid.prod(-1).tolist())  # one wait for a GPU, not one a row
        parts = [sum(islice(patches, count)) for count in counts]
    lengths = {name: counts for name in BY_IMAGE} | {name: parts for name in BY_PART}
    split = {
        name: others[name].split(length)
        for name, length in lengths.items()
        if others.get(name) is not None
    }
    return [
        {name: own[row] for name, own in split.items()} if parts[row] else None
        for row in range(n_rows)
    ]


def count_first(inputs: dict[str, Any], n_rows: int, group: int) -> dict[str, Any]:
    """Arguments in which pixel values of every group's first image alone are counted as such.

    Args:
        inputs: TRL's arguments; where they hold the pixel values of all images they stay as they
            are.
        n_rows: rows, one image each.
        group: rows that show an image, one after the other.
    """
    pixels, grid = inputs.get("pixel_values"), inputs.get("image_grid_thw")
    if pixels is None or grid is None or group == 1 or len(grid) != n_rows:
        return inputs
    if len(pixels) == int(grid.prod(-1).sum()):
        return inputs
    counts = [int(row % group == 0) for row in range(n_rows)]
    return {**inputs, "image_grid_thw": grid[::group], "num_images": counts}


def join_images(images: Sequence[dict[str, Tensor] | None]) -> dict[str, Tensor]:
    """The model's inputs for the images of several rows.

    Args:
        images: of `row_images`; rows without an image are passed over.

    Returns:
        By name, each "images ..." or "parts ...".
    """
    own = [image for image in images if image is not None]
    names = own[0] if own else ()
    return {name: torch.cat([image[name] for image in own]) for name in names}


def spread_images(images: Sequence[dict[str, Tensor] | None]) -> dict[str, Any]:
    """TRL's arguments for the images of rows: the inverse of `row_images`.

    Args:
        images: of `row_images`, one or none each.

    Returns:
        Tensors "images ..." or "parts ..." by name, and how many belong to each row.
    """
    inputs: dict[str, Any] = dict(join_images(images))
    if inputs:
        inputs["num_images"] = [int(image is not None) for image in images]
    if inputs and not inputs.keys() & {"image_grid_thw", "image_position_ids"}:
        inputs["num_tiles"] = [len(image["pixel_values"]) if image else 0 for image in images]
    return inputs


def token_types(inputs: dict[str, Any]) -> Tensor | None:
    """What the processor says of each token, "b n"; None where it says nothing."""
    named = (inputs.get(name) for name in TYPES)
    return next((types for types in named if types is not None), None)


def tiles_per_row(inputs: dict[str, Any], image_token: int) -> list[int]:
    """How many of a batch's tiles belong to each of its rows, which have one image each.

    A tile has as many tokens as every other (InternVL), or in proportion to its patches (LFM2-VL,
    whose smaller picture of the whole image is a tile, too).

    Args:
        inputs: the model's: `input_ids` "b n", `pixel_values` "tiles ..." and, where patches of a
            tile are not always as many, `spatial_shapes` "tiles 2".
        image_token: the token that stands for a part of an image.
    """
    ids, pixels, shapes = inputs["input_ids"], inputs["pixel_values"], inputs.get("spatial_shapes")
    if len(pixels) == len(ids):
        return [1] * len(ids)
    tokens = (ids == image_token).sum(1).cumsum(0)
    sizes = torch.ones(len(pixels), dtype=torch.long) if shapes is None else shapes.prod(-1)
    parts = sizes.to(tokens).cumsum(0)
    # How many of all tiles end within the rows up to each, in whole numbers.
    ends = torch.searchsorted(parts * tokens[-1], tokens * parts[-1], right=True)
    counts: list[int] = ends.diff(prepend=ends.new_zeros(1)).tolist()
    return counts
