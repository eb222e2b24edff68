"""Annotated images to samples: what every format of boxes in images shares.

A reader turns its files into pictures; what is asked of them is decided here, by one law: what
an image may hold beyond its targets (boxes that cannot be read, crowd regions, labels that nobody
looked for) is neither a target nor a proof of absence. Its label is not asked for.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from boxrl.data.formats.reading import Rejected
from boxrl.data.samples import object_row
from boxrl.data.subsets import Instance, Mode, asked_labels, build_subsets, keep
from boxrl.errors import DataError, UsageError, tally
from boxrl.types import Object, Sample, fold_label

N_OPTIONS = 4
"""Options of a region question: the region's own label and distractors."""

BACKGROUND = frozenset(
    {"background", "bg", "na", "none", "noobject", "void", "unlabeled", "unlabelled"}
)
"""Names, letters alone, of what is no object; left out where nothing is annotated with them."""

UNCOUNTED = frozenset(
    {"crowd", "iscrowd", "difficult", "isdifficult", "ignore", "ignored", "groupof", "isgroupof",
     "deleted"}
)  # fmt: skip
"""Flags, letters alone, of an object that nobody has to find; see `is_uncounted`."""

_SET = ("1", "1.0", "true", "yes")

IGNORED = frozenset({"ignore", "ignored", "ignoredregion", "ignoredregions", "dontcare"})
"""Names, letters alone, of regions in which nobody annotated anything."""


Shown = dict[Any, Counter[Any]]
"""The boxes that a record of an image shows, by label."""


@dataclass(slots=True)
class Picture:
    """An image with its usable annotations.

    Attributes:
        key: the sample's id: the image's id or the stem of its file, never its place in the source.
        image: its path from the images folder.
        size_wh: (width, height) in pixels.
        instances: in the source's order, crowd regions included.
        image_id: what the source calls it; stands in `meta`.
        hidden: labels of which the image holds, or may hold, objects that are not in `instances`.
        verified: where only some labels were looked for, those of which every object is annotated,
            if there is one; None where all were.
        unexhausted: labels of which the image may hold more objects than are annotated.
        row: the image's own record in the source.
        place: of that record, from 0.
        alike: by name, other names of the source that are the same label.
    """

    key: str
    image: str
    size_wh: tuple[int, int]
    instances: list[Instance]
    image_id: Any = None
    hidden: frozenset[str] = frozenset()
    verified: frozenset[str] | None = None
    unexhausted: frozenset[str] = frozenset()
    row: Any = None
    place: int = 0
    alike: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def present(self) -> set[str]:
        """Labels with a box; a crowd region alone makes none present."""
        return {item.object.label for item in self.instances if not item.object.iscrowd}

    @property
    def unknown(self) -> set[str]:
        """Labels for which no answer would be known to be right."""
        crowd = {item.object.label for item in self.instances if item.object.iscrowd}
        return (crowd - self.present) | self.hidden if crowd else set(self.hidden)

    def spelled_otherwise(self, names: Collection[str]) -> set[str]:
        """Other spellings of the names; nearly always none."""
        return set().union(*(self.alike[name] for name in names if name in self.alike))

    def absent(self, names: Iterable[str]) -> list[str]:
        """Those of the names that the image is known not to hold, in their order."""
        ruled_out = self.present | self.unknown
        ruled_out |= self.spelled_otherwise(ruled_out)
        if self.verified is not None:
            names = [name for name in names if name in self.verified]
        return [name for name in names if name not in ruled_out]


class Asking(NamedTuple):
    """What is asked of every picture.

    Attributes:
        subset: names in SUBSETS, applied in order.
        mode: which labels a detection sample asks for; see `subsets.asked_labels`.
        task: `detection`: one sample per image (`single_class`: per image and label);
            `region`: one sample per box, which asks what the box holds.
        negatives: so many labels that the image does not hold are drawn and asked for too.
        seed: of that draw, and of the options of region questions.
    """

    subset: Sequence[str] = ()
    mode: Mode = "positive"
    task: Literal["detection", "region"] = "detection"
    negatives: int = 0
    seed: int = 0


