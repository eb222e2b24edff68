"""Run folders, read as far as they go: whatever is missing or damaged is named, not fatal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

from boxrl.data.files import is_whole
from boxrl.data.predictions import Prediction, meta_path, read_predictions
from boxrl.data.samples import read_samples
from boxrl.errors import BoxrlError, DataError, UsageError
from boxrl.evaluate.files import settings_family
from boxrl.evaluate.rows import Confidence, Question, box_confidences, judge_completion
from boxrl.evaluate.rows import Row as JudgedRow
from boxrl.families import Family
from boxrl.guard.files import parse_json_object, read_json_object
from boxrl.parsing import AnswerTag, parse
from boxrl.report.box_errors import Verdict, judge_boxes
from boxrl.report.text import visible
from boxrl.types import Asked, Completion, Parsed, Sample

T = TypeVar("T")
RUN_PARTS = ("run.json", "metrics.jsonl", "evals")
EVALUATION_PARTS = ("predictions.jsonl", "metrics.json")
TRAINING_PARTS = ("metrics.jsonl", "recipe.yaml", "environment.json")
"""What a run that trains nothing, such as a benchmark, need not have."""

METHODS = ("grpo", "sft")

NO_FACTS: dict[str, Any] = {}
NO_STEPS: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One sample with what a model said about it.

    Attributes:
        sample, prediction: as on disk.
        completion: the prediction's text, read.
        verdict: what became of its boxes.
        judged: what `boxrl evaluate` makes of it.
    """

    sample: Sample
    prediction: Prediction
    completion: Completion
    verdict: Verdict
    judged: JudgedRow

    @property
    def score(self) -> float:
        """The reward `f1`, or 0 or 1 for a question whose answer is not boxes."""
        f1 = self.judged.f1
        return float(bool(self.judged.correct)) if f1 is None else f1

    @property
    def parsed(self) -> Parsed:
        """What the completion says."""
        return self.completion.parsed


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One folder of evals/: a model's answers to one samples file.

    Attributes:
        name: the folder's name.
        metrics: metrics.json, empty where there is none.
        meta: predictions.meta.json, the settings of generation.
        images: folder that image paths start at; None where it is not known.
        family: how the model reads images and writes boxes; None where it is not known.
        rows: samples that have a prediction, in the samples' order.
    """

    name: str
    metrics: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    images: Path | None = None
    family: Family | None = None
    rows: tuple[Row, ...] = ()

    @property
    def ranked(self) -> bool:
        """Whether boxes have confidences of their own: by `--confidence order` or `logprob`."""
        return bool(mapping(self.metrics.get("protocol")).get("confidence") in ("order", "logprob"))


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
    """

    path: Path
    facts: dict[str, Any]
    environment: dict[str, Any]
    recipe: str
    steps: tuple[dict[str, Any], ...]
    evaluations: dict[str, Evaluation]
    comparisons: dict[str, Any]
    missing: tuple[str, ...]

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

    def __init__(self, path: Path) -> None:
        self.path = path
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
        try:
            return read(path)
        except (BoxrlError, OSError, ValueError) as error:
            self.missing.append(f"{name} cannot be read: {_without(error, self.path)}")
            return default


def read_run(path: Path) -> RunFolder:
    """Everything that a run folder holds.

    Raises:
        UsageError: no such folder, or it holds files but nothing of a run.
    """
    if not path.is_dir():
        raise UsageError(f"{path}: no such run folder")
    held = {name for name in (*RUN_PARTS, *EVALUATION_PARTS) if (path / name).exists()}
    if any(path.iterdir()) and not held:
        known = ", ".join((*RUN_PARTS, *EVALUATION_PARTS))
        raise UsageError(f"{path}: holds no run; expected any of {known} in it")
    reader = _Reader(path)
    if held and not held.intersection(RUN_PARTS):
        return _lone_evaluation(reader)
    facts = reader.part("run.json", "name, method and pairs are unknown", _read_object, NO_FACTS)
    status = facts.get("status")
    if status not in (None, "done"):
        reader.missing.append(f"The run is {status}: figures may still change")
    reader.trained = not facts or facts.get("method") in METHODS
    steps = reader.part("metrics.jsonl", "no training curves", _read_steps, NO_STEPS)
    return RunFolder(
        path=path,
        facts=facts,
        environment=reader.part(
            "environment.json", "versions and commit are unknown", _read_object, NO_FACTS
        ),
        recipe=reader.part("recipe.yaml", "settings are unknown", _read_text, ""),
        steps=steps,
        evaluations=_read_evaluations(reader, facts),
        comparisons=_read_comparisons(reader, facts),
        missing=tuple(reader.missing),
    )


def _lone_evaluation(reader: _Reader) -> RunFolder:
    """The folder of one predictions file, as boxrl predict and evaluate leave it."""
    name = reader.path.resolve().name
    evaluation = _read_evaluation(reader, name, ".")
    facts = {"name": name, "model": evaluation.meta.get("model")}
    return RunFolder(reader.path, facts, {}, "", (), {name: evaluation}, {}, tuple(reader.missing))


