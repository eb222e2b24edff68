"""Several samples files as one: seeded, without copying images."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from boxrl.data.files import is_whole
from boxrl.errors import UsageError
from boxrl.types import Sample


class Source(NamedTuple):
    """A samples file to mix in.

    Attributes:
        name: goes before its samples' ids, as NAME/ID, and into `meta.source`.
        samples: all of them.
        folder: its images folder, relative to the images folder of the mixture; "" where equal.
    """

    name: str
    samples: Sequence[Sample]
    folder: str = ""


def relative_folder(images: Path, root: Path) -> str:
    """`images` as seen from `root`, with forward slashes; "" where they are the same.

    Raises:
        UsageError: it does not lie in `root`, where no image path could reach it.
    """
    inside, outside = images.resolve(), root.resolve()
    if not inside.is_relative_to(outside):
        raise UsageError(f"{images}: lies outside {root}; --root names a folder that holds it")
    relative = inside.relative_to(outside).as_posix()
    return "" if relative == "." else relative


def counts_by_weight(
    sizes: Sequence[int], weights: Sequence[float], total: int | None = None
) -> list[int]:
    """How many samples to take of each file.

    Args:
        sizes: samples in each file.
        weights: the shares wanted, in any unit.
        total: of the mixture; None takes the most that needs no sample twice.

    Returns:
        One count per file, none above its size. Law: counts add up to `total`, and differ from
        exact shares by less than 1.

    Raises:
        UsageError: a weight that is not positive, or a total that some file cannot give.
    """
    if len(weights) != len(sizes) or any(not 0 < weight <= 1e9 for weight in weights):
        raise UsageError(
            f"--weights {list(weights)}; expected {len(sizes)} positive numbers up to 1e9"
        )
    if total is not None and not is_whole(total):
        raise UsageError(f"--total {total!r:.40}; expected a whole number of samples, 0 or more")
    whole = sum(weights)
    if total is None:
        total = int(min(s * whole / w for s, w in zip(sizes, weights, strict=True)) + 1e-9)
    exact = [total * weight / whole for weight in weights]
    counts = [int(share) for share in exact]
    # Largest remainders get what rounding down left over.
    order = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for index in order[: total - sum(counts)]:
        counts[index] += 1
    return _affordable(counts, sizes)


def _affordable(counts: list[int], sizes: Sequence[int]) -> list[int]:
    for number, (count, size) in enumerate(zip(counts, sizes, strict=True), start=1):
        if not 0 <= count <= size:
            raise UsageError(f"file {number} holds {size} samples, {count} are asked for")
    return counts


def mix(sources: Sequence[Source], counts: Sequence[int], seed: int) -> list[Sample]:
    """Draw `counts[i]` samples of `sources[i]` without repetition, and shuffle them together.

    Law: equal arguments give equal mixtures; ids stay unique where they were unique in each file
    and the files' names differ.

    Raises:
        UsageError: a file cannot give as many, or two files have the same name.
    """
    _affordable(list(counts), [len(source.samples) for source in sources])
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise UsageError(f"files named {', '.join(names)}; names go into ids and must differ")
    rng = random.Random(seed)
    mixed = []
    for source, count in zip(sources, counts, strict=True):
        for sample in rng.sample(source.samples, count):
            mixed.append(_placed(sample, source))
    rng.shuffle(mixed)
    return mixed


def shared_images(sources: Sequence[Source]) -> list[str]:
    """Image paths of the mixture that lead to images of several files, in order.

    Raises:
        UsageError: two files declare different sizes for one path, so that it is two images.
    """
    seen: dict[str, tuple[str, Sample]] = {}
    shared: dict[str, None] = {}
    for source in sources:
        for sample in source.samples:
            image = _image(sample, source)
            first, other = seen.setdefault(image, (source.name, sample))
            if first == source.name:
                continue
            if other.size_wh != sample.size_wh:
                sizes = " and ".join(f"{s.width} x {s.height}" for s in (other, sample))
                raise UsageError(
                    f"{image!r} is an image of {sizes} px in {first} and {source.name}: one name "
                    "of two images; name the folder of each file with --images, and --root"
                )
            shared[image] = None
    return list(shared)


def _image(sample: Sample, source: Source) -> str:
    return f"{source.folder}/{sample.image}" if source.folder else sample.image


def _placed(sample: Sample, source: Source) -> Sample:
    meta = {**sample.meta, "source": source.name}
    key, image = f"{source.name}/{sample.id}", _image(sample, source)
    return replace(sample, id=key, image=image, meta=meta)
