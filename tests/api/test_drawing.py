"""Boxes drawn from whatever holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

import boxrl
from boxrl.errors import BoxrlError
from boxrl.types import Detections, Object

IMAGE = Image.new("RGB", (360, 180), "#808080")
BOX = (20.0, 20.0, 80.0, 80.0)


@pytest.mark.parametrize(
    "boxes",
    [
        Detections(np.array([BOX]), ("cat",)),
        (Object(BOX, "cat"),),
        [{"bbox": list(BOX), "label": "cat"}],
    ],
)
def test_boxes_stand_where_they_are(boxes: Any) -> None:
    drawn = boxrl.draw(IMAGE, boxes)
    assert drawn.size == (720, 360)
    assert drawn.getpixel((40, 100)) != (128, 128, 128)
    assert drawn.getpixel((100, 100)) == (128, 128, 128)


def test_targets_are_dashed() -> None:
    drawn = boxrl.draw(IMAGE, [], [{"bbox": list(BOX), "label": "cat"}])
    edge = {drawn.getpixel((x, 40)) for x in range(40, 160)}
    assert {(255, 255, 255), (0, 0, 0)} <= edge


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        ([{"bbox": [9, 9, 2, 2], "label": "a"}], "flipped corners"),
        ([{"bbox": [0, 0, 999, 9], "label": "a"}], "leaves the image of 360 x 180"),
        ([[1, 2, 3, 4]], "an object needs a bbox and a label"),
        ("boxes", "got str"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_box_is_told(boxes: Any, said: str) -> None:
    with pytest.raises(BoxrlError, match=said):
        boxrl.draw(IMAGE, boxes)
