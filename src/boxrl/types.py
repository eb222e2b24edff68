"""The words of the domain: samples, detections, completions.

Boxes in memory are xyxy, float, absolute pixels of the ORIGINAL image, half-open (no +1).
Any other frame shows in the name; sizes are `size_wh`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from unicodedata import normalize

import msgspec
import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float64]
"""Float[np.ndarray, "n 4"]: x1, y1, x2, y2."""

Task = Literal["detection", "grounding", "region", "counting"]
Status = Literal["ok", "empty", "partial", "malformed", "missing"]
UNREADABLE: tuple[Status, ...] = ("malformed", "missing")
"""Statuses of answers that say nothing."""

TEMPERATURES = (0.01, 100.0)
"""At which completions can be drawn: below, logits overflow and vLLM takes 0.01 instead; above,
every token is as likely."""

SEEDS = 2**32
"""Seeds are below it: numpy's, which transformers sets, have 32 bits."""


class Object(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One annotated object: `bbox` is (x1, y1, x2, y2) in original pixels.

    Made in a tenth of a dataclass's time, and written as samples files hold it.
    """

    bbox: tuple[float, float, float, float]
    label: str
    iscrowd: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with one question about it; a line of a samples file.

    Attributes:
        id: unique within the file.
        image: path relative to the images folder.
        width, height: pixels of the original image.
        task: what is asked for.
        labels: the names asked for, in prompt order.
        objects: the targets; none at all makes the sample a negative (gold answer `None`).
        question, answer: for region and counting samples, and for grounding expressions; the
            question of a detection sample is what stands before the problem, such as instructions.
        meta: `others` (annotated objects that were not asked for) and ids of the source.
    """

    id: str
    image: str
    width: int
    height: int
    task: Task
    labels: tuple[str, ...]
    objects: tuple[Object, ...] = ()
    question: str | None = None
    answer: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size_wh(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.width, self.height

    @property
    def targets(self) -> tuple[Object, ...]:
        """The objects that an answer should hold: those that are no crowd regions."""
        return tuple([item for item in self.objects if not item.iscrowd])

    @property
    def ignored(self) -> tuple[Object, ...]:
        """Regions in which a box of their label is neither right nor wrong.

        Crowd regions, those in `meta.others` too, and for labels that the source annotated in
        part alone (`meta.unexhausted`) the whole image.
        """
        regions = [item for item in self.objects if item.iscrowd]
        for other in self.meta.get("others", ()):
            if other.get("iscrowd"):
                regions.append(Object(tuple(other["bbox"]), other["label"], iscrowd=True))
        for label in self.meta.get("unexhausted", ()):
            whole = (0.0, 0.0, float(self.width), float(self.height))
            regions.append(Object(whole, label, iscrowd=True))
        return tuple(regions)

    @property
    def is_negative(self) -> bool:
        """Whether boxes are asked for and the image is known to hold none of them."""
        if self.task in ("region", "counting") or self.targets:
            return False
        doubtful = {fold_label(item.label) for item in self.ignored}
        return not doubtful.intersection(map(fold_label, self.labels))


@dataclass(frozen=True, slots=True)
class Asked:
    """What a completion was asked for, as far as reading it goes.

    Attributes:
        labels: the names asked for.
        task: as in `Sample`.
    """

    labels: tuple[str, ...]
    task: Task = "detection"

    @classmethod
    def from_sample(cls, sample: Sample) -> Asked:
        """What the sample asks for."""
        return cls(sample.labels, sample.task)

    @property
    def sole_label(self) -> str | None:
        """The label of a box that names none; None where several were asked for."""
        return self.labels[0] if len(self.labels) == 1 or self.grounds else None

    @property
    def grounds(self) -> bool:
        """Whether one thing was described and its place asked for."""
        return self.task == "grounding" and bool(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Boxes with their labels, in emission order.

    Rewards of one answer share them, and those of one sample its target: nobody may write into
    them.

    Attributes:
        boxes: Float "n 4", xyxy original pixels; a read-only view where an array is given.
        labels: n strings.
    """

    boxes: Boxes
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        labels: Any = self.labels
        if type(labels) is not tuple:
            if isinstance(labels, str):
                raise ValueError(f"labels must be a text per box, got one text {labels!r:.40}")
            object.__setattr__(self, "labels", tuple(labels))
        boxes = np.asarray(self.boxes, dtype=np.float64).view()
        if boxes.shape != (len(self.labels), 4):
            raise ValueError(
                f"boxes must have shape ({len(self.labels)}, 4) for {len(self.labels)} labels, "
                f"got {boxes.shape}"
            )
        boxes.setflags(write=False)
        object.__setattr__(self, "boxes", boxes)

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def from_objects(cls, objects: Sequence[Object]) -> Detections:
        """The objects' boxes and labels, in their order."""
        if not objects:
            return NOTHING
        boxes = np.array([o.bbox for o in objects], dtype=np.float64).reshape(-1, 4)
        return cls(boxes, tuple(o.label for o in objects))

    def by_label(self) -> Detections:
        """Those of a label in a row, labels in the order in which they come first."""
        ranks = {label: rank for rank, label in enumerate(dict.fromkeys(self.labels))}
        order = sorted(range(len(self)), key=lambda place: ranks[self.labels[place]])
        return Detections(self.boxes[order], tuple(self.labels[place] for place in order))


NOTHING = Detections(np.zeros((0, 4)), ())
"""No detections at all."""


class Parsed(NamedTuple):
    """What a completion says, read without ever raising.

    Attributes:
        detections: usable boxes, original pixels, clipped to the image where its size is known.
        status: `ok`; `empty` (says that there are none); `partial` (some items unusable, or cut
            JSON repaired); `malformed` (an answer that cannot be read); `missing` (no answer).
        answer: the text that was read as the answer.
        dropped: items that could not be used, zero-area boxes included.
        flipped: boxes whose corners had to be reordered.
        written: boxes as written of every well-formed item, zero-area ones included.
        names: their labels as written.
        kept: indices of the items that became detections, in order; None where all did.
        tagged: whether the answer stood in `<answer>` tags.
        reason: why nothing could be read; "" where the answer is readable.
        void: boxes that ended without area, such as those outside of the image; dropped, too.
    """

    detections: Detections
    status: Status
    answer: str = ""
    dropped: int = 0
    flipped: int = 0
    written: Sequence[tuple[float, ...]] = ()
    names: Sequence[str] = ()
    kept: tuple[int, ...] | None = None
    tagged: bool = False
    reason: str = ""
    void: Detections = NOTHING

    @property
    def items(self) -> list[tuple[tuple[float, ...], str]]:
        """(box as written, folded label) of every well-formed item."""
        return list(zip(self.written, map(fold_label, self.names), strict=True))

    def with_void(self) -> Parsed:
        """The same answer, its void boxes among the detections, in order of emission.

        Whoever judges an answer goes by this: they were stated, find nothing and so are wrong.
        """
        if self.kept is None or not len(self.void):
            return self
        kept = set(self.kept)
        rest = [place for place in range(len(self.written)) if place not in kept]
        order = np.argsort([*self.kept, *rest])
        labels = (*self.detections.labels, *self.void.labels)
        boxes = np.concatenate([self.detections.boxes, self.void.boxes])[order]
        whole = Detections(boxes, tuple(labels[place] for place in order.tolist()))
        return self._replace(detections=whole, kept=None, void=NOTHING)

    def choose(self, places: Sequence[int]) -> Parsed:
        """The same answer with some of its detections alone, by their places."""
        chosen = self.detections
        kept = range(len(chosen)) if self.kept is None else self.kept
        return self._replace(
            detections=Detections(
                chosen.boxes[list(places)], tuple(chosen.labels[place] for place in places)
            ),
            kept=tuple(kept[place] for place in places),
        )

    @property
    def readable(self) -> bool:
        """Whether the answer said something: `ok`, `empty` or `partial`."""
        return self.status not in UNREADABLE


class Completion:
    """One completion as rewards see it: raw text, its parse, its length.

    Attributes:
        text: everything the model wrote after the prompt; where the prompt had opened the thought
            already, with that `<think>` in front.
        n_tokens: completion tokens counted by whoever generated them; None where unknown.
        progress: share of the training steps that were done, in [0, 1]; None outside training.
        box_verify: p(yes) of each usable box, by a model that looked a second time; None where
            none did.
    """

    __slots__ = ("_parsed", "box_verify", "n_tokens", "progress", "text")

    def __init__(
        self,
        text: str,
        parsed: Parsed | Callable[[], Parsed],
        n_tokens: int | None = None,
        progress: float | None = None,
        box_verify: Sequence[float] | None = None,
    ) -> None:
        """Keep `text` beside its parse, or beside what reads it once it is asked for."""
        self.text = text
        self._parsed = parsed
        self.n_tokens = n_tokens
        self.progress = progress
        self.box_verify = box_verify

    @property
    def parsed(self) -> Parsed:
        """The parse of `text` with its void boxes, made at most once; form alone never makes it."""
        parsed = self._parsed if isinstance(self._parsed, Parsed) else self._parsed()
        self._parsed = parsed.with_void()
        return self._parsed


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What is right.

    Attributes:
        detections: the objects that an answer should hold, without crowd regions.
        answer: of questions whose answer is not boxes.
        ignored: regions in which a box of their label is neither right nor wrong.
    """

    detections: Detections
    answer: str | None = None
    ignored: Detections = NOTHING

    @classmethod
    def from_sample(cls, sample: Sample) -> Target:
        """The sample's targets, and what it ignores."""
        asks = sample.task in ("region", "counting")
        targets, ignored = map(Detections.from_objects, (sample.targets, sample.ignored))
        return cls(targets, sample.answer if asks else None, ignored)

    @classmethod
    def from_objects(cls, objects: Sequence[Object]) -> Target:
        """Objects as a sample has them; crowd regions are ignored."""
        sides = ([item for item in objects if item.iscrowd is crowd] for crowd in (False, True))
        targets, ignored = map(Detections.from_objects, sides)
        return cls(targets, ignored=ignored)


@lru_cache(maxsize=8192)
def fold_label(label: str) -> str:
    """A label as labels are compared: Unicode casefold, whitespace runs folded to one space.

    The same letters in another encoding of Unicode, an accent as a character of its own, are the
    same letters.
    """
    return " ".join(normalize("NFC", label).casefold().split())


def each_once(labels: Iterable[str]) -> tuple[str, ...]:
    """Labels that count as different, as the first of those that count as one spells it."""
    found: dict[str, str] = {}
    for label in labels:
        found.setdefault(fold_label(label), label)
    return tuple(found.values())
