"""Charts as SVG text, made on the server: no script draws them and they print.

Colours are classes (`s0`, `s1`, ...) that the page's style sheet fills, so charts follow light
and dark. Every chart carries a sentence for screen readers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from boxrl.errors import tally
from boxrl.metrics.convergence import running_mean, smoothing_reach

WIDTH, HEIGHT = 380, 220
MAX_POINTS = 400
"""Points of one path; the chart is less than 400 pixels wide."""

TINY = 1e-300
"""Smaller numbers lose their digits."""

LEFT, RIGHT, TOP, BOTTOM = 62, 12, 12, 42


@dataclass(frozen=True, slots=True)
class Line:
    """One curve.

    Attributes:
        name: for the legend.
        points: (x, y) in order of x; a y of None interrupts the curve.
        smooth: also draw a running mean, the points themselves paler.
        colour: index of the style sheet's series colours.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    smooth: bool = True
    colour: int = 0


@dataclass(frozen=True, slots=True)
class PlotMark:
    """A labelled vertical line at x, in the colour of a series where it belongs to one."""

    x: float
    name: str
    colour: int | None = None


@dataclass(frozen=True, slots=True)
class Axis:
    """Linear axis: what it shows, from where to where."""

    title: str
    low: float
    high: float
    ticks: tuple[float, ...] = field(default=())

    def share(self, value: float) -> float:
        """Place of the value in [0, 1]."""
        return (value - self.low) / (self.high - self.low)


