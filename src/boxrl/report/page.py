"""A run folder as one HTML page."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from boxrl import __version__
from boxrl.data.files import write_atomic
from boxrl.metrics.tokens import LONG
from boxrl.report.curves import training_curves
from boxrl.report.headline import Comparison, compare_figures
from boxrl.report.images import place_pictures, read_pictures
from boxrl.report.labels import LabelRow, label_rows
from boxrl.report.payload import Payload
from boxrl.report.plots import histogram, shares
from boxrl.report.reading import Evaluation, RunFolder, read_run
from boxrl.report.scores import build_scores
from boxrl.report.text import Pattern, extract_thinking, thinking_patterns, visible
from boxrl.report.verdicts import COLOURS, KINDS

STATUSES = ("ok", "empty", "partial", "malformed", "missing")
OUTCOMES = ("right", "duplicate", "wrong_label", "loose", "false", "missed")


@dataclass(frozen=True, slots=True)
class Table:
    """A before/after table and what it was measured under."""

    title: str
    rows: list[Comparison]
    paired: bool
    protocol: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What one evaluation's answers look like.

    Attributes:
        title: name of the evaluation.
        n: completions.
        outcomes: (kind, count) of boxes, and of missed targets.
        statuses: (status, count) of completions.
        outcome_bar, status_bar, tokens: charts.
        patterns: the commonest thoughts.
    """

    title: str
    n: int
    outcomes: list[tuple[str, int]]
    statuses: list[tuple[str, int]]
    outcome_bar: Markup
    status_bar: Markup
    tokens: Markup
    patterns: list[Pattern]


def build_report(run_dir: Path, out: Path) -> None:
    """Write the page of one run.

    Args:
        run_dir: a run folder, complete or not; what it lacks is named on the page.
        out: the HTML file. Pictures that are too large to embed lie in `OUT_files/` beside it.

    Raises:
        UsageError: there is no such folder, or it holds no run.
    """
    run = read_run(run_dir)
    payload = Payload(build_scores(run.recipe))
    numbers = {
        name: payload.add(_title(name), evaluation)
        for name, evaluation in run.evaluations.items()
        if evaluation.rows
    }
    views: list[tuple[int, ...]] = [(numbers[a], numbers[b]) for a, b in run.pairs]
    paired = {number for view in views for number in view}
    views += [(number,) for number in numbers.values() if number not in paired]
    pictures = place_pictures(read_pictures(payload.image_paths), out)
    write_page(
        out,
        "report.html.j2",
        run=run,
        facts=_facts(run),
        tables=_tables(run),
        curves=training_curves(run.steps),
        labels=_labels(run),
        diagnoses=[_diagnose(e) for e in run.evaluations.values() if e.rows],
        payload=Markup(payload.as_json(views, pictures)),
        has_gallery=bool(numbers),
        without_pictures=all(url is None for url in pictures),
    )


