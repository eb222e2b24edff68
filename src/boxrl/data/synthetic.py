"""Synthetic scenes: coloured shapes with exact boxes, for learning, tests and demos.

A scene holds up to six shapes whose centres lie in different cells of a 4 x 4 grid. Half of the
shapes that are not asked for share colour or shape with one that is, so a detector that does
not read the question is found out. Everything follows from one seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from boxrl.boxes import iou
from boxrl.data.mixing import counts_by_weight
from boxrl.data.samples import write_samples
from boxrl.errors import UsageError
from boxrl.progress import progress_bar
from boxrl.types import Object, Sample

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 210, 40),
}
SHAPES = ("circle", "square", "triangle")
LABELS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
BACKGROUNDS = ((235, 235, 235), (20, 20, 20), (128, 128, 128), (200, 190, 170))

GRID_PX = 112
"""Scenes are laid out on a grid of 112 x 112 px, which is what the tiny VLM sees."""

CELL_PX = 28
MAX_OBJECTS = 6


@dataclass(frozen=True, slots=True)
class World:
    """How scenes are drawn and asked about.

    Attributes:
        scale: pixels of the image per pixel of the layout grid; boxes stay exact in both.
        min_side, max_side: side of a shape in layout pixels.
        p_absent: share of samples none of whose labels is in the image.
        n_labels: relative weights of asking for 1, 2, 3, ... labels.
        distractors: fewest and most shapes that are not asked for.
        p_near: share of distractors that must have the colour or the shape of an asked label.
        copies: relative weights of drawing 1, 2, 3, ... shapes of an asked label.
        max_objects: shapes in a scene at most.
    """

    scale: int = 2
    min_side: int = 16
    max_side: int = 40
    p_absent: float = 0.2
    n_labels: tuple[float, ...] = (0.7, 0.25, 0.05)
    distractors: tuple[int, int] = (1, 3)
    p_near: float = 0.5
    copies: tuple[float, ...] = (0.65, 0.25, 0.1)
    max_objects: int = MAX_OBJECTS


WORLDS: dict[str, World] = {
    "standard": World(),
    "small": World(min_side=5, max_side=7),
    "large": World(min_side=40, max_side=56, copies=(1.0,), distractors=(1, 2)),
    "single_box": World(p_absent=0.0, n_labels=(1.0,), copies=(1.0,)),
    "near_miss": World(distractors=(2, 4), p_near=1.0),
    "crowded": World(
        min_side=10,
        max_side=18,
        copies=(0.0, 0.0, 0.4, 0.3, 0.2, 0.1),
        distractors=(4, 7),
        max_objects=12,
    ),
}
"""Every world by the name that a recipe's `data.synthetic.world` gives it."""

Worlds = str | Mapping[str, float]
"""The name of a world, or several with the share of scenes that each is to give."""


class Scene(NamedTuple):
    """A drawn scene and the sample that asks about it."""

    image: Image.Image
    sample: Sample


def scenes(world: World, count: int, seed: int, split: str) -> Iterator[Scene]:
    """`count` scenes of a world; ids are `SPLIT-SEED-NUMBER`.

    Law: equal arguments give equal pixels and samples; different splits never share a random
    stream, so a test scene is no training scene.
    """
    rng = random.Random(f"{split}/{seed}")
    for number in range(count):
        yield draw_scene(world, rng, f"{split}-{seed}-{number:05d}")


def check_worlds(worlds: Worlds) -> None:
    """Raise a UsageError where a name is unknown, a share is not positive, or none is named."""
    shares = {worlds: 1.0} if isinstance(worlds, str) else worlds
    unknown = [name for name in shares if name not in WORLDS]
    if unknown or not shares:
        got = f"unknown world {unknown[0]!r}" if unknown else "no world is named"
        raise UsageError(f"{got}; worlds: {', '.join(WORLDS)}")
    bad = [name for name, share in shares.items() if not 0 < share < float("inf")]
    if bad:
        raise UsageError(f"world {bad[0]!r}: share {shares[bad[0]]}; expected a positive number")


def mixed_scenes(
    worlds: Worlds, count: int, seed: int, split: str, p_absent: float | None = None
) -> Iterator[Scene]:
    """`count` scenes of one world or of several, shuffled together.

    Args:
        worlds: see `Worlds`; of several, each sample's `meta.source` names the one it is from.
        count: scenes in all. Law: each world gives its share of them, to within one scene.
        seed: of every draw.
        split: its random stream is shared with no other split's.
        p_absent: replaces that of the worlds that have negatives; None keeps theirs.

    Raises:
        UsageError: see `check_worlds`.
    """
    check_worlds(worlds)
    shares = {worlds: 1.0} if isinstance(worlds, str) else worlds
    counts = counts_by_weight([count] * len(shares), list(shares.values()), count)
    order = [name for name, n in zip(shares, counts, strict=True) for _ in range(n)]
    random.Random(f"{split}/{seed}/order").shuffle(order)
    rng = random.Random(f"{split}/{seed}")
    for number, name in enumerate(order):
        world = WORLDS[name]
        if p_absent is not None and world.p_absent:
            world = replace(world, p_absent=p_absent)
        scene = draw_scene(world, rng, f"{split}-{seed}-{number:05d}")
        if len(shares) > 1:
            meta = {**scene.sample.meta, "source": name}
            scene = Scene(scene.image, replace(scene.sample, meta=meta))
        yield scene