def tag(name: str, content: object = None, **attributes: object) -> Markup:
    """One SVG or HTML element, everything escaped; `class_` is class, `_` in names is `-`."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if content is None:
        return Markup(f"<{name}{written}/>")  # escaped above  # nosec B704
    return Markup(f"<{name}{written}>{escape(content)}</{name}>")  # escaped  # nosec B704


def svg(
    parts: Sequence[Markup],
    width: int,
    height: int,
    style: str,
    words: str | None = None,
    **attributes: str,
) -> Markup:
    """A drawing of its parts, in order from back to front.

    Args:
        parts: elements in the drawing's own units.
        width: its width in these units; the style sheet gives the size on the page.
        height: the same downwards.
        style: its class.
        words: what screen readers say; None hides it from them, for text beside it says the same.
        attributes: others of the element.
    """
    read: dict[str, str] = {"aria_hidden": "true"}
    if words is not None:
        read = {"role": "img", "aria_label": words}
    view = f"0 0 {width} {height}"
    content = Markup("").join(parts)
    return tag("svg", content, viewBox=view, class_=style, **read, **attributes)


def _number(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def nice_axis(title: str, low: float, high: float, count: int = 5) -> Axis:
    """The axis named `title`, with about `count` round ticks, that covers `low` to `high`.

    Law: the first tick is <= low, the last >= high, and there are at least two.
    """
    size = max(abs(low), abs(high))
    if high - low <= max(1e-9 * size, TINY):
        pad = 0.5 * size if size > TINY else 0.5
        low, high = low - pad, high + pad
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = 1 - math.floor(math.log10(step))
    ticks = tuple(round(n * step, digits) for n in range(first, last + 1))
    return Axis(title, ticks[0], ticks[-1], ticks)


def line_chart(
    lines: Sequence[Line], x_title: str, y_title: str, marks: Sequence[PlotMark] = ()
) -> Markup:
    """Curves over a common axis, which holds 0 where all values are positive.

    Args:
        lines: at least one finite point in all.
        x_title: what x counts.
        y_title: what y is, with its unit.
        marks: vertical lines, drawn behind the curves.
    """
    xs = [x for line in lines for x, y in line.points if y is not None]
    ys = [y for line in lines for _, y in line.points if y is not None]
    x_axis = _tight_axis(x_title, min(xs), max(xs))
    y_axis = nice_axis(y_title, min(0.0, *ys), max(ys))
    parts = [_frame(x_axis, y_axis)]
    parts += [_mark(mark, x_axis, row=row) for row, mark in enumerate(marks)]
    for line in lines:
        parts += _curve(line, x_axis, y_axis)
    words = "; ".join(_in_words(line) for line in lines)
    return svg(parts, WIDTH, HEIGHT, "chart", f"{y_title} over {x_title}. {words}")


def histogram(values: Sequence[int], title: str, cut: int, longest: int, bins: int = 24) -> Markup:
    """How often each value occurs; values from `cut` on share one bar at the right end.

    Args:
        values: at least one whole number >= 0.
        title: what the values count.
        cut: first value that is no longer told apart.
        longest: a value >= all of these; where it is alike, axes are alike.
        bins: about how many bars.
    """
    below = [value for value in values if value < cut]
    top = min(cut, longest + 1)
    width = max(1, math.ceil(top / bins))
    counts = [0] * math.ceil(top / width)
    for value in below:
        counts[value // width] += 1
    long = len(values) - len(below)
    slots = len(counts) + (2 if long else 0)
    x_axis = nice_axis(title, 0, slots * width)
    x_axis = Axis(title, 0, slots * width, tuple(t for t in x_axis.ticks if t <= top))
    y_axis = nice_axis("completions", 0, max([*counts, long]))
    parts = [_frame(x_axis, y_axis)]
    parts += [_bar(i * width, width, n, x_axis, y_axis, "s0") for i, n in enumerate(counts) if n]
    if long:
        parts.append(_mark(PlotMark(cut, f"{cut:,} and more: {long}"), x_axis, at_end=True))
        parts.append(_bar((slots - 1) * width, width, long, x_axis, y_axis, "s1"))
    words = f"{tally(len(below), 'completion')} under {cut:,}, {long} of {cut:,} and more"
    return svg(parts, WIDTH, HEIGHT, "chart", f"Histogram of {title}: {words}")


def _tight_axis(title: str, low: float, high: float) -> Axis:
    """Round ticks, but the axis ends where the data end."""
    if high <= low:
        low, high = low - 1, high + 1
    ticks = nice_axis(title, low, high).ticks
    return Axis(title, low, high, tuple(tick for tick in ticks if low <= tick <= high))


def _x(axis: Axis, value: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * axis.share(value)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * axis.share(value)


def _frame(x_axis: Axis, y_axis: Axis) -> Markup:
    """Grid, tick labels and titles."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for value in y_axis.ticks:
        y = _y(y_axis, value)
        parts.append(tag("line", x1=LEFT, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", _tick(value), x=LEFT - 8, y=y + 4, text_anchor="end"))
    for value in x_axis.ticks:
        x = _x(x_axis, value)
        parts.append(tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(tag("text", _tick(value), x=x, y=bottom + 17, text_anchor="middle"))
    parts.append(tag("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"))
    middle = (LEFT + right) / 2
    parts.append(
        tag("text", x_axis.title, x=middle, y=HEIGHT - 6, text_anchor="middle", class_="title")
    )
    turn = f"rotate(-90 12 {(TOP + bottom) / 2:.0f})"
    parts.append(
        tag(
            "text",
            y_axis.title,
            x=12,
            y=(TOP + bottom) / 2,
            text_anchor="middle",
            transform=turn,
            class_="title",
        )
    )
    return Markup("").join(parts)


def _tick(value: float) -> str:
    """A tick label as short as it is exact: 0.2, 1,500, 5e-6."""
    if value and not 1e-3 <= abs(value) < 1e6:
        digits, exponent = f"{value:.2e}".split("e")
        return f"{float(digits):g}e{int(exponent)}"
    return f"{value:,.10g}"


def _curve(line: Line, x_axis: Axis, y_axis: Axis) -> list[Markup]:
    points, style = line.points, f"s{line.colour}"
    if not line.smooth or len(points) < 8:
        return [_path(points, x_axis, y_axis, f"curve {style}")]
    known = [(x, y) for x, y in points if y is not None]
    means = running_mean([y for _, y in known], smoothing_reach(len(known)))
    smooth = [(x, float(mean)) for (x, _), mean in zip(known, means, strict=True)]
    return [
        _path(points, x_axis, y_axis, f"raw {style}"),
        _path(smooth, x_axis, y_axis, f"curve {style}"),
    ]


def thin(
    points: Sequence[tuple[float, float | None]], limit: int = MAX_POINTS
) -> Sequence[tuple[float, float | None]]:
    """At most about `limit` points: of every stretch its lowest and highest, in order of x."""
    if len(points) <= limit:
        return points
    size = math.ceil(2 * len(points) / limit)
    kept: list[tuple[float, float | None]] = []
    for start in range(0, len(points), size):
        known = [(x, y) for x, y in points[start : start + size] if y is not None]
        if known:
            ends = {min(known, key=lambda p: p[1]), max(known, key=lambda p: p[1])}
            kept += sorted(ends)
    return kept


def _path(
    points: Sequence[tuple[float, float | None]], x_axis: Axis, y_axis: Axis, style: str
) -> Markup:
    written, pen = [], "M"
    for x, y in thin(points):
        if y is None:
            pen = "M"
            continue
        written.append(f"{pen}{_x(x_axis, x):.1f} {_y(y_axis, y):.1f}")
        pen = "L"
    # A point without neighbours is still seen: a path of no length has round caps.
    return tag("path", d="".join(written) + ("h0" if len(written) == 1 else ""), class_=style)


def _mark(mark: PlotMark, x_axis: Axis, at_end: bool = False, row: int = 0) -> Markup:
    colour = "" if mark.colour is None else f" s{mark.colour}"
    x = _x(x_axis, mark.x)
    left = at_end or x_axis.share(mark.x) > 0.6
    anchor, shift = ("end", -5) if left else ("start", 5)
    return tag("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_=f"mark{colour}") + tag(
        "text",
        mark.name,
        x=x + shift,
        y=HEIGHT - BOTTOM - 6 - 13 * row,
        text_anchor=anchor,
        class_="markname",
    )


def _bar(start: float, width: float, count: int, x_axis: Axis, y_axis: Axis, style: str) -> Markup:
    x1, x2 = _x(x_axis, start), _x(x_axis, start + width)
    y = _y(y_axis, count)
    tip = tag("title", f"{start:,.0f} to {start + width - 1:,.0f}: {count}")
    return tag(
        "rect",
        tip,
        x=x1 + 0.5,
        y=y,
        width=max(x2 - x1 - 1, 0.5),
        height=HEIGHT - BOTTOM - y,
        class_=f"bar {style}",
    )


def _in_words(line: Line) -> str:
    values = [y for _, y in line.points if y is not None]
    return f"{line.name} from {values[0]:.3g} to {values[-1]:.3g}" if values else line.name