def write_page(out: Path, template: str, **content: Any) -> None:
    """Render a template with the page's own style and script, and nothing else that could run.

    The content security policy names the script by its hash and forbids every request, so text
    that slipped through escaping would still do nothing.
    """
    environment = Environment(
        loader=PackageLoader("boxrl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    on_scene = "".join(f".scene .k-{kind} {{ --c: {c}; }}\n" for kind, c in COLOURS.items())
    style, script = _asset("style.css") + on_scene, _asset("gallery.js")
    html = environment.get_template(template).render(
        style=Markup(style),
        script=Markup(script),
        policy=(
            "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data: 'self' file:; "
            f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
        ),
        version=__version__,
        kinds=KINDS,
        **content,
    )
    with write_atomic(out) as handle:
        handle.write(html)


def _asset(name: str) -> str:
    return (resources.files("boxrl.report") / "templates" / name).read_text("utf-8")


def _digest(text: str) -> str:
    """The text as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _title(name: str) -> str:
    return name.replace("_", ", ")


def _facts(run: RunFolder) -> list[tuple[str, str]]:
    """What a reader asks first about a run."""
    seconds = run.facts.get("seconds")
    commit = run.environment.get("commit")
    found = {
        "Method": str(run.facts.get("method", "")).upper(),
        "Model": run.facts.get("model"),
        "Status": run.facts.get("status"),
        "Steps": run.steps[-1]["step"] if run.steps else None,
        "Time": f"{seconds / 60:.0f} min" if isinstance(seconds, (int, float)) else None,
        "Commit": commit[:10] if isinstance(commit, str) else None,
    }
    return [(key, visible(str(value))) for key, value in found.items() if value not in (None, "")]


def _tables(run: RunFolder) -> list[Table]:
    """A table for each pair, then one for every evaluation that is in none."""
    pairs = [p for p in run.facts.get("pairs") or () if isinstance(p, list) and len(p) == 2]
    tables = []
    for a, b in pairs:
        before, after = (run.evaluations.get(str(name), Evaluation("")) for name in (a, b))
        compared = run.comparisons.get(f"{a}|{b}") or {}
        paired = compared.get("metrics", compared)
        rows = compare_figures(before.metrics, after.metrics, paired)
        if rows:
            tables.append(Table(_pair_title(a, b), rows, True, _protocol(after)))
    alone = set(run.evaluations) - {str(name) for pair in pairs for name in pair}
    for name, evaluation in run.evaluations.items():
        rows = compare_figures({}, evaluation.metrics, {}) if name in alone else []
        if rows:
            tables.append(Table(_title(name), rows, False, _protocol(evaluation)))
    return tables


def _pair_title(before: str, after: str) -> str:
    """What the two names share: before_greedy and after_greedy are the greedy pair."""
    shared = [word for word in before.split("_") if word in after.split("_")]
    return " ".join(shared) or f"{_title(before)} to {_title(after)}"


def _protocol(evaluation: Evaluation) -> list[tuple[str, str]]:
    """How the figures were measured: metrics.json's protocol and the settings of generation."""
    protocol = evaluation.metrics.get("protocol") or {}
    found = {"samples": evaluation.metrics.get("n"), **protocol}
    found |= {key: evaluation.meta.get(key) for key in ("prompt", "sampling") if key not in found}
    return [(key.replace("_", " "), _in_words(value)) for key, value in found.items() if value]


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{key.replace('_', ' ')} {_in_words(item)}" for key, item in value.items()
        )
    return visible(str(value))


def _labels(run: RunFolder) -> list[tuple[str, list[LabelRow]]]:
    """A table for each pair; without pairs, one for each evaluation."""
    found = run.evaluations
    if run.pairs:
        return [(_pair_title(a, b), label_rows(found[a], found[b])) for a, b in run.pairs]
    return [(_title(e.name), label_rows(None, e)) for e in found.values() if e.rows]


def _diagnose(evaluation: Evaluation) -> Diagnosis:
    rows = evaluation.rows
    outcomes: Counter[str] = Counter(kind for row in rows for kind in row.verdict.kinds)
    outcomes["missed"] = sum(len(row.verdict.missed) for row in rows)
    statuses: Counter[str] = Counter(row.parsed.status for row in rows)
    thoughts = (
        (row.sample.id, extract_thinking(row.prediction.completion), row.sample.labels)
        for row in rows
    )
    return Diagnosis(
        title=_title(evaluation.name),
        n=len(rows),
        outcomes=[(kind, outcomes[kind]) for kind in OUTCOMES],
        statuses=[(status, statuses[status]) for status in STATUSES],
        outcome_bar=_bar("Boxes and missed objects", OUTCOMES, outcomes),
        status_bar=_bar("How answers read", STATUSES, statuses),
        tokens=histogram([r.prediction.n_tokens for r in rows], "tokens", LONG),
        patterns=thinking_patterns(thoughts),
    )


def _bar(title: str, names: Sequence[str], counts: Counter[str]) -> Markup:
    parts = [(name.replace("_", " "), counts[name], f"k-{name}") for name in names]
    return shares(parts, title) if sum(counts.values()) else Markup("")
