"""Plots as small as a table's cell: a split bar, an interval, two values, a curve of one label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from boxrl.errors import tally
from boxrl.report.plots import WIDTH, svg, tag

Points = Sequence[tuple[float, float]]
"""(recall, precision) by rising recall; a single one is a point and not a curve."""

Ends = tuple[float, float]
"""From where to where."""

ACROSS = 96
"""Width of an interval's picture."""

SIDE, EDGE, TOP = 116, 26, 6
"""Side of the square of a precision-recall plot, room for its axes, and above it."""


def shares(parts: Sequence[tuple[str, int, str]], title: str) -> Markup:
    """One horizontal bar split by count; (name, count, class) each, at least one count > 0."""
    total = sum(count for _, count, _ in parts)
    out, left = [], 0.0
    for name, count, style in parts:
        if count:
            width = WIDTH * count / total
            tip = tag("title", f"{name}: {count} ({count / total:.1%})")
            out.append(
                tag("rect", tip, x=left, y=0, width=max(width - 1, 0.5), height=18, class_=style)
            )
            left += width
    words = ", ".join(f"{name} {count / total:.0%}" for name, count, _ in parts if count)
    return svg(out, WIDTH, 18, "shares", f"{title}: {words}", preserveAspectRatio="none")


def draw_interval(value: float, ends: Ends | None, axis: Ends, mark: float | None) -> Markup:
    """A value with its interval over an axis; what lies beyond stands at the axis' end.

    Args:
        value: drawn as a dot.
        ends: of the interval; None draws none.
        axis: from where to where.
        mark: what the value is held against, a line across; None draws none.
    """
    parts = []
    if mark is not None:
        x = _on_axis(mark, axis)
        parts.append(tag("line", x1=x, x2=x, y1=1, y2=19, class_="mark"))
    if ends is not None:
        x1, x2 = (_on_axis(end, axis) for end in ends)
        parts.append(tag("line", x1=x1, x2=x2, y1=10, y2=10, class_="whisker"))
    parts.append(tag("circle", cx=_on_axis(value, axis), cy=10, r=3.2, class_="dot"))
    return svg(parts, ACROSS, 20, "interval")


def draw_axis(low: float, high: float) -> Markup:
    """The axis of `draw_interval` with its ends and its middle, for the head of their column."""
    sign = "+" if low < 0 else ""
    parts = [tag("line", x1=_on_axis(low, (low, high)), x2=_on_axis(high, (low, high)), y1=19,
                 y2=19, class_="grid")]  # fmt: skip
    for value, anchor in ((low, "start"), ((low + high) / 2, "middle"), (high, "end")):
        x = _on_axis(value, (low, high))
        words = f"{value:{sign}g}".replace("-", "\u2212") if value else "0"
        parts.append(tag("line", x1=x, x2=x, y1=15, y2=19, class_="grid"))
        parts.append(tag("text", words, x=x, y=11, text_anchor=anchor))
    return svg(parts, ACROSS, 20, "interval")


def _on_axis(value: float, axis: Ends) -> float:
    low, high = axis
    share = (value - low) / (high - low)
    return 4 + (ACROSS - 8) * min(1.0, max(0.0, share))


def dumbbell(before: float | None, after: float | None) -> Markup:
    """Two values on an axis from 0 to 1: before hollow, after filled; either may be missing."""

    def place(value: float) -> float:
        return 6 + 108 * value

    parts = [tag("line", x1=6, x2=114, y1=9, y2=9, class_="grid")]
    if before is not None and after is not None:
        parts.append(tag("line", x1=place(before), x2=place(after), y1=9, y2=9, class_="way"))
    if before is not None:
        parts.append(tag("circle", cx=place(before), cy=9, r=4, class_="hollow"))
    if after is not None:
        parts.append(tag("circle", cx=place(after), cy=9, r=4.5, class_="dot"))
    return svg(parts, 120, 18, "dumbbell")


