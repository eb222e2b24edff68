"""An outcome as Markdown: the blog's table beside ours, and each claim with its verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from boxrl.errors import tally
from boxrl.experiments.definition import FULL_SCALE, full_scale_of
from boxrl.experiments.more_seeds import (
    missing_seeds,
    processor_hours,
    seeds_per_hour,
    would_decide,
)
from boxrl.experiments.outcome import as_mean
from boxrl.experiments.statistics import Mean

Outcome = Mapping[str, Any]

BLIND = "(blind baseline)"

VERDICTS = {
    "held": "Held",
    "failed": "Failed, the interval lies on the other side",
    "smaller": "Smaller than the blog's, if there is any",
    "undecided": "Undecided at this size",
    "not tested": "Not tested, there was no room for a difference",
}


def render_number(value: float | None, percent: bool, sign: str = "") -> str:
    """One decimal for percentages and lengths; `-` where there is none."""
    if value is None:
        return "-"
    return f"{value * (100 if percent else 1):{sign}.1f}"


def render_mean(mean: Mean | None, percent: bool, sign: str = "") -> str:
    """A mean with its 95 % interval over seeds, where there are several."""
    if mean is None:
        return "-"
    text = render_number(mean.mean, percent, sign)
    if mean.low is None or mean.high is None:
        return text
    ends = (render_number(end, percent, sign) for end in (mean.low, mean.high))
    return f"{text} [{', '.join(ends)}]"


def table_rows(outcome: Outcome) -> tuple[list[str], list[list[str]]]:
    """(heads, rows) of the table: per figure the blog's number, then ours; blind baseline last."""
    heads, rows = ["arm"], [[arm] for arm in _arms(outcome)]
    for column, cells in zip(_columns(outcome), figure_rows(outcome), strict=True):
        heads += [f"{column['title']}, blog"] if column["published"] else []
        heads.append(column["title"])
        for row in rows:
            found = next((cell for cell in cells if cell[1] == row[0]), None)
            values = ["", ""] if found is None else list(found[2:])
            row += values if column["published"] else values[1:]
    return heads, rows


def figure_rows(outcome: Outcome) -> list[list[tuple[str, str, str, str]]]:
    """Per figure its rows (figure, arm, the blog's number, ours); its name stands in the first."""
    figures = []
    for column in _columns(outcome):
        percent, published = column["percent"], column["published"]
        rows = [
            (
                "",
                arm,
                f"{published[arm]:g}" if arm in published else "",
                render_mean(as_mean(column["ours"][arm]), percent),
            )
            for arm in outcome["cells"]
        ]
        if column["blind"] is not None:
            rows.append(("", BLIND, "", render_number(column["blind"], percent)))
        figures.append([(column["title"], *rows[0][1:]), *rows[1:]])
    return figures


def _columns(outcome: Outcome) -> list[Mapping[str, Any]]:
    """Those that some cell measured; the file may ask for more than it did when they ran."""
    return [column for column in outcome["columns"] if any(column["ours"].values())]


def _arms(outcome: Outcome) -> list[str]:
    blind = any(column["blind"] is not None for column in outcome["columns"])
    return [*outcome["cells"], *([BLIND] if blind else [])]


def verdict_words(claim: Mapping[str, Any]) -> str:
    """The verdict on a claim, and what it means."""
    if claim["status"] == "failed" and "within" in claim:
        return "Failed, the interval lies outside of the margin"
    return VERDICTS[claim["status"]]


def claim_words(claim: Mapping[str, Any]) -> str:
    """The difference that decides about a claim, and over how many seeds."""
    difference, percent = as_mean(claim["difference"]), claim["percent"]
    sides = claim.get("same") or (claim["higher"], claim["lower"])
    a, b = (" plus ".join([side] if isinstance(side, str) else side) for side in sides)
    place = claim["test"] if claim["test"] == "learning" else f"{claim['test']}, {claim['way']}"
    if difference is None:
        return f"{claim['figure']} ({place}) is not defined for both arms"
    words = f"{claim['figure']} ({place}), {a} minus {b}: {render_mean(difference, percent, '+')}"
    words += f" over {tally(difference.n, 'seed')}"
    if "within" in claim:
        words += f", 90 % interval; alike means within {render_number(claim['within'], percent)}"
    if claim["published"] is not None:
        words += f"; the blog: {claim['published']:+.1f}"
    return words


def evidence_words(claim: Mapping[str, Any]) -> tuple[str, str]:
    """(p, smallest effect that could have been seen) of a claim; `-` where there is none."""
    p, detectable = claim["p"], claim["detectable"]
    shown = "-" if p is None else "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0")
    return shown, render_number(detectable, claim["percent"])


