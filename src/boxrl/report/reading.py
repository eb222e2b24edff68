"""Run folders, read as far as they go: whatever is missing or damaged is named, not fatal.

What contradicts itself is: an evaluation whose rows are not of its metrics, its predictions or its
samples as they are now is refused, because no page of it would be right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from boxrl.data.files import is_whole, read_lines
from boxrl.data.predictions import Prediction, meta_path, read_predictions
from boxrl.data.samples import hash_images
from boxrl.errors import BoxrlError, DataError, UsageError
from boxrl.evaluate.comparison import are_figures_of, is_comparison_of
from boxrl.evaluate.files import (
    METRICS_FILE,
    PREDICTIONS_FILE,
    ROWS_FILE,
    DisagreementError,
    check_agreement,
    check_predictions,
    has_rows,
    is_readable,
    judge_predictions,
    locate,
    read_metrics,
    read_settings,
    recorded_file,
    settings_family,
)
from boxrl.evaluate.rows import Row, read_rows
from boxrl.families import Family
from boxrl.guard.files import (
    check_regular,
    inside,
    is_inside,
    parse_json_object,
    read_json_object,
    read_text,
)
from boxrl.guard.texts import visible
from boxrl.parsing.answers import as_read
from boxrl.prompts import Prompt, build_prompt
from boxrl.report.benchmark import BenchmarkTable, read_benchmark
from boxrl.runs import FoundRun, find_path, find_run, read_facts, run_of
from boxrl.types import Completion

T = TypeVar("T")
TRAINING_PARTS = ("metrics.jsonl", "recipe.yaml", "environment.json")
"""What a run that trains nothing, such as a benchmark, need not have."""

METHODS = ("grpo", "sft")

NO_FACTS: dict[str, Any] = {}
NO_STEPS: tuple[dict[str, Any], ...] = ()
NO_ROWS: tuple[Row, ...] = ()
NO_PREDICTIONS: dict[str, Prediction] = {}


@dataclass(frozen=True, slots=True)
class ShownEvaluation:
    """One evaluation of a run as its page shows it.

    Attributes:
        name: its folder's name.
        metrics: metrics.json, empty where there is none.
        meta: predictions.meta.json, the settings of generation.
        images: folder that image paths start at; None where it is not known.
        samples: the samples file that was evaluated; None where it is not known.
        family: how the model reads images and writes boxes; None where it is not known.
        prompt: the words around the question; None where they are not known.
        rows: rows.jsonl: the judged samples, in the samples' order.
        predictions: what the model wrote, by sample id; empty where that is not at hand.
    """

    name: str
    metrics: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    images: Path | None = None
    samples: Path | None = None
    family: Family | None = None
    prompt: Prompt | None = None
    rows: tuple[Row, ...] = ()
    predictions: Mapping[str, Prediction] = field(default_factory=dict)

    @property
    def ranked(self) -> bool:
        """Whether boxes have confidences of their own: by any `--confidence` but `constant`."""
        stated = mapping(self.metrics.get("protocol")).get("confidence")
        return stated is not None and stated != "constant"

    @property
    def completions(self) -> Iterator[Completion]:
        """What rewards see of each row, as it was read when it was judged."""
        opened = bool(self.meta.get("opens_thought"))
        for row in self.rows:
            found = self.predictions.get(row.id)
            text = as_read(found.completion, opened) if found else ""
            yield Completion(text, row.parsed, row.n_tokens)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run folder's content.

    Attributes:
        path: the folder.
        facts: run.json.
        environment: environment.json.
        recipe: text of recipe.yaml.
        steps: rows of metrics.jsonl, in file order.
        evaluations: by name, in run.json's order.
        comparisons: compare.json: "before|after" -> what `boxrl.evaluate.compare` says.
        missing: a sentence for everything that a whole run has and this one lacks.
        benchmark: the table of benchmark.json; None of other runs.
        is_evaluation: it is one evaluation by itself.
    """

    path: Path
    facts: dict[str, Any]
    environment: dict[str, Any]
    recipe: str
    steps: tuple[dict[str, Any], ...]
    evaluations: dict[str, ShownEvaluation]
    comparisons: dict[str, Any]
    missing: tuple[str, ...]
    benchmark: BenchmarkTable | None = None
    is_evaluation: bool = False

    @property
    def name(self) -> str:
        """The run's name, or its folder's."""
        return visible(str(self.facts.get("name") or self.path.resolve().name))

    @property
    def listed_pairs(self) -> list[tuple[str, str]]:
        """(before, after) names of evaluations that belong together."""
        pairs = self.facts.get("pairs")
        named = pairs if isinstance(pairs, list) else []
        return [(str(p[0]), str(p[1])) for p in named if isinstance(p, list) and len(p) == 2]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Those of `listed_pairs` of which both evaluations have rows."""
        answered = {name for name, found in self.evaluations.items() if found.rows}
        return [pair for pair in self.listed_pairs if answered.issuperset(pair)]


class _Reader:
    """Reads parts of one folder and keeps a list of what could not be read."""

    def __init__(self, path: Path, images: Path | None) -> None:
        self.path = path
        self.images = images
        self.missing: list[str] = []
        self.trained = True

    def part(self, name: str, purpose: str, read: Callable[[Path], T], default: T) -> T:
        """The part, or `default` and a line in `missing`."""
        path = self.path / name
        if not path.exists() and name in TRAINING_PARTS and not self.trained:
            return default
        if not path.exists():
            self.missing.append(f"{name} is missing: {purpose}")
            return default
        return self.attempt(name, lambda: read(check_regular(inside(self.path, path))), default)

    def attempt(self, name: str, read: Callable[[], T], default: T) -> T:
        """What `read` gives, or `default` and a line in `missing` that starts with the name."""
        try:
            return read()
        except DisagreementError:
            raise
        except (BoxrlError, OSError, ValueError) as error:
            words = _without(error, self.path)
            if not any(line.endswith(words) for line in self.missing):  # one damage, one line
                self.missing.append(f"{name} cannot be read: {words}")
            return default


def read_run(path: Path, images: Path | None = None) -> RunFolder:
    """Everything that a run folder holds.

    Args:
        path: the folder.
        images: where images lie that the run names outside of itself, and that are not known to
            be those that were evaluated; or that are not where it names them, or not named.

    Raises:
        UsageError: no such folder, or it holds files but nothing of a run.
        DataError: an evaluation of it contradicts itself.
    """
    found, reader = find_run(path), _Reader(path, images)
    if found.is_evaluation:
        return _lone_evaluation(reader, found)
    facts = reader.part("run.json", "name, method and pairs are unknown", read_facts, NO_FACTS)
    status = facts.get("status")
    if status not in (None, "done"):
        reader.missing.append(f"The run is {status}: figures may still change")
    reader.trained = not facts or facts.get("method") in METHODS
    steps = reader.part("metrics.jsonl", "no training curves", _read_steps, NO_STEPS)
    environment = reader.part(
        "environment.json", "versions and commit are unknown", read_json_object, NO_FACTS
    )
    recipe = reader.part("recipe.yaml", "settings are unknown", read_text, "")
    evaluations = _read_evaluations(reader, facts, found)
    return RunFolder(
        path=path,
        facts=facts,
        environment=environment,
        recipe=recipe,
        steps=steps,
        evaluations=evaluations,
        comparisons=_read_comparisons(reader, facts, evaluations),
        benchmark=_read_benchmark(reader, facts, evaluations),
        missing=tuple(reader.missing),
    )


def _lone_evaluation(reader: _Reader, found: FoundRun) -> RunFolder:
    """The folder of one predictions file, as boxrl predict and evaluate leave it."""
    (name,) = found.evaluations
    evaluation = _read_evaluation(reader, name, "")
    facts = {"name": name, "model": evaluation.meta.get("model")}
    return RunFolder(
        reader.path, facts, {}, "", (), {name: evaluation}, {}, tuple(reader.missing),
        is_evaluation=True,
    )  # fmt: skip


def _read_comparisons(
    reader: _Reader, facts: dict[str, Any], evaluations: Mapping[str, ShownEvaluation]
) -> dict[str, Any]:
    """compare.json, where run.json lists pairs; no other run has anything to compare.

    Comparisons of evaluations that were made anew since are left out.
    """
    if not facts.get("pairs"):
        return NO_FACTS
    read = reader.part(
        "compare.json", "differences have no paired intervals", read_json_object, NO_FACTS
    )
    kept = {}
    for pair, compared in read.items():
        names = pair.split("|")
        sides = [evaluations[name].metrics for name in names if name in evaluations]
        if len(sides) != 2 or is_comparison_of(mapping(compared), *sides):
            kept[pair] = compared
            continue
        folders = " ".join(f"RUN/evals/{name}" for name in names)
        reader.missing.append(
            f"compare.json is of other figures than {' and '.join(names)} have now: no paired "
            f"intervals for them; boxrl compare {folders} has them"
        )
    return kept


def _read_benchmark(
    reader: _Reader, facts: dict[str, Any], evaluations: Mapping[str, ShownEvaluation]
) -> BenchmarkTable | None:
    """The table of benchmark.json, where run.json says that this is a benchmark's run.

    None where a part was evaluated anew since.
    """
    if facts.get("method") != "benchmark" or not (reader.path / "benchmark.json").exists():
        return None
    table = reader.part("benchmark.json", "no published results", read_benchmark, None)
    for name, figures in table.parts.items() if table else ():
        if name in evaluations and not are_figures_of(figures, evaluations[name].metrics):
            reader.missing.append(
                f"benchmark.json is of other figures than {name} has now: no published results; "
                "run boxrl benchmark run again"
            )
            return None
    return table


def _read_evaluations(
    reader: _Reader, facts: dict[str, Any], found: FoundRun
) -> dict[str, ShownEvaluation]:
    """Evaluations that run.json names, then those that stand in evals/ without being named."""
    named = facts.get("evals")
    listed = [name for name in named if _is_name(name)] if isinstance(named, list) else []
    names = list(dict.fromkeys([*listed, *found.evaluations]))
    if not names:
        reader.missing.append("evals is empty: no metrics and no gallery")
    return {name: _read_evaluation(reader, name, f"evals/{name}/") for name in names}


def _is_name(value: object) -> bool:
    """Whether it can be the name of a folder in evals/; others would lead out of it."""
    return isinstance(value, str) and value not in ("", "..") and Path(value).name == value


def _read_evaluation(reader: _Reader, name: str, base: str) -> ShownEvaluation:
    """The evaluation in RUN/BASE; BASE is empty or ends with a slash."""
    folder = reader.path / base
    if not folder.is_dir():
        reader.missing.append(f"evals/{name} is missing: not evaluated yet")
        return ShownEvaluation(name)
    metrics = reader.part(f"{base}{METRICS_FILE}", "no metrics for it", read_metrics, NO_FACTS)
    path = recorded_file(folder, metrics, "predictions")[0] or folder / PREDICTIONS_FILE
    rows = _read_rows(reader, base, metrics)
    reader.attempt(name, lambda: check_agreement(folder, metrics, rows), None)
    meta, predictions = NO_FACTS, NO_PREDICTIONS
    digest = recorded_file(folder, metrics, "predictions")[1]
    if not path.exists() or is_readable(folder, path, digest):
        meta = _read_meta(reader, base, folder, path)
        predictions = _read_predictions(reader, base, path, rows)
    else:
        reader.missing.append(f"{base}{path.name} leads out of the run and is not read")
    samples = _find_samples(folder, metrics, meta)
    images = _find_images(reader, name, folder, metrics, meta, rows)
    prompt = _read_prompt(reader, name, folder, meta)
    without = sum(not (images and (images / row.image).is_file()) for row in rows)
    if without:
        reader.missing.append(f"{name}: {without} of {len(rows)} images are missing")
    family = _family(meta, mapping(metrics.get("protocol")), path) if rows else None
    return ShownEvaluation(name, metrics, meta, images, samples, family, prompt, rows, predictions)


def _find_samples(folder: Path, metrics: dict[str, Any], meta: dict[str, Any]) -> Path | None:
    """The samples file, where it is that which was evaluated or lies in the run."""
    path = locate(folder, metrics, meta, "samples")
    known = (recorded_file(folder, where, "samples")[1] for where in (metrics, meta))
    readable = path is not None and any(is_readable(folder, path, digest) for digest in known)
    return path if readable else None


def _read_meta(reader: _Reader, base: str, folder: Path, predictions: Path) -> dict[str, Any]:
    """The settings beside the predictions; where these lie in the run, no link out of it."""

    def read() -> dict[str, Any]:
        if is_inside(run_of(folder), predictions):
            inside(run_of(folder), meta_path(predictions))
        return read_settings(predictions)

    return reader.attempt(f"{base}{meta_path(predictions).name}", read, NO_FACTS)


def _find_images(
    reader: _Reader,
    name: str,
    folder: Path,
    metrics: dict[str, Any],
    meta: dict[str, Any],
    rows: Sequence[Row],
) -> Path | None:
    """The folder of images, where they may be shown: no page shows what only its reader has."""
    images = locate(folder, metrics, meta, "images")
    own = images is not None and is_inside(run_of(folder), images)
    if reader.images is not None and not (own and images and images.is_dir()):
        return reader.images
    if images is None or own:
        return images
    known = {recorded_file(folder, where, "images")[1] for where in (metrics, meta)} - {None}
    if known and hash_images(images, [row.sample for row in rows]) in known:
        return images
    reader.missing.append(
        f"{name}: its images lie outside of the run and are not shown, because they are not known "
        f"to be those that were evaluated; --images {images} shows them"
    )
    return None


def _read_prompt(reader: _Reader, name: str, folder: Path, meta: dict[str, Any]) -> Prompt | None:
    """The prompt by name, or from a file inside the run; None where it is not known."""
    prompt = str(meta.get("prompt"))
    is_file = prompt.endswith((".yaml", ".yml"))
    path = find_path(folder, prompt, meta.get("cwd"))
    if is_file and not is_inside(run_of(folder), path):
        reader.missing.append(f"{name}: its prompt file lies outside of the run and is not shown")
        return None
    try:
        return build_prompt(str(path) if is_file else prompt)
    except UsageError:
        return None


def _read_rows(reader: _Reader, base: str, metrics: dict[str, Any]) -> tuple[Row, ...]:
    """The judged rows of an evaluation; predictions that were never judged are, as far as they go.

    Those are what a run is still writing, or what 0.1.0 wrote.
    """
    folder = reader.path / base

    def read(_: Path) -> tuple[Row, ...]:
        if has_rows(folder):
            return read_rows(folder / ROWS_FILE)
        return judge_predictions(folder, metrics, unfinished=not metrics).rows

    name = ROWS_FILE if (folder / ROWS_FILE).is_file() else PREDICTIONS_FILE
    return reader.part(f"{base}{name}", "no gallery for it", read, NO_ROWS)


def _read_predictions(
    reader: _Reader, base: str, path: Path, rows: tuple[Row, ...]
) -> dict[str, Prediction]:
    """What the model wrote, where there are rows to show it with."""

    def read() -> dict[str, Prediction]:
        found = read_predictions(check_regular(path))
        check_predictions(reader.path / base, rows, found)
        return found

    name = f"{base}{path.name}"
    if rows and not path.exists():
        if not any(line.startswith(name) for line in reader.missing):
            reader.missing.append(f"{name} is missing: no completions for it")
        return NO_PREDICTIONS
    return reader.attempt(name, read, NO_PREDICTIONS) if rows else NO_PREDICTIONS


def _family(meta: dict[str, Any], protocol: Mapping[str, Any], path: Path) -> Family | None:
    """The family that the predictions were made with; None where nothing names a known one."""
    try:
        return settings_family(meta, meta.get("family") or protocol.get("family"), path.name)
    except BoxrlError:
        return None


def _read_steps(path: Path) -> tuple[dict[str, Any], ...]:
    """Rows of metrics.jsonl; a last line that is still being written is left out."""
    rows = []
    for number, line in read_lines(path):
        if isinstance(line, DataError):
            raise line
        if line.endswith(b"\n"):
            rows.append(parse_json_object(line, f"{path}:{number}"))
    return tuple(row for row in rows if is_whole(row.get("step")))


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a JSON object, else an empty one: what others wrote may be anything."""
    return value if isinstance(value, Mapping) else {}


def _without(error: Exception, run: Path) -> str:
    """The error's message with paths inside the run shortened; the page may be sent away."""
    return str(error).replace(f"{run}/", "")
