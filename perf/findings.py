"""Outcomes of experiments -> docs/findings.md; no figure there is typed by hand.

    boxrl experiment run rewards
    python perf/findings.py [runs/experiments/rewards ...]

The results.json of each folder named goes to docs/findings/NAME.json; then the page is written
from all that lie there, from what perf/selection.py wrote, and from the texts of the experiment
files as they are now.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, get_args

from boxrl.experiments.definition import (
    TEXTS,
    Experiment,
    experiments_folder,
    load_experiment,
)
from boxrl.experiments.learning import draw_learning
from boxrl.experiments.markdown import (
    claim_words,
    evidence_words,
    render_markdown,
    render_mean,
    spent_words,
)
from boxrl.experiments.more_seeds import processor_hours
from boxrl.experiments.outcome import as_mean, stored_results, summarize_outcome
from boxrl.experiments.statistics import ClaimStatus, adjust

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "findings.md"
RESULTS = ROOT / "docs" / "findings"
PROBE = RESULTS / "probe" / "selection.json"
"""What perf/selection.py writes."""

PROBE_READING = """At the start all rewards of boxes ask for much the same, and none for many more
boxes or fewer. Where RL on AP has learned junk boxes, f1 and precision alone ask for fewer of them,
AP and recall alone hardly: AP does not ask for junk, it lets it stand, as 4.1 saw. The length term
of cosine asks for fewer boxes everywhere, at the start at the cost of recall; strict thresholds
alone leave most scenes of the start without a lesson."""

TRAITS = ("tokens", "boxes too many", "precision", "recall", "F1")
STEP_S, GPUS, STEPS = (25, 30), 8, 500
"""Seconds of a step of the published trainer on so many A100, and the steps of its checkpoints:
reported by its users (github.com/om-ai-lab/VLM-R1, issues 30, 77, 145, 178 and 336)."""


class Line(NamedTuple):
    """One thing to do, and the claims that it rests on.

    Attributes:
        text: with a `{}` for the difference of each claim.
        claims: (experiment, claim's words, the verdict that the text tells).
    """

    text: str
    claims: tuple[tuple[str, str, ClaimStatus], ...]


SCREEN = (
    Line(
        "Charge for every box. **weighted_sum** ends {} mAP above AP, **f1** {}: under AP, boxes "
        "behind the last hit are free.",
        (
            ("rewards", "weighted_sum trains a better detector than AP.", "held"),
            ("rewards", "boxrl's f1, to which every invented box costs, beats AP.", "held"),
        ),
    ),
    Line(
        "The junk under AP is near copies of boxes: **repetition** with `near_iou: 0.8` beside it "
        "brings {} precision and {} mAP.",
        (
            ("near_repetition", "Beside AP, repetition raises precision.", "held"),
            ("near_repetition", "Beside AP, repetition raises mAP (asked afterwards).", "held"),
        ),
    ),
    Line(
        "If you must keep AP, add **cosine**: {} mAP; weighted_sum alone is better still ({}). "
        "Beside weighted_sum it brings less than the blog saw: {} mAP.",
        (
            ("cosine", "Beside AP, cosine raises mAP.", "held"),
            ("cosine", "weighted_sum alone is better than AP with cosine (asked afterwards).",
             "held"),
            ("cosine", "Beside weighted_sum, cosine raises mAP.", "smaller"),
        ),
    ),
    Line(
        "With gold boxes at hand, use SFT: {} mAP above RL on AP at equal steps, from a start that "
        "SFT made, which favours it. RL on AP after SFT moves its mAP by {}; a reward that charges "
        "boxes was not tried there.",
        (
            ("rl_vs_sft", "SFT beats basic RL in its own domain.", "held"),
            ("rl_vs_sft", "RL after SFT goes beyond SFT.", "failed"),
        ),
    ),
    Line(
        "Pay overlap in grades: **f1** over COCO's ten thresholds ends {} mAP above .5 alone and "
        "{} above one that rises from .5 to .75; one that rises to .99 unlearns to detect ({} "
        "against the same three at once).",
        (
            ("thresholds", "The mean over COCO's thresholds beats .5 alone.", "held"),
            ("thresholds", "The mean over COCO's thresholds beats a rising one.", "held"),
            ("thresholds", "A threshold that rises from .85 to .99 beats all three throughout.",
             "failed"),
        ),
    ),
    Line(
        "Region questions that a model cannot answer train no detector: with detection scenes "
        "among them mAP is {} higher, and detection alone keeps {} more recall.",
        (
            ("region_label", "The mixture beats pure region training.", "held"),
            ("region_label", "Region training costs recall.", "held"),
        ),
    ),
    Line(
        "Mind the grammar of the prompt at the start, not at the end: without a missing space the "
        "accuracy reward starts {} higher, and both end alike ({}).",
        (
            ("prompt_grammar", "The missing space costs accuracy reward at the start.", "held"),
            ("prompt_grammar", "Both end at the same accuracy reward.", "held"),
        ),
    ),
    Line(
        "Count boxes when answers grow: RL on AP writes {} more tokens than SFT, most of them "
        "junk boxes.",
        (("tokens", "RL answers are longer than SFT answers.", "held"),),
    ),
)  # fmt: skip
"""What to take along; `render_screen` refuses a line whose verdicts the outcomes no longer give."""

INTRODUCTION = """# Findings

The [VLM-R1-OVD blog](https://om-ai-lab.github.io/2025_03_24.html) reports what its authors saw in
one run each, without intervals. Here every finding is an experiment that anyone can run again, in
miniature: the tiny VLM inside the package, synthetic scenes, several seeds, minutes on two cores. A
miniature can refute that a finding holds everywhere and can show by which mechanism it comes about.
It cannot show what a 3B model does on photographs: for that, the same files run at full scale.

## In eight lines

{screen}

Each is of the tiny VLM at the size of its section; the differences are points, or tokens where it
says so, with their 95 % intervals (90 % where arms are found alike).

## How to read the tables

Percentages as the blog prints them; the blog's number in a column of its own; ours as the mean over
seeds with Student's 95 % interval. A seed draws its own training scenes and samples and starts from
the same weights where a section names no others. Intervals are over training seeds alone: the test
scenes and the start model are the same in all, so that *untrained* has none.

*Untrained* is a model before the arm's own training: the tiny VLM with faults taught on purpose.
*mAP* is greedy, *T = 1* sampled as in training, *averaged* greedy with the mean of the weights over
the last 40 % of the steps. Arms of one seed share scenes, so claims are judged by differences
paired by seed:

- **Held**: the whole interval of the difference lies on the claimed side of 0; for arms claimed to
  be alike, the 90 % interval, which is two one-sided tests at 5 %, lies inside the stated margin.
- **Failed**: the whole interval, of 95 %, lies on the other side, or outside of the margin.
- **Smaller**: the interval holds 0 and ends below the blog's own difference, in points and as a
  part of what was left to gain; of lengths and steps, below the same per cent of ours.
- **Undecided**: none of these.
- **Not tested**: no seed differs at all, or the means of both arms lie within 2 points of 0 or of
  100 %, where there is no room, and the interval decides nothing.

Of {n} claims: {counts}.

*p* is of Student's paired test over seeds, two-sided, or the larger of the two one-sided tests, and
of arms that failed to be alike, of a difference beyond the margin; a *smaller* one's is against 0.
*q* is p after Benjamini and Hochberg over all claims of this page: among those with q up to .05, at
most one in twenty is expected to be luck, were they independent; claims share runs, so their errors
are shared too. Verdicts go by the interval alone: those with q above .05 are weak. A claim *asked
afterwards* came to mind when the outcome had been seen, and one that is tested again after more
seeds has had two chances; p knows of neither. *Could see* is the least true difference that as many
seeds of such spread would decide in 80 of 100 cases; for arms claimed to be alike, the least margin
that would have held.

A reward *takes off* at the step where its running mean last climbs past half of its rise; no step
is given where the rise is less than four standard errors (`boxrl.metrics.convergence.half_rise`).
Pictures show the curve of the mean over seeds, whose own half rise need not be the mean of theirs;
each arm's accuracy curve is of its own reward, so that heights do not compare between rewards.
*Start* is the mean of the first two steps, *plateau* that of the last tenth. The *blind baseline*
draws every object perfectly under a random asked label. The *control* asks each scene another
scene's question: what a model still scores there, it scores without reading.

A commit with a plus had experiment files that were newer than it. A section is of one outcome, all
of whose cells were made by the same code and asked the same test sets; no figure is pooled with one
of another section. {apart}

All grids of this page took {spent}, cells that grids share counted in each. Each section says what
one more processor hour of its grid would decide.

Cost at full scale: {low:.0f} to {high:.0f} GPU hours per trained cell, from {steps} steps of {a} to
{b} s on {gpus} A100, as users of the published trainer report them. No step of a 3B model was timed
for this page; the first rows of a run's metrics.jsonl tell what yours takes.

"""


def keep_results(folders: list[Path]) -> None:
    """Copy outcomes to docs/findings/NAME.json, six digits of each figure.

    Raises:
        SystemExit: an outcome is not of the shipped experiment as it is now.
    """
    RESULTS.mkdir(exist_ok=True)
    for folder in folders:
        outcome = json.loads((folder / "results.json").read_text("utf-8"), parse_float=_six_digits)
        path = experiments_folder() / f"{outcome['name']}.yaml"
        if found := differs(outcome, load_experiment(path, check_files=False)):
            raise SystemExit(
                f"{folder}/results.json: {found}, and stays off the page; run boxrl experiment "
                f"run {outcome['name']} without changes"
            )
        text = json.dumps(outcome, ensure_ascii=False) + "\n"
        (RESULTS / f"{outcome['name']}.json").write_text(text, "utf-8")


def differs(outcome: dict[str, Any], experiment: Experiment) -> str:
    """What an outcome has that the experiment's file does not ask for; empty where nothing."""
    if outcome["overrides"]:
        return f"was run with {' '.join(outcome['overrides'])}"
    if outcome["gave_up"]:
        return f"was run under a budget, with {', '.join(outcome['gave_up'])}"
    now = {name: test.model_dump(mode="json") for name, test in experiment.tests.items()}
    then, now = (
        {name: {**test, "ways": None} for name, test in tests.items()}
        for tests in (outcome["tests"], now)
    )  # another way of answering is a figure more or less, of the same set
    if then != now:
        return "is of another test set than the experiment's file"
    if set(outcome["cells"]) != set(experiment.arms):
        return "has other arms than the experiment's file"
    return ""


def _six_digits(text: str) -> float:
    return float(f"{float(text):.6g}")


def read_outcomes() -> tuple[list[dict[str, Any]], list[str]]:
    """(outcomes with the texts of today, by finding; names of experiments without one)."""
    found, missing = [], []
    for path in sorted(experiments_folder().glob("*.yaml")):
        results = RESULTS / f"{path.stem}.json"
        if not results.is_file():
            missing.append(path.stem)
            continue
        experiment = load_experiment(path, check_files=False)
        texts = experiment.model_dump(include=set(TEXTS)) | {"seeds_wanted": experiment.seeds}
        stored = json.loads(results.read_text("utf-8"))
        judged = summarize_outcome(experiment, stored_results(stored))
        judged["apart"] = differs(stored, experiment)
        found.append(stored | texts | judged)
    return sorted(found, key=lambda outcome: outcome["finding"]), missing


def gpu_hours(cells: int) -> str:
    """The price of a grid at full scale, in words."""
    low, high = (cells * STEPS * seconds * GPUS / 3600 for seconds in STEP_S)
    return f"{low:,.0f} to {high:,.0f} GPU hours"


def count_verdicts(outcomes: list[dict[str, Any]]) -> str:
    """How many claims have which verdict, in words."""
    counts = Counter(claim["status"] for outcome in outcomes for claim in outcome["claims"])
    return ", ".join(f"{counts[status]} {status}" for status in get_args(ClaimStatus))


def render_screen(outcomes: list[dict[str, Any]]) -> str:
    """The lines of `SCREEN` with their differences and their sections.

    Raises:
        SystemExit: a line tells another verdict than the outcomes give.
    """
    by_name = {outcome["name"]: outcome for outcome in outcomes}
    rows = []
    for number, line in enumerate(SCREEN, 1):
        shown = []
        for name, says, status in line.claims:
            claim = next(c for c in by_name[name]["claims"] if c["says"] == says)
            if claim["status"] != status:
                raise SystemExit(
                    f"perf/findings.py: line {number} of SCREEN takes {name}, {says!r}, for "
                    f"{status}, and it is {claim['status']}; write the line anew"
                )
            shown.append(render_mean(as_mean(claim["difference"]), claim["percent"], "+"))
        names = dict.fromkeys(name for name, *_ in line.claims)
        links = [section_link(by_name[name]) for name in names]
        waits = ["to be run again"] if any(by_name[name]["apart"] for name in names) else []
        rows.append(f"{number}. {line.text.format(*shown)} ({', '.join(links + waits)})")
    return "\n".join(rows)


def section_link(outcome: dict[str, Any]) -> str:
    """A link to an outcome's section of the page."""
    title = f"{outcome['finding']} {outcome['title']}"
    anchor = re.sub(r"[^\w\s-]", "", title).lower().replace(" ", "-")
    return f"[{title}](#{anchor})"


def render_apart(outcomes: list[dict[str, Any]]) -> str:
    """Which sections are not of the experiments' files as they are now."""
    older = [outcome["name"] for outcome in outcomes if outcome["apart"]]
    if not older:
        return "All are of the experiment files as they are now."
    return (
        "These were run before their file's held-out sets or arms became what they are now, and "
        f"wait to be run again: {', '.join(older)}."
    )


def render_spent(outcomes: list[dict[str, Any]]) -> str:
    """Processor hours of all grids, in words."""
    hours = sum(processor_hours(outcome) for outcome in outcomes)
    older = any("at most" in spent_words(outcome) for outcome in outcomes)
    return f"{'at most ' * older}{hours:.1f} processor hours"


def render_summary(outcomes: list[dict[str, Any]]) -> str:
    """One line per claim; q of all tests of the page together."""
    claims = [(outcome, claim) for outcome in outcomes for claim in outcome["claims"]]
    tested = [claim for _, claim in claims if claim["p"] is not None]
    corrected = adjust([claim["p"] for claim in tested])
    shared = {id(claim): q for claim, q in zip(tested, corrected, strict=True)}
    lines = ["| finding | claim | verdict | difference | p | q | could see |", "|---" * 7 + "|"]
    for outcome, claim in claims:
        p, detectable = evidence_words(claim)
        q, _ = evidence_words(claim | {"p": shared.get(id(claim))})
        lines.append(
            f"| {outcome['finding']} {outcome['name']} | {claim['says']} "
            f"| **{claim['status']}** | {claim_words(claim)} | {p} | {q} | {detectable} |"
        )
    return "\n".join(lines)


def render_section(outcome: dict[str, Any]) -> str:
    """An experiment's section."""
    pictures = {f"{title} reward": link for title, link in picture_links(outcome).items()}
    cells = len(outcome["steps"]) * len(outcome["seeds"])
    price = f"This grid has {cells} trained cells: {gpu_hours(cells)}.\n"
    return f"{render_markdown(outcome, pictures)}\n{price}"


def render_probe(probe: dict[str, Any]) -> str:
    """The section on what rewards select for, a table per policy."""
    parts = [
        f"""## What rewards select for

No training: {probe["draws"]} completions to each of {probe["scenes"]} held-out scenes of the
standard world, drawn by one policy at T = 1, and every reward on the same completions (`boxrl
doctor rewards --select`, which takes your own model's as well). A figure is by how much a step of
unit size would move the mean of a trait, to first order, with the 95 % interval over scenes;
precision, recall and F1 in points. It tells what a reward asks for at that policy, not where
training ends. *Flat* is the share of scenes all of whose completions earn alike, which teach
nothing. Commit {probe["commit"][:10]}.

{PROBE_READING}"""
    ]
    for policy, found in probe["policies"].items():
        head = f"| {policy} | flat | {' | '.join(TRAITS)} |\n{'|---' * (len(TRAITS) + 2)}|"
        rows = [
            f"| {name} | {100 * row['flat_groups']:.0f} % "
            f"| {' | '.join(_moved(row['traits'][trait], trait) for trait in TRAITS)} |"
            for name, row in found["rewards"].items()
            if name != "sum"
        ]
        parts.append("\n".join([head, *rows]))
    return "\n\n".join(parts) + "\n"


def _moved(found: dict[str, float] | None, trait: str) -> str:
    """By how much a trait moves, lengths and boxes as they are, shares in points."""
    if found is None:
        return "-"
    unit, digits = (1, 2) if trait in ("tokens", "boxes too many") else (100, 1)
    mean, low, high = (unit * found[key] for key in ("mean", "low", "high"))
    return f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def picture_links(outcome: dict[str, Any]) -> dict[str, str]:
    """Reward -> its curves, as seen from the page."""
    name = outcome["name"]
    return {title: f"images/findings/{name}_{title}.svg" for title in ("format", "accuracy")
            if any(title in curves for curves in outcome["curves"].values())}  # fmt: skip


def render_page() -> str:
    """The whole page, from docs/findings/ and the experiment files."""
    outcomes, missing = read_outcomes()
    low, high = (STEPS * seconds * GPUS / 3600 for seconds in STEP_S)
    introduction = INTRODUCTION.format(
        n=sum(len(outcome["claims"]) for outcome in outcomes), counts=count_verdicts(outcomes),
        screen=render_screen(outcomes), apart=render_apart(outcomes), spent=render_spent(outcomes),
        low=low, high=high, steps=STEPS, a=STEP_S[0], b=STEP_S[1], gpus=GPUS,
    )  # fmt: skip
    parts = [introduction + render_summary(outcomes), *map(render_section, outcomes)]
    if PROBE.is_file():
        parts.append(render_probe(json.loads(PROBE.read_text("utf-8"))))
    if missing:
        names = ", ".join(f"`boxrl experiment run {name}`" for name in missing)
        parts.append(f"## Not run yet\n\nReady to run, without an outcome here: {names}.\n")
    return "\n\n".join(parts)


def main() -> None:
    """Rewrite the page and its pictures."""
    keep_results([Path(name) for name in sys.argv[1:]])
    for outcome in read_outcomes()[0]:
        pictures = draw_learning(outcome["curves"])
        for title, link in picture_links(outcome).items():
            path = PAGE.parent / link
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(pictures[title], "utf-8")
    PAGE.write_text(render_page(), "utf-8")


if __name__ == "__main__":
    main()
