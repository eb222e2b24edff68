"""One samples file as two, so that neither shows what the other asks for.

Images that show the same thing stay together: those of one path, of one content, of one group.
Sides are filled label by label, so that each holds its share of every label.

Source: iterative stratification of Sechidis et al. 2011, over groups instead of rows.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from boxrl.data.files import hash_file
from boxrl.data.samples import image_path
from boxrl.errors import UsageError
from boxrl.types import Sample, fold_label

ROBOFLOW = r"([^/]*)\.rf\.[0-9A-Za-z]+\.\w+$"
"""NAME_jpg.rf.HASH.jpg: Roboflow's augmented copies of one photo differ in the hash."""

NOTHING = ""
"""Stands for a label where an image holds no object, so that negatives are shared out too."""


class Split(NamedTuple):
    """Samples of either side, in their order.

    Attributes:
        training, validation: the samples.
        images: how many different images they show.
        groups: how many groups of images that had to stay together.
    """

    training: list[Sample]
    validation: list[Sample]
    images: int
    groups: int


def split(
    samples: Sequence[Sample],
    share: float,
    seed: int,
    *,
    group_by: str = ROBOFLOW,
    images: Path | None = None,
) -> Split:
    """Hold out a share of the images.

    Laws: no image and no group is on both sides; equal samples give equal sides, in whatever order
    they stand; a label that stands in many groups has about its share on either side.

    Args:
        samples: to split.
        share: of the images that go to validation; at least one group stays on either side.
        seed: of the draw.
        group_by: regular expression; images whose paths give the same match (its first group,
            where it has one) stay together, those without a match stand alone.
        images: their folder; images of equal content stay together too. None opens none.

    Raises:
        UsageError: the share is not between 0 and 1, the expression is none, or there are fewer
            than two groups.
        DataError: an image is missing.
    """
    labels = _labels_by_image(samples)
    groups = group_images(samples, group_by, images)
    if not 0 < share < 1 or len(groups) < 2:
        raise UsageError(
            f"cannot hold out a share of {share:g} of {len(labels)} images in {len(groups)} "
            "groups; expected a share between 0 and 1, of at least 2 groups"
        )
    groups = sorted(map(sorted, groups))
    random.Random(seed).shuffle(groups)
    held_out = set(_held_out(groups, labels, share))
    training = [sample for sample in samples if sample.image not in held_out]
    validation = [sample for sample in samples if sample.image in held_out]
    return Split(training, validation, len(labels), len(groups))


def group_images(
    samples: Iterable[Sample], group_by: str = ROBOFLOW, images: Path | None = None
) -> list[list[str]]:
    """The images in groups that belong together, in order of their first sample.

    Args:
        samples: whose images.
        group_by: see `split`.
        images: see `split`.

    Raises:
        UsageError: `group_by` is no regular expression.
        DataError: an image is missing.
    """
    paths = {sample.image: sample for sample in samples}
    leader = {path: path for path in paths}

    def led_by(path: str) -> str:
        while leader[path] != path:
            leader[path] = leader[leader[path]]
            path = leader[path]
        return path

    keys: dict[object, str] = {}
    contents = _contents(paths.values(), images) if images is not None else {}
    for path in paths:
        matched = group_key(path, group_by)
        for key in (("name", matched) if matched else None, contents.get(path)):
            if key is not None:
                leader[led_by(path)] = led_by(keys.setdefault(key, path))
    groups: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        groups[led_by(path)].append(path)
    return list(groups.values())


def group_key(path: str, group_by: str) -> str | None:
    """What images of one group have in common in their paths; None without a match.

    Args:
        path: of the image.
        group_by: see `split`.

    Raises:
        UsageError: `group_by` is no regular expression.
    """
    pattern = _compiled(group_by)
    found = pattern.search(path)
    return found.group(1 if pattern.groups else 0) if found else None


@lru_cache(maxsize=8)
def _compiled(group_by: str) -> re.Pattern[str]:
    try:
        return re.compile(group_by)
    except re.error as error:
        raise UsageError(f"--group-by {group_by!r}: no regular expression ({error})") from error


def _contents(samples: Iterable[Sample], images: Path) -> dict[str, object]:
    """What tells the content of an image, for those that may have a copy: of equal file size."""
    paths = {sample.image: image_path(images, sample) for sample in samples}
    sizes = {image: path.stat().st_size for image, path in paths.items()}
    common = Counter(sizes.values())
    return {
        image: ("content", hash_file(path))
        for image, path in paths.items()
        if common[sizes[image]] > 1
    }


def _labels_by_image(samples: Iterable[Sample]) -> dict[str, set[str]]:
    """The labels that each image shows; NOTHING for none."""
    found: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        found[sample.image].update([fold_label(item.label) for item in sample.targets])
    return {image: labels or {NOTHING} for image, labels in found.items()}


def _held_out(
    groups: Sequence[Sequence[str]], labels: Mapping[str, set[str]], share: float
) -> list[str]:
    """Images of the groups that go to validation.

    The rarest label comes first; each of its groups goes to the side that wants it most.
    """
    sides = _Sides(groups, labels, share)
    while sides.left:
        rarest = min(sides.left, key=lambda label: (sides.left[label], label))
        for index, count in enumerate(sides.counts):
            if rarest in count and index not in sides.side:
                sides.place(index, rarest)
        del sides.left[rarest]
    for index in range(len(groups)):
        if index not in sides.side:
            sides.place(index, None)
    chosen = {index for index, side in sides.side.items() if side}
    if not chosen or len(chosen) == len(groups):  # one side got nothing: it gets the smallest
        chosen ^= {min(range(len(groups)), key=lambda index: len(groups[index]))}
    return [image for index in chosen for image in groups[index]]


class _Sides:
    """Training (0) and validation (1), being filled.

    Attributes:
        counts: per group, how many images show each label.
        left: label -> how many of its images have no side yet.
        side: group -> its side.
    """

    def __init__(
        self, groups: Sequence[Sequence[str]], labels: Mapping[str, set[str]], share: float
    ) -> None:
        self.sizes = [len(group) for group in groups]
        self.counts = [Counter(label for image in g for label in labels[image]) for g in groups]
        totals: Counter[str] = Counter()
        for count in self.counts:
            totals.update(count)
        # A label too rare for its share to be an image says nothing about where its groups belong.
        self.left = {label: count for label, count in totals.items() if count * share >= 0.5}
        self.wanted = {
            label: [count * (1 - share), count * share] for label, count in self.left.items()
        }
        n_images = sum(self.sizes)
        self.room = [n_images * (1 - share), n_images * share]
        self.side: dict[int, int] = {}

    def place(self, index: int, label: str | None) -> None:
        """Put a group on the side that wants it most for the label, or has the most room."""
        wish = self.room if label is None else self.wanted[label]
        side = int(wish[1] > wish[0] - 1e-9)  # equal wishes: one in validation says more
        self.side[index] = side
        self.room[side] -= self.sizes[index]
        for name, count in self.counts[index].items():
            if name in self.wanted:
                self.wanted[name][side] -= count
            if name in self.left:
                self.left[name] -= count
