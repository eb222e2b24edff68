"""Synthetic scenes: coloured shapes with exact boxes, for learning, tests and experiments.

`WORLDS` names kinds of scenes and of questions about them; everything in a scene follows from
one seed.

    world.py   what a world is, and the table of them
    shapes.py  places and pixels
    asking.py  what is asked of a scene
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from boxrl.data.mixing import counts_by_weight
from boxrl.data.samples import write_samples
from boxrl.data.synthetic.asking import ASK
from boxrl.data.synthetic.world import (
    CELL_PX,
    COLOURS,
    GRID_PX,
    LABELS,
    MAX_OBJECTS,
    SHAPES,
    WORLDS,
    World,
    Worlds,
    check_worlds,
)
from boxrl.progress import progress_bar
from boxrl.types import Object, Sample

__all__ = [
    "CELL_PX",
    "COLOURS",
    "GRID_PX",
    "LABELS",
    "MAX_OBJECTS",
    "SHAPES",
    "WORLDS",
    "Scene",
    "World",
    "Worlds",
    "ask_again",
    "check_worlds",
    "draw_files",
    "draw_scene",
    "mixed_scenes",
    "scenes",
]


class Scene(NamedTuple):
    """A drawn scene and the sample that asks about it."""

    image: Image.Image
    sample: Sample


def scenes(world: World, count: int, seed: int, split: str) -> Iterator[Scene]:
    """`count` scenes of a world; ids are `SPLIT-SEED-NUMBER`, as `split` and `seed` say.

    Law: equal arguments give equal pixels and samples; different splits never share a random
    stream, so a test scene is no training scene.
    """
    rng = random.Random(f"{split}/{seed}")
    before: list[Scene] = []
    for number in range(count):
        yield _next_scene(world, rng, f"{split}-{seed}-{number:05d}", before)


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
    before: dict[str, list[Scene]] = {name: [] for name in shares}
    for number, name in enumerate(order):
        world, sample_id = WORLDS[name], f"{split}-{seed}-{number:05d}"
        if p_absent is not None and world.p_absent:
            world = replace(world, p_absent=p_absent)
        scene = _next_scene(world, rng, sample_id, before[name])
        if len(shares) > 1:
            meta = {**scene.sample.meta, "source": name}
            scene = Scene(scene.image, replace(scene.sample, meta=meta))
        yield scene


def _next_scene(world: World, rng: random.Random, sample_id: str, before: list[Scene]) -> Scene:
    """The next of a world's scenes; `before` keeps those that ask of the last image."""
    if len(before) == world.questions:
        before.clear()
    scene = (
        ask_again(world, before, rng, sample_id) if before else draw_scene(world, rng, sample_id)
    )
    before.append(scene)
    return scene


def draw_scene(world: World, rng: random.Random, sample_id: str) -> Scene:
    """One scene: choose what to ask, place it among distractors, draw.

    Args:
        world: what is asked, and what stands beside it.
        rng: every draw is taken from it.
        sample_id: also the image's name, `ID.png`.
    """
    asked = ASK[world.ask](world, rng)
    width, height = asked.image.size
    others = [{"bbox": list(item.bbox), "label": item.label} for item in asked.others]
    sample = Sample(
        id=sample_id,
        image=f"{sample_id}.png",
        width=width,
        height=height,
        task=asked.task,
        labels=tuple(asked.labels),
        objects=tuple(asked.objects),
        question=asked.question,
        answer=asked.answer,
        meta={"others": others},
    )
    return Scene(asked.image, sample)


def ask_again(world: World, before: Sequence[Scene], rng: random.Random, sample_id: str) -> Scene:
    """The same image, asked for another label, there or not as `World.in_turn` says.

    What is not there shares a word with what was asked for last.

    Args:
        world: the scene's.
        before: the scenes that ask of the image, each for one label, the first for one that is
            there.
        rng: chooses among such labels.
        sample_id: of the new question.
    """
    scene = before[-1]
    others = [Object(tuple(o["bbox"]), o["label"]) for o in scene.sample.meta["others"]]
    shown = [*scene.sample.objects, *others]
    there = {item.label for item in shown}
    asked = {label for one in before for label in one.sample.labels}
    if len(before) % 2 if world.in_turn else there <= asked:
        words = set(scene.sample.labels[0].split())
        absent = [label for label in LABELS if label not in there | asked]
        label = rng.choice([label for label in absent if words & set(label.split())] or absent)
    else:
        label = rng.choice(sorted(there - asked or there))
    sample = replace(
        scene.sample,
        id=sample_id,
        labels=(label,),
        objects=tuple(item for item in shown if item.label == label),
        meta={
            "others": [
                {"bbox": list(item.bbox), "label": item.label}
                for item in shown
                if item.label != label
            ]
        },
    )
    return Scene(scene.image, sample)


def draw_files(
    worlds: Worlds, count: int, seed: int, split: str, folder: Path, p_absent: float | None = None
) -> Path:
    """Draw scenes to FOLDER/SPLIT.jsonl and FOLDER/images; arguments as `mixed_scenes`.

    Different worlds of one split and seed have the same ids: give each a folder or a split of
    its own.

    Returns:
        The samples file, which is written last.
    """
    images = folder / "images"
    samples: list[Sample] = []
    # Compressing an image takes as long as drawing one, and leaves the interpreter free meanwhile.
    with progress_bar(f"draw {split} scenes", count) as bar, ThreadPoolExecutor(1) as beside:
        written = beside.submit(images.mkdir, parents=True, exist_ok=True)
        for scene in mixed_scenes(worlds, count, seed, split, p_absent):
            written.result()
            written = beside.submit(_save, scene.image, images / scene.sample.image)
            samples.append(scene.sample)
            bar.advance()
        written.result()
    write_samples(folder / f"{split}.jsonl", samples)
    return folder / f"{split}.jsonl"


def _save(image: Image.Image, path: Path) -> None:
    """As small a file as by default, in half the time: pixels are noisy."""
    image.save(path, compress_level=1, compress_type=zlib.Z_RLE)