def _read_comparisons(reader: _Reader, facts: dict[str, Any]) -> dict[str, Any]:
    """compare.json, where run.json lists pairs; no other run has anything to compare."""
    if not facts.get("pairs"):
        return NO_FACTS
    return reader.part(
        "compare.json", "differences have no paired intervals", _read_object, NO_FACTS
    )


def _read_evaluations(reader: _Reader, facts: dict[str, Any]) -> dict[str, Evaluation]:
    """Evaluations that run.json names, then those that stand in evals/ without being named."""
    folder = reader.path / "evals"
    named = facts.get("evals")
    listed = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    found = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    names = list(dict.fromkeys([*listed, *found]))
    if not names:
        reader.missing.append("evals is empty: no metrics and no gallery")
    return {name: _read_evaluation(reader, name, f"evals/{name}") for name in names}


def _read_evaluation(reader: _Reader, name: str, base: str) -> Evaluation:
    if not (reader.path / base).is_dir():
        reader.missing.append(f"{base} is missing: not evaluated yet")
        return Evaluation(name)
    metrics = reader.part(f"{base}/metrics.json", "no metrics for it", _read_object, NO_FACTS)
    protocol = mapping(metrics.get("protocol"))

    def read(path: Path) -> Evaluation:
        meta = _read_object(meta_path(path))
        family = settings_family(meta, meta.get("family") or protocol.get("family"), path.name)
        rule = _rule(protocol)
        rows = _judge_all(reader.path, path, meta, family, rule)
        images = _inside(reader.path, str(meta["images"])) if meta.get("images") else None
        without = sum(not (images and (images / row.sample.image).is_file()) for row in rows)
        if without:
            reader.missing.append(f"{base}: {without} of {len(rows)} images are missing")
        return Evaluation(name, metrics, meta, images, family, rows)

    purpose = "no gallery for it"
    return reader.part(f"{base}/predictions.jsonl", purpose, read, Evaluation(name, metrics))


class _Rule(NamedTuple):
    """How an evaluation read its answers."""

    answer_tag: AnswerTag
    confidence: Confidence


def _rule(protocol: Mapping[str, Any]) -> _Rule:
    """The rule that metrics.json states; that of `boxrl evaluate` by default where it has none."""
    rule = _Rule(protocol.get("answer_tag", "optional"), protocol.get("confidence", "constant"))
    for value, kind in zip(rule, (AnswerTag, Confidence), strict=True):
        if value not in get_args(kind):
            known = ", ".join(get_args(kind))
            raise DataError(f"metrics.json: protocol names {value!r:.40}; expected one of {known}")
    return rule


def _judge_all(
    run: Path, path: Path, meta: dict[str, Any], family: Family, rule: _Rule
) -> tuple[Row, ...]:
    """Parse and judge every prediction of a file as its evaluation did."""
    if not meta.get("samples"):
        raise DataError(f"{meta_path(path).name} names no samples file")
    samples = read_samples(_inside(run, str(meta["samples"])))
    predictions = read_predictions(path)
    return tuple(
        _judge(sample, predictions[sample.id], family, rule)
        for sample in samples
        if sample.id in predictions
    )


def _judge(sample: Sample, prediction: Prediction, family: Family, rule: _Rule) -> Row:
    size = prediction.input_size_wh
    asked = Asked.of(sample)
    parsed = parse(prediction.completion, family, sample.size_wh, size, rule.answer_tag, asked)
    completion = Completion(prediction.completion, parsed, prediction.n_tokens)
    confidence = box_confidences(prediction, parsed, rule.confidence)
    truncated = prediction.finish_reason == "length"
    judged = judge_completion(Question.of(sample), completion, confidence, truncated=truncated)
    return Row(sample, prediction, completion, judge_boxes(sample, parsed), judged)


def _inside(run: Path, name: str) -> Path:
    """A path of predictions.meta.json: relative to the run where it lies inside, else as it is."""
    return run / name if (run / name).exists() else Path(name)


def _read_steps(path: Path) -> tuple[dict[str, Any], ...]:
    """Rows of metrics.jsonl; a last line that is still being written is left out."""
    content = path.read_bytes()
    whole, _, _cut = content.rpartition(b"\n")
    lines = enumerate(whole.split(b"\n"), start=1)
    rows = [parse_json_object(line, f"{path}:{n}") for n, line in lines if line.strip()]
    return tuple(row for row in rows if is_whole(row.get("step")))


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a JSON object, else an empty one: what others wrote may be anything."""
    return value if isinstance(value, Mapping) else {}


def _read_object(path: Path) -> dict[str, Any]:
    return read_json_object(path)


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _without(error: Exception, run: Path) -> str:
    """The error's message with paths inside the run shortened; the page may be sent away."""
    return str(error).replace(f"{run}/", "")
