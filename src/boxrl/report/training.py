"""Section Training: curves from metrics.jsonl, and what looked wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from boxrl.data.files import number_or_none
from boxrl.evaluate.verdict import learning_verdict
from boxrl.metrics.convergence import half_rise
from boxrl.report.metrics import Headline
from boxrl.report.plots import Line, PlotMark, line_chart
from boxrl.report.reading import mapping

Step = dict[str, Any]
LARGEST = 1e300
"""What a curve shows at most: sums and differences of two such values are finite."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with its title and a legend of (series colour, name); empty for a single curve."""

    title: str
    svg: Markup
    legend: tuple[tuple[int, str], ...] = ()


SINGLE = (
    ("Reward, weighted sum", "reward", "mean reward"),
    ("Completion length", "completion_length", "tokens"),
    ("Loss", "loss", "loss"),
    ("Groups without a difference", "zero_variance", "share of groups"),
    ("Cut at the length limit", "clipped", "share of completions"),
    ("Entropy", "entropy", "nats per token"),
    ("KL to the start", "kl", "nats per token"),
    ("Boxes written per box asked for", "boxes_per_target", "boxes per target"),
    ("Boxes under unasked labels", "invented_labels", "share of boxes"),
    ("Repeated boxes", "duplicates", "share of boxes"),
    ("Readable answers", "readable", "share of answers"),
    ("Answers read in part", "partial", "share of answers"),
    ("Token accuracy", "token_accuracy", "share of tokens"),
    ("Gradient norm", "grad_norm", "norm"),
    ("Learning rate", "learning_rate", "learning rate"),
)
"""(title, key in metrics.jsonl, y axis) of the charts with one curve."""


def training_curves(steps: Sequence[Step]) -> list[Chart]:
    """A chart for everything that was logged at least twice, rewards first."""
    rewards = _reward_lines(steps)
    risen = [mark for line in rewards if (mark := _half_risen(line))]
    total, length = Line(SINGLE[0][0], _points(steps, "reward")), SINGLE[1]
    own = (
        [replace(mark, name=f"half risen at {mark.x:,.0f}")] if (mark := _half_risen(total)) else []
    )
    charts = [
        _single(steps, *SINGLE[0], own),
        _rewards(rewards, risen),
        _single(steps, *length, risen),
        *(_single(steps, *entry) for entry in SINGLE[2:]),
    ]
    return [chart for chart in charts if chart is not None]


def training_warnings(steps: Sequence[Step]) -> list[str]:
    """Every warning of the log once, with the step at which it was first given."""
    told: dict[str, str] = {}
    for step in steps:
        found = step.get("warnings")
        for text in found.values() if isinstance(found, dict) else ():
            told.setdefault(str(text), f"step {step['step']}: {text}")
    return list(told.values())


def training_headline(name: str, facts: Mapping[str, Any], steps: Sequence[Step]) -> Headline:
    """What a run that nobody evaluated came to on its own samples.

    Args:
        name: of the run, empty where the page is about it alone.
        facts: run.json.
        steps: rows of metrics.jsonl.
    """
    method, model = str(facts.get("method") or "").upper(), facts.get("model")
    how = f"trained{f' with {method}' if method else ''}{f' from {model}' if model else ''}"
    logged = [
        {key: _drawable(step.get(key)) for key in ("reward", "loss")} | {"step": step["step"]}
        for step in steps
    ]
    learned = learning_verdict(logged)
    figures = f"{how}; {learned.words.replace('->', '→')}" if learned else how
    return Headline(name, "", "not evaluated", figures)


def compared_curves(runs: Sequence[tuple[str, Sequence[Step]]]) -> list[Chart]:
    """The same charts with one curve per run; every reward has a chart of its own.

    Args:
        runs: (name, rows of metrics.jsonl) of each run.
    """
    names = _reward_names([step for _, steps in runs for step in steps])
    charts = [_compared(runs, *SINGLE[0])]
    charts += [
        _compared(runs, f"Reward {name}", f"rewards/{name}", "mean reward") for name in names
    ]
    charts += [_compared(runs, *entry) for entry in SINGLE[1:]]
    return [chart for chart in charts if chart is not None]


def _compared(
    runs: Sequence[tuple[str, Sequence[Step]]], title: str, key: str, y_title: str
) -> Chart | None:
    lines = [
        Line(name, _points(steps, key), colour=number % 6)
        for number, (name, steps) in enumerate(runs)
    ]
    lines = [line for line in lines if _enough(line)]
    if not any(y for line in lines for _, y in line.points):
        return None
    marks = [mark for line in lines if "eward" in y_title and (mark := _half_risen(line))]
    legend = tuple((line.colour, line.name) for line in lines)
    return Chart(title, line_chart(lines, "step", y_title, marks), legend)


def _reward_lines(steps: Sequence[Step]) -> list[Line]:
    """The rewards by name, means before weighting."""
    lines = [
        Line(name, _points(steps, f"rewards/{name}"), colour=number % 6)
        for number, name in enumerate(_reward_names(steps))
    ]
    return [line for line in lines if _enough(line)]


def _reward_names(steps: Sequence[Step]) -> list[str]:
    return list(dict.fromkeys(name for step in steps for name in mapping(step.get("rewards"))))


def _rewards(lines: Sequence[Line], marks: Sequence[PlotMark]) -> Chart | None:
    """The rewards by name in one chart."""
    if not lines:
        return None
    legend = tuple((line.colour, line.name) for line in lines)
    return Chart("Rewards by name", line_chart(lines, "step", "mean reward", marks), legend)


def _half_risen(line: Line) -> PlotMark | None:
    """Where the curve is past half of its rise for good, if that is not at its start."""
    known = [(x, y) for x, y in line.points if y is not None]
    step = half_rise([x for x, _ in known], [y for _, y in known])
    if step is None or step <= known[0][0]:
        return None
    return PlotMark(step, f"{line.name} half risen at {step:,.0f}", line.colour)


def _single(
    steps: Sequence[Step], title: str, key: str, y_title: str, marks: Sequence[PlotMark] = ()
) -> Chart | None:
    line = Line(title, _points(steps, key))
    if not _enough(line) or not any(y for _, y in line.points):
        return None
    return Chart(title, line_chart([line], "step", y_title, marks))


def _points(steps: Sequence[Step], key: str) -> list[tuple[float, float | None]]:
    """(step, value) of a key; `rewards/NAME` reads inside `rewards`."""
    head, _, name = key.partition("/")
    values = [step.get(head) for step in steps]
    if name:
        values = [value.get(name) if isinstance(value, dict) else None for value in values]
    return [
        (float(step["step"]), _drawable(value)) for step, value in zip(steps, values, strict=True)
    ]


def _drawable(value: Any) -> float | None:
    """The value where it is a number of which an axis can be made."""
    number = number_or_none(value)
    return None if number is None or abs(number) > LARGEST else number


def _enough(line: Line) -> bool:
    return sum(y is not None for _, y in line.points) >= 2
