"""Learning curves of an experiment's arms as pictures that stand alone."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from boxrl.metrics.convergence import take_off
from boxrl.report.plots import HEIGHT, WIDTH, Line, Mark, line_chart, tag

COLOURS = ("#2a55c8", "#c2571a", "#14805e", "#8a3fb0", "#a8872a", "#4d7f93")
STYLE = (
    "svg{background:#fff;font:11px system-ui,sans-serif}text{fill:#5b6168}"
    ".title{fill:#1c1e21;font-size:12px}.grid{stroke:#e2e1dc}.axis{stroke:#5b6168}"
    ".curve{fill:none;stroke:var(--c);stroke-width:2.2;stroke-linejoin:round}"
    ".raw{fill:none;stroke:var(--c);stroke-width:1;opacity:.3}"
    ".mark{stroke:var(--c);stroke-dasharray:3 3}.markname{fill:#1c1e21}"
) + "".join(f".s{i}{{--c:{colour}}}" for i, colour in enumerate(COLOURS))
MOST_MARKED = 3
"""With more arms than this, take-off marks would lie on top of each other."""

ROW = 16
"""Height of a line of the legend, in pixels."""

Curves = Mapping[str, Mapping[str, list[tuple[int, float]]]]


def draw_learning(curves: Curves) -> dict[str, Markup]:
    """SVG files by reward: `format` and `accuracy`, a curve per arm, with its take-off.

    Args:
        curves: arm -> `format` or `accuracy` -> (step, mean over seeds), as
            `experiments.outcome.mean_curves` gives them.
    """
    pictures = {}
    for title in ("format", "accuracy"):
        arms = [arm for arm, found in curves.items() if found.get(title)]
        if arms:
            pictures[title] = _draw(title, [(arm, curves[arm][title]) for arm in arms])
    return pictures


def _draw(title: str, curves: list[tuple[str, list[tuple[int, float]]]]) -> Markup:
    lines = [
        Line(arm, [(float(x), y) for x, y in points], colour=number % len(COLOURS))
        for number, (arm, points) in enumerate(curves)
    ]
    marks = [mark for line in lines if (mark := _mark(line))] if len(lines) <= MOST_MARKED else []
    chart = line_chart(lines, "step", f"{title} reward", marks)
    # Without a size of its own the chart would be stretched over the legend.
    sized = str(chart).replace("<svg ", f'<svg width="{WIDTH}" height="{HEIGHT}" ', 1)
    legend = Markup("").join(_entry(number, line) for number, line in enumerate(lines))
    return tag(
        "svg",
        tag("style", Markup(STYLE)) + Markup(sized) + legend,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {HEIGHT + ROW * len(lines) + 6}",
        width=WIDTH * 1.3,
    )


def _mark(line: Line) -> Mark | None:
    known = [(x, y) for x, y in line.points if y is not None]
    step = take_off([x for x, _ in known], [y for _, y in known])
    return None if step is None else Mark(step, f"from {step:.0f}", line.colour)


def _entry(number: int, line: Line) -> Markup:
    """One line of the legend."""
    y = HEIGHT + ROW * number + 6
    stroke = tag("line", x1=62, x2=84, y1=y, y2=y, class_=f"curve s{line.colour}")
    return stroke + tag("text", line.name, x=92, y=y + 4)
