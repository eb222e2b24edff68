"""Subsets and modes of detection data: which boxes of an image count, and what is asked.

A subset looks at the boxes of one image, crowd regions aside, and keeps some or none of them; an
image without any is left out. A mode then says for which of the kept labels the prompt asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, get_args

import msgspec

from boxrl.errors import UsageError, did_you_mean
from boxrl.types import Object

MAX_BOXES = 10
"""Ten boxes are kept: the VLM-R1-OVD blog says "fewer than 10" and "filters out more than 10"."""

SMALL_SHARE = 0.005
"""A small box covers less than this share of its image."""

Mode = Literal["all", "positive", "one_box", "single_class"]
MODES: tuple[str, ...] = get_args(Mode)


class Instance(msgspec.Struct, frozen=True, gc=False):
    """An annotated object with what its source knows about it.

    Attributes:
        object: box in original pixels, label, crowd flag.
        annotation_id: the annotation's id in the source.
        area: its area there in square pixels; COCO's is that of the segmentation.
    """

    object: Object
    annotation_id: int
    area: float


Instances = list[Instance]
Subset = Callable[[Sequence[Instance], float], Instances]


def at_most_ten_per_label(instances: Sequence[Instance], image_area: float) -> Instances:
    """`pos_1`: without the labels that have more than ten boxes in this image."""
    counts = Counter(item.object.label for item in instances)
    return [item for item in instances if counts[item.object.label] <= MAX_BOXES]


def one_per_label(instances: Sequence[Instance], image_area: float) -> Instances:
    """`pos_2`: all boxes where every label has exactly one, else none."""
    counts = Counter(item.object.label for item in instances)
    return list(instances) if max(counts.values(), default=0) == 1 else []


def at_most_ten(instances: Sequence[Instance], image_area: float) -> Instances:
    """`pos_3`: all boxes where there are at most ten, else none."""
    return list(instances) if len(instances) <= MAX_BOXES else []


def small(instances: Sequence[Instance], image_area: float) -> Instances:
    """`small`: the labels all of whose boxes cover less than SMALL_SHARE of the image."""
    large = {
        item.object.label
        for item in instances
        if _box_area(item.object) >= SMALL_SHARE * image_area
    }
    return [item for item in instances if item.object.label not in large]


def single_box(instances: Sequence[Instance], image_area: float) -> Instances:
    """`single_box`: the box where the image has exactly one."""
    return list(instances) if len(instances) == 1 else []


SUBSETS: dict[str, Subset] = {
    "pos_1": at_most_ten_per_label,
    "pos_2": one_per_label,
    "pos_3": at_most_ten,
    "small": small,
    "single_box": single_box,
}
"""Subsets by name; a subset never sees crowd regions."""


def build_subsets(names: Sequence[str]) -> list[Subset]:
    """The subsets of those names, to be applied in that order.

    Raises:
        UsageError: an unknown name.
    """
    for name in names:
        if name not in SUBSETS:
            raise UsageError(
                f"unknown subset {name!r}; subsets: {', '.join(SUBSETS)}"
                f"{did_you_mean(SUBSETS, name)}"
            )
    return [SUBSETS[name] for name in names]


def keep(subsets: Sequence[Subset], instances: Sequence[Instance], image_area: float) -> Instances:
    """What the subsets leave of an image, each applied to what the one before left.

    Args:
        subsets: none keeps everything, crowd regions included; any leaves crowd regions out.
        instances: of one image.
        image_area: width x height in pixels.
    """
    if not subsets:
        return list(instances)
    kept = [item for item in instances if not item.object.iscrowd]
    for subset in subsets:
        kept = subset(kept, image_area)
    return kept


def asked_labels(
    mode: Mode,
    kept: Sequence[Instance],
    hidden: Collection[str],
    order: Mapping[str, int],
    absent: Collection[str] = (),
) -> list[list[str]]:
    """For which labels an image asks: one list per sample, each in order.

    Law: every label asked for has a box in `kept` or is among `absent`, and none is hidden: what
    a subset took out, what could not be read and what is only a crowd region is in the image, so
    neither finding nor missing it would be right.

    Args:
        mode: `all` and `positive` ask for the labels with a box, `one_box` for those with exactly
            one, `single_class` for those with a box, one sample each.
        kept: the image's instances that count; crowd regions make no label present.
        hidden: labels of which the image may hold objects that are not among its instances.
        order: every name of the data set, with its place among them.
        absent: names to ask for as well, although the image does not hold them; for `all` every
            one of which that is known.

    Returns:
        No list at all where there is nothing to ask.
    """
    found = [item.object.label for item in kept if not item.object.iscrowd]
    if mode == "one_box":
        found = [name for name, count in Counter(found).items() if count == 1]
    wanted = {*found, *absent}.difference(hidden)
    labels = sorted(wanted & order.keys(), key=order.__getitem__)
    if mode == "single_class":
        return [[label] for label in labels]
    return [labels] if labels else []


def _box_area(item: Object) -> float:
    x1, y1, x2, y2 = item.bbox
    return (x2 - x1) * (y2 - y1)
