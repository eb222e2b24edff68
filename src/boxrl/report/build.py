"""Run folders to pages: one run, or several side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from boxrl.config import asking_options
from boxrl.errors import BoxrlError, DataError, UsageError
from boxrl.evaluate import Evaluation, compare
from boxrl.guard.texts import visible
from boxrl.report.answers import Answers, tabulate_answers
from boxrl.report.gallery import Gallery
from boxrl.report.images import misfits
from boxrl.report.labels import LabelTable, label_table
from boxrl.report.metrics import Headline, MetricTable, metric_table
from boxrl.report.page import Page, write_page
from boxrl.report.reading import RunFolder, ShownEvaluation, mapping, read_run
from boxrl.report.recipe import describe_run, recipe_keys
from boxrl.report.reward_parts import Scores, build_scores
from boxrl.report.thinking import describe_thinking
from boxrl.report.training import (
    compared_curves,
    training_curves,
    training_headline,
    training_warnings,
)
from boxrl.runs import run_of


def build_report(
    run_dir: Path, out: Path, live: bool = False, images: Path | None = None
) -> Sequence[str]:
    """Write the page of one run.

    Args:
        run_dir: a run folder, complete or not; what it lacks is named on the page.
        out: the HTML file. Pictures that are too large to embed lie in `OUT_files/` beside it.
        live: the page asks the server that it came from whether the run has changed.
        images: see `read_run`.

    Returns:
        A sentence for everything that the run lacks, as it stands on the page.

    Raises:
        UsageError: there is no such folder, or it holds no run.
        DataError: an evaluation contradicts itself; nothing is written.
    """
    run = read_run(run_dir, images)
    scores = build_scores(run.recipe)
    gallery = Gallery(scores.computed)
    answered = {name: found for name, found in run.evaluations.items() if found.rows}
    numbers = {name: gallery.add(eval_title(name), found) for name, found in answered.items()}
    views: list[tuple[int, ...]] = [(numbers[a], numbers[b]) for a, b in run.pairs]
    paired = {number for view in views for number in view}
    views += [(number,) for number in numbers.values() if number not in paired]
    titled = {eval_title(name): found for name, found in answered.items()}
    page = Page(
        title=run.name,
        runs=[describe_run(run, run.name)],
        missing=[*run.missing, *_not_computed(scores), *misfits(gallery.misfits)],
        metrics=_metric_tables(run),
        charts=training_curves(run.steps),
        warnings=training_warnings(run.steps),
        gallery=gallery,
        answers=_answers(titled),
        labels=_label_tables(run),
        thinking=[describe_thinking(title, found) for title, found in titled.items()],
        views=views,
        benchmarks=[run.benchmark] if run.benchmark else [],
        trainings=_trainings({"": run}),
    )
    write_page(page, out, live)
    return page.missing


def build_comparison(
    run_dirs: Sequence[Path], out: Path, images: Path | None = None, **rules: Any
) -> Sequence[str]:
    """Write one page about several runs, what each gained and lost against the first.

    Evaluations of the same name stand side by side; folders that are one evaluation each, too.

    Args:
        run_dirs: two or more run folders.
        out: the HTML file.
        images: see `read_run`.
        rules: of `boxrl.evaluate.compare`: `seed`, `resamples`, `force`.

    Returns:
        A sentence for everything that the runs lack, as it stands on the page.

    Raises:
        UsageError: fewer than two folders, or one of them holds no run.
        DataError: an evaluation contradicts itself; nothing is written.
    """
    if len(run_dirs) < 2:
        raise UsageError(f"{len(run_dirs)} run; a comparison needs at least two")
    read = [read_run(path, images) for path in run_dirs]
    runs = dict(zip(_distinct_names(read), read, strict=True))
    scores = build_scores(read[0].recipe)
    gallery = Gallery(scores.computed)
    missing = [f"{name}: {line}" for name, run in runs.items() for line in run.missing]
    unpaired: dict[str, list[str]] = {}
    tables, labels = [], []
    answered: dict[str, ShownEvaluation] = {}
    views: list[tuple[int, ...]] = []
    for kind, found in _side_by_side(runs).items():
        titles = {name: f"{name}: {eval_title(kind)}" if kind else name for name in found}
        views += [tuple(gallery.add(titles[n], one) for n, one in found.items())] if found else []
        answered |= {titles[name]: one for name, one in found.items()}
        for columns in [(next(iter(found)), name) for name in list(found)[1:]]:
            title = f"{eval_title(kind)}: {' to '.join(columns)}" if kind else " to ".join(columns)
            pair = (found[columns[0]], found[columns[1]])
            tables.append(_paired_table(title, columns, pair, unpaired, rules))
            labels += _with_rows([label_table(title, *pair)])
    page = Page(
        title=" and ".join(runs) if len(runs) < 3 else f"{len(runs)} runs",
        runs=[describe_run(run, name) for name, run in runs.items()],
        missing=[
            *missing,
            *_not_computed(scores),
            *misfits(gallery.misfits),
            *(f"{'; '.join(tables)}: {reason}" for reason, tables in unpaired.items()),
        ],
        metrics=tables,
        charts=compared_curves([(name, run.steps) for name, run in runs.items()]),
        warnings=[
            f"{name}, {w}" for name, run in runs.items() for w in training_warnings(run.steps)
        ],
        gallery=gallery,
        answers=_answers(answered),
        labels=labels,
        thinking=[describe_thinking(title, found) for title, found in answered.items()],
        views=views,
        benchmarks=[run.benchmark for run in runs.values() if run.benchmark],
        trainings=_trainings(runs),
    )
    write_page(page, out)
    return page.missing


def _not_computed(scores: Scores) -> Iterator[str]:
    """A line for each reward of the recipe that the gallery cannot show."""
    for name in scores.left_out:
        yield f"reward {name} is not computed: a report runs no code that a run names"


def _trainings(runs: Mapping[str, RunFolder]) -> list[Headline]:
    """A sentence for each run that trained and answered nothing, then what would judge it."""
    unjudged = {name: run for name, run in runs.items() if not _has_answers(run) and run.steps}
    said = [training_headline(name, run.facts, run.steps) for name, run in unjudged.items()]
    asked = {name: asking_options(recipe_keys(run.recipe)) for name, run in unjudged.items()}
    if len(set(asked.values())) == 1:
        asked = {"": next(iter(asked.values()))}
    commands = {
        f"Next, {name}" if name else "Next": f"boxrl predict --model RUN/model{options} "
        "--samples VAL.jsonl --images DIR --out RUN/evals/val/predictions.jsonl"
        for name, options in asked.items()
    }
    return [*said, *(Headline(title, "", "", command) for title, command in commands.items())]


def _has_answers(run: RunFolder) -> bool:
    return any(found.rows for found in run.evaluations.values())


def _side_by_side(runs: Mapping[str, RunFolder]) -> dict[str, dict[str, ShownEvaluation]]:
    """Evaluations that have answers, by name, then by run; what runs began with comes last.

    Folders that are one evaluation each stand under "", as `boxrl.evaluate.files` pairs them.
    """
    alone = all(run.is_evaluation for run in runs.values())
    kinds: dict[str, dict[str, ShownEvaluation]] = {}
    for name, run in runs.items():
        for kind, found in run.evaluations.items():
            if found.rows:
                kinds.setdefault("" if alone else kind, {})[name] = found
    began = {before for run in runs.values() for before, _ in run.listed_pairs}
    return dict(sorted(kinds.items(), key=lambda item: item[0] in began))


def _answers(answered: Mapping[str, ShownEvaluation]) -> list[Answers]:
    """What the answers of every evaluation, by title, look like."""
    lengths = [row.n_tokens or 0 for found in answered.values() for row in found.rows]
    longest = max(lengths, default=0)
    return [tabulate_answers(title, found.rows, longest) for title, found in answered.items()]


def eval_title(name: str) -> str:
    """before_greedy as people read it."""
    return visible(name.replace("_", ", "))


def _distinct_names(runs: Sequence[RunFolder]) -> list[str]:
    """Names of the runs; their folders, or the runs that these lie in, where names repeat."""
    folders = [run.path.resolve() for run in runs]
    owners = [run_of(folder) for folder in folders]
    for names in (
        [run.name for run in runs],
        [visible(folder.name) for folder in folders],
        [visible(owner.name) for owner in owners],
    ):
        if len(set(names)) == len(names):
            return names
    return [f"{run.name} {number}" for number, run in enumerate(runs, start=1)]


def _metric_tables(run: RunFolder) -> list[MetricTable]:
    """A table for each pair, then one for every evaluation that is in none."""
    tables = []
    for a, b in run.listed_pairs:
        before, after = (run.evaluations.get(name, ShownEvaluation(name)) for name in (a, b))
        compared = mapping(run.comparisons.get(f"{a}|{b}"))
        title = _pair_title(a, b)
        tables.append(metric_table(title, ("before", "after"), before, after, compared))
    alone = set(run.evaluations) - {name for pair in run.listed_pairs for name in pair}
    for name, evaluation in run.evaluations.items():
        if name in alone:
            tables.append(
                metric_table(eval_title(name), None, ShownEvaluation(name), evaluation, {})
            )
    return [table for table in tables if table.rows]


def _paired_table(
    title: str,
    columns: tuple[str, str],
    pair: tuple[ShownEvaluation, ShownEvaluation],
    unpaired: dict[str, list[str]],
    rules: Mapping[str, Any],
) -> MetricTable:
    """Metrics of two runs; where they cannot be paired, `unpaired` tells reason and title."""
    try:
        compared = compare(_evaluated(pair[0]), _evaluated(pair[1]), **rules)
    except BoxrlError as error:
        unpaired.setdefault(f"samples cannot be paired: {error}", []).append(title)
        return metric_table(title, columns, *pair, {})
    return metric_table(title, columns, *pair, compared)


def _evaluated(shown: ShownEvaluation) -> Evaluation:
    """As `boxrl.evaluate.compare` takes it."""
    if not isinstance(shown.metrics.get("protocol"), Mapping):
        raise DataError("metrics.json names no protocol")
    return Evaluation(shown.metrics, shown.rows)


def _label_tables(run: RunFolder) -> list[LabelTable]:
    """A table for each pair; without pairs, one for each evaluation."""
    found = run.evaluations
    if run.pairs:
        pairs = [label_table(_pair_title(a, b), found[a], found[b]) for a, b in run.pairs]
        return _with_rows(pairs)
    return _with_rows(label_table(eval_title(n), None, e) for n, e in found.items() if e.rows)


def _with_rows(tables: Iterable[LabelTable]) -> list[LabelTable]:
    """Those of evaluations that ask for boxes of some label."""
    return [table for table in tables if table.rows]


def _pair_title(before: str, after: str) -> str:
    """What the two names share: before_greedy and after_greedy are the greedy pair."""
    shared = [word for word in before.split("_") if word in after.split("_")]
    return visible(" ".join(shared)) or f"{eval_title(before)} to {eval_title(after)}"