def precision_recall(label: str, before: Points, after: Points) -> Markup:
    """Precision over recall, both from 0 to 1: before pale or hollow, after full."""
    parts = _plane("recall", "precision")
    if len(before) == len(after) == 1:
        (x1, y1), (x2, y2) = _on_square(before[0]), _on_square(after[0])
        parts.append(tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_="way"))
    parts += [_drawn(points, style) for points, style in ((before, "old"), (after, "new"))]
    words = f"Precision over recall of {label}. {_in_words(after)}"
    return svg(parts, EDGE + SIDE + 6, TOP + SIDE + 16, "pr", words)


def reliability_plot(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Precision over confidence, a circle per bin, as large as it has boxes; right on the diagonal.

    Args:
        bins: of `metrics.calibration.reliability`.
    """
    parts = _plane("confidence", "precision")
    (x1, y1), (x2, y2) = _on_square((0.0, 0.0)), _on_square((1.0, 1.0))
    parts.append(tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_="way"))
    filled = [row for row in bins if row["n"]]
    most = max((row["n"] for row in filled), default=1)
    for row in filled:
        x, y = _on_square((row["confidence"], row["precision"]))
        boxes = tally(row["n"], "box", "boxes")
        words = f"{boxes}: confidence {row['confidence']:.2f}, {row['precision']:.2f} right"
        title = tag("title", words)
        radius = 2.5 + 5 * (row["n"] / most) ** 0.5
        parts.append(tag("circle", title, cx=x, cy=y, r=f"{radius:.1f}", class_="bin"))
    words = f"Precision over confidence of {sum(row['n'] for row in filled)} boxes."
    return svg(parts, EDGE + SIDE + 6, TOP + SIDE + 16, "pr", words)


def _plane(across: str, upward: str) -> list[Markup]:
    """A square from 0 to 1 either way, with the names of its axes."""
    low, high, middle = EDGE, EDGE + SIDE, EDGE + SIDE / 2
    bottom = TOP + SIDE
    parts = [tag("rect", x=low, y=TOP, width=SIDE, height=SIDE, class_="plane")]
    parts.append(tag("line", x1=middle, x2=middle, y1=TOP, y2=bottom, class_="grid"))
    parts.append(tag("line", x1=low, x2=high, y1=TOP + SIDE / 2, y2=TOP + SIDE / 2, class_="grid"))
    for value, x, y in (("1", low - 5, TOP + 8), ("0", low - 5, bottom), ("1", high, bottom + 12)):
        parts.append(tag("text", value, x=x, y=y, text_anchor="end"))
    parts.append(tag("text", across, x=middle, y=bottom + 12, text_anchor="middle"))
    turned = f"rotate(-90 {low - 8} {TOP + SIDE / 2})"
    place = {"x": low - 8, "y": TOP + SIDE / 2, "text_anchor": "middle", "transform": turned}
    parts.append(tag("text", upward, **place))
    return parts


def _drawn(points: Points, style: str) -> Markup:
    """A point, or COCO's curve as the stairs that it is; nothing where there is nothing."""
    if not points:
        return Markup("")
    x, y = _on_square(points[0])
    if len(points) == 1:
        return tag("circle", cx=x, cy=y, r=4.5, class_=style)
    steps = [f"M{x:.1f} {y:.1f}"]
    for (_, height), point in pairwise(points):
        if point[1] != height or point is points[-1]:
            x, y = _on_square(point)
            steps.append(f"H{x:.1f}V{y:.1f}")
    return tag("path", d="".join(steps), class_=style)


def _on_square(point: tuple[float, float]) -> tuple[float, float]:
    recall, precision = point
    return EDGE + SIDE * recall, TOP + SIDE * (1 - precision)


def _in_words(points: Points) -> str:
    if not points:
        return "No box."
    recall, precision = points[-1]
    return f"Precision {precision:.2f} at recall {recall:.2f}."
