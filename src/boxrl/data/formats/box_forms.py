"""Whether boxes are x, y, width, height or x1, y1, x2, y2, where a format does not say.

Law: a form is told by what contradicts the other one, an area or an edge of the image; where
nothing does, it is asked for, never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

from boxrl.data.files import is_box, is_number
from boxrl.errors import UsageError

BoxForm = Literal["xywh", "xyxy"]

SLACK_PX = 1.0
"""What a box may leave its image by; archives round."""


def tell_form(
    boxes: Iterable[tuple[Any, Any, tuple[int, int] | None]],
    where: str,
    told: BoxForm | None,
    documented: BoxForm | None = None,
) -> BoxForm:
    """The form of the boxes of a file.

    Args:
        boxes: (four numbers, area or None, size of the image or None) of each.
        where: the file, for the error message.
        told: what the user says; None to find out.
        documented: what the format's documentation says, which holds where nothing speaks for
            either; None where it says nothing.

    Raises:
        UsageError: nothing tells them apart, or the file contradicts itself.
    """
    if told is not None:
        return told
    against = {"xywh": 0, "xyxy": 0}
    count = 0
    for box, area, size_wh in boxes:
        if is_box(box):
            count += 1
            box = [*map(float, box)]  # whose products overflow to infinity, and raise nothing
            against["xywh"] += not _fits_sides(box, area, size_wh)
            against["xyxy"] += not _fits_corners(box, area)
    if against["xywh"] == against["xyxy"]:
        if not count or documented is not None:
            return documented or "xywh"
        raise UsageError(
            f"{where}: boxes could be x, y, width, height or x1, y1, x2, y2; "
            "say which with --boxes xywh or --boxes xyxy"
        )
    return "xywh" if against["xywh"] < against["xyxy"] else "xyxy"


def corners_of(box: Any, form: BoxForm) -> Any:
    """x1, y1, x2, y2 of a box in that form; what is no box comes back as it is."""
    if form == "xyxy" or not isinstance(box, list | tuple) or len(box) != 4:
        return box
    if not all(map(is_number, box)):
        return box
    x, y, width, height = box
    return x, y, x + width, y + height


def _fits_sides(box: Any, area: Any, size_wh: tuple[int, int] | None) -> bool:
    x, y, width, height = box
    if size_wh is not None and (
        x + width > size_wh[0] + SLACK_PX or y + height > size_wh[1] + SLACK_PX
    ):
        return False
    return _fits_area(area, width * height, (width - x) * (height - y))


def _fits_corners(box: Any, area: Any) -> bool:
    x1, y1, x2, y2 = box
    if x2 <= x1 or y2 <= y1:
        return False
    return _fits_area(area, (x2 - x1) * (y2 - y1), x2 * y2)


def _fits_area(area: Any, own: float, other: float) -> bool:
    """Whether an area is that of the box, or of an outline in it, and not just the other form's."""
    if not is_number(area):
        return True
    exact = math.isclose(area, own, rel_tol=1e-3)
    return exact or (area <= own * 1.01 + 1 and not math.isclose(area, other, rel_tol=1e-3))