def ask(
    pictures: Iterable[Picture | Rejected],
    ids: Mapping[str, Any],
    asking: Asking,
    notes: list[str],
) -> Iterator[Sample | Rejected]:
    """The samples of the pictures, rejections in their place.

    Args:
        pictures: in the order of the source.
        ids: category ids by name, in the order in which names are asked for.
        asking: subset, mode and task.
        notes: what people should hear of is added here.

    Raises:
        UsageError: an unknown subset, negatives where none can be drawn, or region questions of
            one option.
    """
    if asking.negatives < 0 or (
        asking.negatives and (asking.mode == "all" or asking.task == "region")
    ):
        raise UsageError(
            f"--negatives {asking.negatives}; expected 0 or more, in detection; "
            "--mode all asks for every absent label already"
        )
    if asking.task == "region" and len(ids) < 2:
        raise UsageError(
            f"--task region: the only label is {next(iter(ids), '')!r}, and a question needs a "
            "second option; --task detection asks for boxes"
        )
    build_subsets(asking.subset)
    return _ask(pictures, ids, asking, notes)


def _ask(
    pictures: Iterable[Picture | Rejected],
    ids: Mapping[str, Any],
    asking: Asking,
    notes: list[str],
) -> Iterator[Sample | Rejected]:
    rng, optionless = random.Random(asking.seed), 0
    order = {name: place for place, name in enumerate(ids)}
    alike = _spellings(ids)
    for picture in pictures:
        if isinstance(picture, Rejected):
            yield picture
            continue
        if alike:
            _heed_spellings(picture, alike, asking.mode)
        if asking.task == "region":
            absent = picture.absent(ids)
            if absent:
                yield from _region_samples(picture, ids, absent, asking, rng)
            elif picture.present:
                optionless += 1
        else:
            absent = picture.absent(ids) if asking.negatives or asking.mode == "all" else []
            if asking.mode != "all" and absent:
                absent = rng.sample(absent, min(asking.negatives, len(absent)))
            yield from _detection_samples(picture, ids, order, asking, absent)
    if optionless:
        notes.append(
            f"{tally(optionless, 'image')} without a region question: no label is known to be "
            "absent, so that there would be one option"
        )


def _spellings(names: Iterable[str]) -> dict[str, frozenset[str]]:
    """By name, the others that differ from it in case and spacing alone, and so are one label."""
    by_fold: dict[str, set[str]] = defaultdict(set)
    for name in names:
        by_fold[fold_label(name)].add(name)
    groups = (group for group in by_fold.values() if len(group) > 1)
    return {name: frozenset(group - {name}) for group in groups for name in group}


def _heed_spellings(picture: Picture, alike: Mapping[str, frozenset[str]], mode: Mode) -> None:
    """Hide names that another spelling makes doubtful: of a hidden one, or where each stands alone.

    Args:
        picture: an image of a source some of whose names are one label.
        alike: those names.
        mode: what is asked of it.
    """
    picture.alike = alike
    doubtful = picture.spelled_otherwise(picture.unknown)
    if mode in ("one_box", "single_class"):
        doubtful |= picture.spelled_otherwise(picture.present) & picture.present
    picture.hidden |= doubtful


def _kept(picture: Picture, subset: Sequence[str]) -> list[Instance]:
    if not subset:
        return picture.instances
    width, height = picture.size_wh
    return keep(build_subsets(subset), picture.instances, width * height)


def _subset_meta(asking: Asking) -> dict[str, Any]:
    return {"subset": ",".join(asking.subset)} if asking.subset else {}


def _detection_samples(
    picture: Picture,
    ids: Mapping[str, Any],
    order: Mapping[str, int],
    asking: Asking,
    absent: Collection[str],
) -> Iterator[Sample]:
    """The samples of one image: none, one, or with `single_class` one per label."""
    kept = _kept(picture, asking.subset)
    if asking.subset and not kept:
        return
    meta = {"mode": asking.mode, **_subset_meta(asking)}
    hidden = picture.hidden
    if asking.mode == "one_box":  # which an image may break that has more than is annotated
        hidden |= picture.unexhausted
    for labels in asked_labels(asking.mode, kept, hidden, order, absent):
        key = picture.key + (f"/{labels[0]}" if asking.mode == "single_class" else "")
        regions = set(ids) if asking.mode == "all" else ()
        yield detection_sample(key, picture, labels, kept, ids, meta, regions)