def render_markdown(outcome: Outcome, curves: Mapping[str, str] = {}) -> str:
    """The section of a page.

    Args:
        outcome: what results.json holds.
        curves: title -> path of a picture, as seen from the page.
    """
    heads, rows = table_rows(outcome)
    lines = [f"## {outcome['finding']} {outcome['title']}", "", outcome["question"], ""]
    lines += [_set_up(outcome), ""]
    if outcome["published_from"]:
        lines += [f"The blog's numbers: {outcome['published_from']}", ""]
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", *_controls(outcome)]
    for claim in outcome["claims"]:
        lines.append(f"- {claim['says']} **{verdict_words(claim)}**: {claim_words(claim)}.")
    lines += [""] if outcome["claims"] else []
    lines += [outcome["reading"].strip(), ""] if outcome["reading"] else []
    lines += [f"![{title}]({path})" for title, path in curves.items()]
    lines += [""] if curves else []
    lines += [line, ""] if (line := next_hour(outcome)) else []
    lines += ["**Again:** `" + again(outcome) + "`", ""]
    if full_scale_of(outcome["name"]):
        large = f"{outcome['name']}_3b"
        words = f"`boxrl experiment recipes {large} --out recipes_3b` writes a recipe per arm"
        lines += [
            f"**At full scale:** {words}, from recipes/experiments/{FULL_SCALE}/{large}.yaml.",
            "",
        ]
    return "\n".join(lines)


def again(outcome: Outcome) -> str:
    """The command that gave the outcome."""
    words = ["boxrl experiment run", outcome["name"], "--seeds"]
    words.append(",".join(str(seed) for seed in outcome["seeds"]))
    return " ".join([*words, *outcome["overrides"]])


def _set_up(outcome: Outcome) -> str:
    steps = sorted(set(outcome["steps"].values()))
    tests = "; ".join(_test_words(name, test) for name, test in outcome["tests"].items())
    words = [outcome["setting"].strip()] if outcome["setting"] else []
    words.append(
        f"{tally(len(outcome['seeds']), 'seed')} ({', '.join(map(str, outcome['seeds']))}), "
        f"{' or '.join(map(str, steps)) or 'no'} training steps, tested on {tests}."
    )
    if missing := missing_seeds(outcome):
        wanted = len(outcome["seeds"]) + len(missing)
        words.append(f"**Short of seeds: {len(outcome['seeds'])} of {wanted}.**")
    if outcome["gave_up"]:
        words.append(f"Run under a budget, that is with {', '.join(outcome['gave_up'])}.")
    if outcome.get("starts"):
        words.append(f"Runs start in turn, seed by seed, from {', '.join(outcome['starts'])}.")
    words.append(
        f"Commit {_commit(outcome['commit'])}; {spent_words(outcome)}. Ours: mean [95 % interval "
        "over seeds]."
    )
    return " ".join(words)


def spent_words(outcome: Outcome) -> str:
    """Processor minutes of the grid."""
    # Older outcomes tell the time that passed, in which a process also waits.
    at_most = "" if "processor" in outcome["seconds"] else "at most "
    return f"{at_most}{60 * processor_hours(outcome):.0f} processor minutes"


def next_hour(outcome: Outcome) -> str:
    """What one more processor hour would decide; empty where no claim is open."""
    left = [claim for claim in outcome["claims"] if claim["status"] == "undecided"]
    if not left:
        return ""
    more = seeds_per_hour(outcome)
    decided = [claim["says"] for claim in left if would_decide(claim, more)]
    start = f"One more processor hour is {more} more seed{'s' * (more > 1)}. If the differences "
    start += "and their spread stay, in 80 of 100 cases that decides "
    of = f"{len(left)} open claim{'s' * (len(left) > 1)}"
    return start + (f"{len(decided)} of {of}: {' '.join(decided)}" if decided else f"none of {of}.")


def _commit(commit: str | None) -> str:
    """Short, `+` kept: experiment or source files differed from the commit."""
    return "unknown" if not commit else commit[:10] + "+" * commit.endswith("+")


def _test_words(name: str, test: Mapping[str, Any]) -> str:
    if test["samples"]:
        return f"{name}: {test['samples']}"
    world = test["world"]
    named = world if isinstance(world, str) else " + ".join(world)
    shared = ", the same for all runs" if "seed" in test else ", drawn anew for every seed"
    return f"{name}: {test['scenes']} scenes of the world {named}{shared}"


def _controls(outcome: Outcome) -> list[str]:
    """What the models score when each scene is asked another scene's question."""
    column = next((c for c in outcome["columns"] if c["shuffled_labels"] and c["percent"]), None)
    if column is None:
        return []
    values = ", ".join(
        f"{arm} {render_number(value, percent=True)}"
        for arm, value in column["shuffled_labels"].items()
    )
    return [f"Control, {column['title']} under another scene's question: {values}.", ""]
