"""Learning curves: where a reward starts, takes off and ends, as numbers and as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from markupsafe import Markup

from boxrl.metrics.convergence import half_rise
from boxrl.report.plots import HEIGHT, WIDTH, Line, PlotMark, line_chart, tag

FIRST_STEPS = 2
"""Steps that count as the start: sampled before training has changed anything much."""

COLOURS = ("#2a55c8", "#c2571a", "#14805e", "#8a3fb0", "#a8872a", "#4d7f93")
STYLE = (
    "svg{background:#fff;font:11px system-ui,sans-serif}text{fill:#5b6168}"
    ".title{fill:#1c1e21;font-size:12px}.grid{stroke:#e2e1dc}.axis{stroke:#5b6168}"
    ".curve{fill:none;stroke:var(--c);stroke-width:2.2;stroke-linejoin:round}"
    ".raw{fill:none;stroke:var(--c);stroke-width:1;opacity:.3}"
    ".mark{stroke:var(--c);stroke-dasharray:3 3}.markname{fill:#1c1e21}"
) + "".join(f".s{i}{{--c:{colour}}}" for i, colour in enumerate(COLOURS))
MOST_MARKED = 3
"""With more arms than this, marks would lie on top of each other."""

ROW = 16
"""Height of a line of the legend, in pixels."""

ArmCurves = Mapping[str, Mapping[str, list[tuple[int, float]]]]


def accuracy_reward(names: Sequence[str]) -> str | None:
    """The first reward that is not `format`: what the VLM-R1-OVD blog calls the accuracy reward."""
    return next((name for name in names if name != "format"), None)


def reward_curve(rows: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    """(step, mean of the reward over the step's completions) where it applied."""
    return [
        (row["step"], row["rewards"][name])
        for row in rows
        if row.get("rewards", {}).get(name) is not None
    ]


def learning_figures(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
    """Figures of the `format` and the accuracy curve of one run.

    Args:
        rows: of metrics.jsonl.
        names: of the recipe's rewards.

    Returns:
        `format.` and `accuracy.` with `start` (mean of the first two steps), `plateau` (mean of
        the last tenth of the steps), `half_rise` (see `metrics.convergence.half_rise`) and
        `per_minute` (what plateau has over start, by the minutes of training), and
        `seconds_per_step` and `zero_variance` (the share of groups that earned alike, mean over
        the steps); what is not defined is left out.
    """
    figures: dict[str, float] = {}
    times = [row["time_s"] for row in rows if "time_s" in row]
    if len(times) > 1:
        figures["seconds_per_step"] = (times[-1] - times[0]) / (len(times) - 1)
    if alike := [row["zero_variance"] for row in rows if "zero_variance" in row]:
        figures["zero_variance"] = fmean(alike)
    for title, name in (("format", "format"), ("accuracy", accuracy_reward(names))):
        curve = reward_curve(rows, name) if name else []
        if not curve:
            continue
        steps, values = zip(*curve, strict=True)
        figures[f"{title}.start"] = fmean(values[:FIRST_STEPS])
        figures[f"{title}.plateau"] = fmean(values[-max(1, len(values) // 10) :])
        step = half_rise(steps, values)
        if step is not None:
            figures[f"{title}.half_rise"] = step
        if pace := figures.get("seconds_per_step"):
            rise = figures[f"{title}.plateau"] - figures[f"{title}.start"]
            figures[f"{title}.per_minute"] = 60 * rise / (pace * len(rows))
    return figures


def draw_learning(curves: ArmCurves) -> dict[str, Markup]:
    """SVG files by reward: `format` and `accuracy`, a curve per arm, its half rise marked.

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
        tag("style", Markup(STYLE)) + Markup(sized) + legend,  # a chart of tags  # nosec B704
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {HEIGHT + ROW * len(lines) + 6}",
        width=WIDTH * 1.3,
    )


def _mark(line: Line) -> PlotMark | None:
    known = [(x, y) for x, y in line.points if y is not None]
    step = half_rise([x for x, _ in known], [y for _, y in known])
    return (
        None
        if step is None
        else PlotMark(step, f"mean curve half risen at {step:.0f}", line.colour)
    )


def _entry(number: int, line: Line) -> Markup:
    """One line of the legend."""
    y = HEIGHT + ROW * number + 6
    stroke = tag("line", x1=62, x2=84, y1=y, y2=y, class_=f"curve s{line.colour}")
    return stroke + tag("text", line.name, x=92, y=y + 4)
