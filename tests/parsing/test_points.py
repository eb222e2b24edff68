"""Points of answers, with their names, in pixels of the image."""

from __future__ import annotations

import pytest

from boxrl.families import FAMILIES
from boxrl.parsing import read_points

REX = (
    "<|object_ref_start|>cat<|object_ref_end|><|box_start|><0><999>,<999><0><|box_end|>, "
    "<|object_ref_start|>dog<|object_ref_end|><|box_start|><10><20><30><40><|box_end|>"
)


@pytest.mark.parametrize(
    ("family", "text", "points"),
    [
        ("plain", '<answer>[{"point_2d": [5, 6.5], "label": "cat"}]</answer>', [(5, 6.5, "cat")]),
        ("plain", '{"point_2d": [5, 6]}', [(5, 6, "")]),
        ("qwen3-vl", '```json\n[{"point_2d": [500, 100], "label": "a"}]\n```', [(50, 5, "a")]),
        ("plain", '[{"point_2d": [1, 2, 3], "label": "a"}, {"point_2d": [true, 2]}]', []),
        ("plain", '{"points": [{"point": [900, 2], "label": "a"}]}', [(100, 2, "a")]),  # clipped
        ("plain", '[{"bbox_2d": [1, 2, 3, 4], "label": "a"}]', []),
        ("rex-omni", REX, [(0, 50, "cat"), (100, 0, "cat")]),
        ("plain", "None", []),
    ],
)
def test_points(family: str, text: str, points: list[tuple[float, float, str]]) -> None:
    found = read_points(text, FAMILIES[family], (100, 50))
    assert [tuple(point) for point in found] == points
