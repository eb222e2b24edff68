"""The boxes around what annotation tools draw that is no upright box.

Angles turn clockwise on the screen, where y grows downwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2."""


def hull(points: Iterable[tuple[float, float]]) -> Corners:
    """The box around points.

    Raises:
        ValueError: there is none, or one without finite coordinates.
    """
    xs, ys = zip(*points, strict=True)
    if not all(map(math.isfinite, (*xs, *ys))):  # which min and max may pass over
        raise ValueError("a point that is nowhere")
    return min(xs), min(ys), max(xs), max(ys)


def around_circle(centre: tuple[float, float], rim: tuple[float, float]) -> Corners:
    """The box around a circle, of which the centre and a point on the rim are given."""
    return around_ellipse(*centre, math.dist(centre, rim), math.dist(centre, rim))


def around_ellipse(
    x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0
) -> Corners:
    """The box around an ellipse that is turned about its centre.

    Args:
        x: centre.
        y: centre.
        radius_x: before it is turned.
        radius_y: before it is turned.
        degrees: clockwise.
    """
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    half_width = math.hypot(radius_x * cos, radius_y * sin)
    half_height = math.hypot(radius_x * sin, radius_y * cos)
    return x - half_width, y - half_height, x + half_width, y + half_height


def around_turned(corners: Corners, degrees: float, pivot: tuple[float, float]) -> Corners:
    """The box around an upright one that is turned about a point.

    Args:
        corners: x1, y1, x2, y2 before it is turned.
        degrees: clockwise.
        pivot: the point that stays where it is.
    """
    if not degrees:
        return corners
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x1, y1, x2, y2 = corners
    turned = []
    for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2)):
        right, down = x - pivot[0], y - pivot[1]
        turned.append((pivot[0] + right * cos - down * sin, pivot[1] + right * sin + down * cos))
    return hull(turned)


def middle(corners: Corners) -> tuple[float, float]:
    """The centre of a box."""
    x1, y1, x2, y2 = corners
    return (x1 + x2) / 2, (y1 + y2) / 2
