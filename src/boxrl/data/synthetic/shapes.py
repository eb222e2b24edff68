"""Coloured shapes with exact boxes: names, places on the grid, pixels.

A scene is laid out on a grid of 112 x 112 px and painted at a multiple of it. Shapes never touch,
and their centres lie in different cells of the grid.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from boxrl.boxes import iou
from boxrl.data.synthetic.world import CELL_PX, COLOURS, GRID_PX, World
from boxrl.types import Object

BACKGROUNDS = ((235, 235, 235), (20, 20, 20), (128, 128, 128), (200, 190, 170))

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]


class Shape(NamedTuple):
    """A shape in its place.

    Attributes:
        label: its colour and form, such as `red circle`.
        box: (x1, y1, x2, y2) in layout pixels, half-open.
        fill: RGB.
    """

    label: str
    box: Box
    fill: Colour


class Placement(NamedTuple):
    """What stands where, in raster order of the grid's cells."""

    background: Colour
    shapes: tuple[Shape, ...]


def lay_out(world: World, rng: random.Random, labels: Sequence[str]) -> Placement:
    """Give each label's shape a place and a colour; one that finds no free place is left out.

    Law: no two shapes overlap, and no two stand in one cell of the grid.

    Args:
        world: grid and sizes, in pixels.
        rng: every draw is taken from it.
        labels: `COLOUR SHAPE` each, placed in this order.
    """
    background = _jitter(rng, rng.choice(BACKGROUNDS), 15)
    placed: dict[int, Shape] = {}
    for label in labels:
        box = _free_box(world, rng, placed)
        if box is not None:
            fill = _jitter(rng, COLOURS[label.split()[0]], 20)
            placed[cell_of(box)] = Shape(label, box, fill)
    return Placement(background, tuple(placed[cell] for cell in sorted(placed)))


def _free_box(world: World, rng: random.Random, placed: dict[int, Shape]) -> Box | None:
    """A box that touches no placed shape, in a cell of its own."""
    low, high = min(world.sides), max(world.sides)
    taken = np.array([shape.box for shape in placed.values()], dtype=float).reshape(-1, 4)
    for _ in range(12):
        width = rng.choice(world.sides)
        height = max(low, min(high, int(width * rng.uniform(0.75, 1.33))))
        x = rng.randint(1, GRID_PX - width - 2)
        y = rng.randint(1, GRID_PX - height - 2)
        box = (x, y, x + width, y + height)
        margin = np.array([[x - 2.0, y - 2.0, x + width + 2.0, y + height + 2.0]])
        if cell_of(box) not in placed and not iou(margin, taken).any():
            return box
    return None


def cell_of(box: Box) -> int:
    """Index of the 4 x 4 grid cell that holds the box's centre, in raster order."""
    column, row = (box[0] + box[2]) // 2 // CELL_PX, (box[1] + box[3]) // 2 // CELL_PX
    return row * (GRID_PX // CELL_PX) + column


def to_object(shape: Shape, world: World, label: str | None = None) -> Object:
    """The shape in the image's pixels, under its own label or another."""
    x1, y1, x2, y2 = (float(value * world.scale) for value in shape.box)
    return Object((x1, y1, x2, y2), label or shape.label)


def paint(world: World, rng: random.Random, layout: Placement) -> Image.Image:
    """The layout as an RGB image."""
    return (_paint_textured if world.textured else _paint_flat)(world, rng, layout)


def _paint_flat(world: World, rng: random.Random, layout: Placement) -> Image.Image:
    size = GRID_PX * world.scale
    image = Image.new("RGB", (size, size), layout.background)
    pen = ImageDraw.Draw(image)
    for shape in layout.shapes:
        _draw(pen, shape, world.scale, shape.fill)
    return _add_noise(image, rng, 12) if rng.random() < 0.6 else image


def _paint_textured(world: World, rng: random.Random, layout: Placement) -> Image.Image:
    size = GRID_PX * world.scale
    grey = rng.randint(60, 200)
    pixels = _weave(rng, size, _jitter(rng, (grey, grey, grey), 12))
    for shape in layout.shapes:
        mask = Image.new("1", (size, size))
        _draw(ImageDraw.Draw(mask), shape, world.scale, 1)
        inside = np.asarray(mask)
        pixels[inside] = _weave(rng, size, shape.fill)[inside]
    return _add_noise(Image.fromarray(pixels), rng, 30)


def _weave(rng: random.Random, size: int, colour: Colour) -> npt.NDArray[np.uint8]:
    """Stripes, checks or dots of a colour and a darker shade of it, "size size 3"."""
    y, x = np.mgrid[:size, :size] // rng.randint(3, 9)
    kinds = {"rows": y % 2, "columns": x % 2, "checks": (x + y) % 2, "dots": (x % 2) & (y % 2)}
    shades = np.array([colour, [0.7 * value for value in colour]], dtype=np.uint8)
    woven: npt.NDArray[np.uint8] = shades[rng.choice(list(kinds.values()))]
    return woven


def _draw(pen: ImageDraw.ImageDraw, shape: Shape, scale: int, fill: Colour | int) -> None:
    x1, y1, x2, y2 = (value * scale for value in shape.box)
    x2, y2 = x2 - 1, y2 - 1  # Pillow includes the far edge; boxes are half-open
    if shape.label.endswith("circle"):
        pen.ellipse((x1, y1, x2, y2), fill=fill)
    elif shape.label.endswith("square"):
        pen.rectangle((x1, y1, x2, y2), fill=fill)
    else:
        pen.polygon([((x1 + x2) / 2, y1), (x1, y2), (x2, y2)], fill=fill)


def _jitter(rng: random.Random, colour: Colour, reach: int) -> Colour:
    red, green, blue = (max(0, min(255, value + rng.randint(-reach, reach))) for value in colour)
    return red, green, blue


def _add_noise(image: Image.Image, rng: random.Random, reach: int) -> Image.Image:
    pixels = np.asarray(image).astype(np.int16)
    draws = np.random.default_rng(rng.getrandbits(32))
    noise = draws.integers(-reach, reach + 1, pixels.shape)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))