def detection_sample(
    key: str,
    picture: Picture,
    labels: Sequence[str],
    kept: Sequence[Instance],
    ids: Mapping[str, Any],
    meta: Mapping[str, Any],
    regions: Collection[str] = (),
) -> Sample:
    """One detection sample: `labels` are asked for, the rest of the image goes to `meta`.

    Args:
        key: the sample's id.
        picture: the image.
        labels: names asked for, in prompt order.
        kept: the instances that count as targets where their label is asked for.
        ids: category ids by name; a label without one gets null.
        meta: what else is to be kept.
        regions: labels whose crowd regions stand among the objects although nobody asks for them.
    """
    wanted = frozenset(labels)
    targets = [
        item
        for item in kept
        if item.object.label in wanted or (item.object.iscrowd and item.object.label in regions)
    ]
    others = []
    if len(targets) < len(picture.instances):
        chosen = {id(item) for item in targets}
        others = [object_row(item.object) for item in picture.instances if id(item) not in chosen]
    return Sample(
        id=key,
        image=picture.image,
        width=picture.size_wh[0],
        height=picture.size_wh[1],
        task="detection",
        labels=tuple(labels),
        objects=tuple([item.object for item in targets]),
        meta={
            "image_id": picture.image_id,
            "category_ids": [ids.get(label) for label in labels],
            "annotation_ids": [item.annotation_id for item in targets],
            "areas": [item.area for item in targets],
            **meta,
            **({"others": others} if others else {}),
            **_limits(picture, wanted),
        },
    )


def _limits(picture: Picture, asked: Collection[str]) -> dict[str, list[str]]:
    """What is not known about the image, as `meta` tells it."""
    found = {}
    if unknown := picture.unknown:
        found["unverified"] = sorted(unknown)
    if picture.verified is not None:
        found["verified_absent"] = picture.absent(sorted(picture.verified))
    if unexhausted := picture.unexhausted.intersection(asked):
        found["unexhausted"] = sorted(unexhausted)
    return found


def _region_samples(
    picture: Picture,
    ids: Mapping[str, Any],
    absent: Sequence[str],
    asking: Asking,
    rng: random.Random,
) -> Iterator[Sample]:
    """One question per box: which of the options is in it?

    Distractors are drawn from the names that the image does not hold, so that an overlapping
    object never makes a second option right.
    """
    for item in _kept(picture, asking.subset):
        if item.object.iscrowd:
            continue
        label = item.object.label
        options = [label, *rng.sample(absent, min(N_OPTIONS - 1, len(absent)))]
        rng.shuffle(options)
        yield Sample(
            id=f"{picture.key}/{item.annotation_id}",
            image=picture.image,
            width=picture.size_wh[0],
            height=picture.size_wh[1],
            task="region",
            labels=tuple(options),
            objects=(item.object,),
            answer=label,
            meta={
                "image_id": picture.image_id,
                "category_ids": [ids.get(option) for option in options],
                "annotation_ids": [item.annotation_id],
                "areas": [item.area],
                **_subset_meta(asking),
            },
        )


def hide(picture: Picture, lost: Iterable[str | None], where: str) -> None:
    """Hide labels of which objects could not be read, or may lie in another image.

    Args:
        picture: gets them.
        lost: those labels; None for an object whose label is not known.
        where: start of the error message.

    Raises:
        DataError: a label is not known, so that any label may be incomplete.
    """
    labels = set(lost)
    if not labels:
        return
    if None in labels:
        raise DataError(
            f"{where}: holds an object whose label cannot be read, so no label can be asked for"
        )
    picture.hidden = picture.hidden.union(label for label in labels if label)


def shown_elsewhere(twins: Sequence[Shown]) -> list[set[Any]]:
    """For each of several records of one image, the labels of which others show more objects.

    Args:
        twins: the boxes that each record shows, by label.
    """
    lacking: list[set[Any]] = [set() for _ in twins]
    for label in {label for boxes in twins for label in boxes}:
        every = Counter[Any]()
        for boxes in twins:
            every |= boxes.get(label, Counter())
        for labels, boxes in zip(lacking, twins, strict=True):
            if boxes.get(label) != every:
                labels.add(label)
    return lacking


def ignore(picture: Picture, regions: Sequence[Instance]) -> Picture:
    """The picture with regions of no label as crowd regions of every label that it holds.

    Nothing else is known to be absent from it: any object may lie in such a region.
    """
    if not regions:
        return picture
    crowd = [
        Instance(Object(item.object.bbox, label, iscrowd=True), item.annotation_id, item.area)
        for item in regions
        for label in sorted(picture.present)
    ]
    picture.instances += crowd
    picture.verified = frozenset()
    return picture


def is_uncounted(flags: Mapping[str, Any]) -> bool:
    """Whether one of UNCOUNTED is set.

    Args:
        flags: what the source says about an object, by name; more may stand in `attributes`.
    """
    more = flags.get("attributes")
    return (isinstance(more, Mapping) and is_uncounted(more)) or any(
        bare_name(str(name)) in UNCOUNTED and str(value).strip().lower() in _SET
        for name, value in flags.items()
    )


def bare_name(name: str) -> str:
    """The letters of a name, for comparison with BACKGROUND and IGNORED."""
    return re.sub(r"[\W_]+", "", name).casefold()
