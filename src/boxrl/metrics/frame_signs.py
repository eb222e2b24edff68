"""Signs that boxes are written in another frame than they are read in. Hints, never numbers.

A frame is named by the family and never taken from data. Where it is the wrong one, a perfect
detector scores nothing, so that what points to another frame is said beside the numbers.

Source: frames that models were seen to answer in unasked (MoonshotAI/Kimi-VL 52 and 56,
ollama 11217, QwenLM/Qwen3-VL 773 and 947).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Literal, NamedTuple, get_args

import numpy as np

from boxrl.boxes import order_corners, overlaps, scale, xywh_to_xyxy
from boxrl.families import Family
from boxrl.families.frames import GRID
from boxrl.types import Boxes

MOST_LOOKED_AT = 200
"""Answers with boxes that are looked at; a frame shows in a few."""

LEAST_BOXES = 3
"""Fewer boxes show nothing."""

SOME_BOXES = 5
"""Fewer boxes must speak clearly: half of them or more."""

THIN_PX = 4
"""Boxes thinner than it, in pixels of the original image, look misplaced."""

Order = Literal["corners", "exchanged", "sized", "centred"]
"""What four numbers are: two corners, in the family's order of axes or the other; a corner, width
and height; the centre, width and height."""

Reading = tuple[str | int, Order]
"""What the whole image measures, or its pixel limit; what the four numbers are."""

_FRAMES = {
    "original": "pixels of the original image",
    "resized": "pixels of the image as the model sees it",
    "grid": "a grid over the image",
    "bins": "bins of the image",
    "shares": "shares of the image",
}
_AS_READ: Reading = ("as read", "corners")
_EXTENTS = ("as read", "shares", "grid", "original")
_READINGS: tuple[Reading, ...] = tuple(product(_EXTENTS, get_args(Order)))


class Written(NamedTuple):
    """The boxes of one answer and where they should be.

    Attributes:
        boxes: as written, in the family's frame and order of axes.
        size_wh: of the original image; None where unknown.
        input_size_wh: size that the model saw, where the frame depends on it.
        targets: Float "n 4", xyxy original pixels.
    """

    boxes: Sequence[Sequence[float]]
    size_wh: tuple[int, int] | None
    input_size_wh: tuple[int, int] | None
    targets: Boxes


class Signs(NamedTuple):
    """Shares of the boxes that were looked at, in [0, 1].

    Attributes:
        boxes: how many.
        unit: whose coordinates are all at most 1.
        beyond: that reach out of the frame by more than a twentieth of it.
        thin: that are under `THIN_PX` pixels wide or high in the original image.
        hits: that have IoU >= .5 with a target.
        other_hits: that would have, read in the frame where most would.
        other: that frame, in words; "" where none does clearly better.
    """

    boxes: int
    unit: float
    beyond: float
    thin: float
    hits: float
    other_hits: float
    other: str

    @property
    def astray(self) -> float:
        """The share of the boxes that points to another frame; 0 where too few do."""
        return max(
            self.unit if self.unit > 0.9 else 0.0,
            self.other_hits - self.hits if self.other else 0.0,
            self.beyond if self.beyond > 0.2 else 0.0,
            self.thin if self.thin > 0.5 and self.hits < 0.1 else 0.0,
        )


def find_signs(answers: Iterable[Written], family: Family) -> Signs | None:
    """What points to another frame; None where too few boxes are written.

    Args:
        answers: any number; the first `MOST_LOOKED_AT` with boxes are looked at.
        family: in whose frame they are read.
    """
    unit = beyond = thin = boxes = looked_at = 0
    hits = dict.fromkeys(_readings(family), 0)
    for answer in answers:
        if not len(answer.boxes):
            continue
        written = np.array(answer.boxes, dtype=np.float64)
        boxes += len(written)
        if family.frame != "shares":
            unit += int((np.abs(written) <= 1).all(axis=1).sum())
        if answer.size_wh is not None:
            extent = family.extent_wh(answer.size_wh, answer.input_size_wh)
            extent = extent if family.axes == "xyxy" else extent[::-1]
            beyond += int((written[:, 2:] > 1.05 * np.array(extent)).any(axis=1).sum())
            placed = family.from_frame(order_corners(written), answer.size_wh, answer.input_size_wh)
            thin += int((placed[:, 2:] - placed[:, :2] < THIN_PX).any(axis=1).sum())
            for reading in hits:
                hits[reading] += _hits(written, answer, reading, family)
        looked_at += 1
        if looked_at == MOST_LOOKED_AT:
            break
    if boxes < LEAST_BOXES:
        return None
    best = max(hits, key=lambda reading: hits[reading])
    other = _words(best, family) if _clearly(hits[best], hits[_AS_READ], boxes) else ""
    if boxes < SOME_BOXES:
        beyond = thin = 0
    return Signs(
        boxes,
        unit / boxes,
        beyond / boxes,
        thin / boxes,
        hits[_AS_READ] / boxes,
        hits[best] / boxes,
        other,
    )


def _clearly(others: int, hits: int, boxes: int) -> bool:
    """Whether another reading hits far more often, and not by chance."""
    if others > 2 * hits + SOME_BOXES - 1 and others >= boxes / 10:
        return True
    return others >= max(LEAST_BOXES, 2 * hits + 2, boxes / 2)


def describe_signs(signs: Signs | None, family: Family) -> list[str]:
    """The signs in words, one sentence each; none where nothing points to another frame.

    Args:
        signs: of the answers.
        family: in whose frame they are read.
    """
    if signs is None or not signs.astray:
        return []
    frame = f"family {family.name}'s frame ({_FRAMES[family.frame]})"
    found = []
    if signs.unit > 0.9:
        found.append(
            f"{signs.unit:.0%} of the boxes have no coordinate above 1: they look like shares of "
            f"the image, and are read in {frame}"
        )
    if signs.other:
        found.append(
            f"{signs.other_hits:.0%} of the boxes would lie on a target if they were read as "
            f"{signs.other}; in {frame}, {signs.hits:.0%} do"
        )
    if signs.beyond > 0.2:
        found.append(f"{signs.beyond:.0%} of the boxes reach beyond {frame}")
    if signs.thin > 0.5 and signs.hits < 0.1:
        found.append(
            f"{signs.thin:.0%} of the boxes are under {THIN_PX} pixels wide or high when they are "
            f"read in {frame}"
        )
    return [f"{text}; is this the right family, with the right pixel limits?" for text in found]


def _readings(family: Family) -> tuple[Reading, ...]:
    if family.frame != "resized":
        return _READINGS
    limits = (n for n in family.usual_limits() if family.min_pixels <= n < family.max_pixels)
    return _READINGS + tuple((limit, _AS_READ[1]) for limit in limits)


def _hits(written: Boxes, answer: Written, reading: Reading, family: Family) -> int:
    """How many boxes have IoU >= .5 with a target, read so."""
    assert answer.size_wh is not None
    what, order = reading
    if not len(answer.targets):
        return 0
    if (order == "exchanged") != (family.axes == "yxyx"):
        written = written[:, [1, 0, 3, 2]]
    if order == "sized":
        written = xywh_to_xyxy(written)
    if order == "centred":
        written = xywh_to_xyxy(np.hstack([written[:, :2] - written[:, 2:] / 2, written[:, 2:]]))
    if isinstance(what, int):
        extent = family.with_limits(max_pixels=what).input_size_wh(answer.size_wh)
    else:
        extent = {
            "shares": (1, 1),
            "grid": (GRID, GRID),
            "original": answer.size_wh,
            "as read": family.extent_wh(answer.size_wh, answer.input_size_wh),
        }[what]
    placed = scale(order_corners(written), extent, answer.size_wh)
    return len({pair[0] for pair in overlaps(placed, answer.targets, 0.5)})


def _words(reading: Reading, family: Family) -> str:
    what, order = reading
    if isinstance(what, int):
        return f"pixels of images of at most {what:,} pixels (--max-pixels {what})"
    frames = {
        "shares": "shares of the image from 0 to 1",
        "grid": f"a grid of 0 to {GRID}",
        "original": _FRAMES["original"],
        "as read": "now",
    }
    first = "x" if family.axes == "yxyx" else "y"
    words = {
        "corners": "",
        "exchanged": f" but with {first} first",
        "sized": " but as a corner, width and height",
        "centred": " but as the centre, width and height",
    }
    return frames[what] + words[order]