def draw_files(
    worlds: Worlds,
    count: int,
    seed: int,
    split: str,
    folder: Path,
    p_absent: float | None = None,
) -> Path:
    """Draw scenes to FOLDER/SPLIT.jsonl and FOLDER/images; arguments as `mixed_scenes`.

    Different worlds of one split and seed have the same ids: give each a folder or a split of
    its own.

    Returns:
        The samples file, which is written last.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    samples: list[Sample] = []
    with progress_bar(f"draw {split} scenes", count) as bar:
        for scene in mixed_scenes(worlds, count, seed, split, p_absent):
            scene.image.save(images / scene.sample.image)
            samples.append(scene.sample)
            bar.advance()
    write_samples(folder / f"{split}.jsonl", samples)
    return folder / f"{split}.jsonl"


def draw_scene(world: World, rng: random.Random, sample_id: str) -> Scene:
    """One scene: choose what to ask, place it among distractors, draw."""
    count = rng.choices(range(1, len(world.n_labels) + 1), world.n_labels)[0]
    asked = rng.sample(LABELS, count)
    wanted = _choose_shapes(world, rng, asked)
    rng.shuffle(wanted)
    image, objects = _draw(world, rng, wanted)
    rng.shuffle(asked)
    size = GRID_PX * world.scale
    sample = Sample(
        id=sample_id,
        image=f"{sample_id}.png",
        width=size,
        height=size,
        task="detection",
        labels=tuple(asked),
        objects=tuple(item for item in objects if item.label in asked),
        meta={
            "others": [
                {"bbox": list(item.bbox), "label": item.label}
                for item in objects
                if item.label not in asked
            ]
        },
    )
    return Scene(image, sample)


def _choose_shapes(world: World, rng: random.Random, asked: list[str]) -> list[str]:
    """Labels of the shapes to draw: asked ones, then distractors."""
    wanted: list[str] = []
    if rng.random() >= world.p_absent:
        # With several labels, some samples hold only the first: absent beside present.
        present = asked if len(asked) == 1 or rng.random() < 0.6 else asked[:1]
        for label in present:
            wanted += [label] * rng.choices(range(1, len(world.copies) + 1), world.copies)[0]
    low, high = world.distractors
    number = max(rng.randint(low, high), 0 if wanted else 1)
    others = [label for label in LABELS if label not in asked]
    for _ in range(number):
        colour, shape = rng.choice(asked).split()
        near = [label for label in others if colour in label or shape in label]
        wanted.append(rng.choice(near if rng.random() < world.p_near else others))
    return wanted[: world.max_objects]


def _draw(world: World, rng: random.Random, labels: list[str]) -> tuple[Image.Image, list[Object]]:
    """Draw one shape per label where it fits; objects come back in raster order of their cells."""
    scale, size = world.scale, GRID_PX * world.scale
    image = Image.new("RGB", (size, size), _jitter(rng, rng.choice(BACKGROUNDS), 15))
    pen = ImageDraw.Draw(image)
    placed: dict[int, Object] = {}
    for label in labels:
        box = _free_box(world, rng, placed)
        if box is None:
            continue
        colour, shape = label.split()
        x1, y1, x2, y2 = (value * scale for value in box)
        # Pillow includes the far edge; boxes are half-open.
        _fill(pen, shape, (x1, y1, x2 - 1, y2 - 1), _jitter(rng, COLOURS[colour], 20))
        placed[_cell(box)] = Object((float(x1), float(y1), float(x2), float(y2)), label)
    if rng.random() < 0.6:
        image = _add_noise(image, rng)
    return image, [placed[cell] for cell in sorted(placed)]


def _free_box(
    world: World, rng: random.Random, placed: dict[int, Object]
) -> tuple[int, int, int, int] | None:
    """A box in layout pixels that touches no placed object, in a cell of its own."""
    taken = np.array([item.bbox for item in placed.values()]).reshape(-1, 4) / world.scale
    for _ in range(12):
        width = rng.randint(world.min_side, world.max_side)
        tall = int(width * rng.uniform(0.75, 1.33))
        height = max(world.min_side, min(world.max_side, tall))
        x = rng.randint(1, GRID_PX - width - 2)
        y = rng.randint(1, GRID_PX - height - 2)
        box = (x, y, x + width, y + height)
        margin = np.array([[x - 2.0, y - 2.0, x + width + 2.0, y + height + 2.0]])
        if _cell(box) not in placed and not iou(margin, taken).any():
            return box
    return None


def _cell(box: tuple[int, int, int, int]) -> int:
    """Index of the 4 x 4 grid cell that holds the box's centre, in raster order."""
    column, row = (box[0] + box[2]) // 2 // CELL_PX, (box[1] + box[3]) // 2 // CELL_PX
    return row * (GRID_PX // CELL_PX) + column


def _fill(
    pen: ImageDraw.ImageDraw,
    shape: str,
    box: tuple[int, int, int, int],
    colour: tuple[int, int, int],
) -> None:
    x1, y1, x2, y2 = box
    if shape == "circle":
        pen.ellipse(box, fill=colour)
    elif shape == "square":
        pen.rectangle(box, fill=colour)
    else:
        pen.polygon([((x1 + x2) / 2, y1), (x1, y2), (x2, y2)], fill=colour)


def _jitter(rng: random.Random, colour: tuple[int, int, int], reach: int) -> tuple[int, int, int]:
    red, green, blue = (max(0, min(255, value + rng.randint(-reach, reach))) for value in colour)
    return red, green, blue


def _add_noise(image: Image.Image, rng: random.Random) -> Image.Image:
    pixels = np.asarray(image).astype(np.int16)
    noise = np.random.default_rng(rng.getrandbits(32)).integers(-12, 13, pixels.shape)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))
