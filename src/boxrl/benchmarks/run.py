"""A benchmark from its archive's files to its table: convert, answer, evaluate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from boxrl.benchmarks.intervals import SET_SEED, mean_intervals
from boxrl.benchmarks.odinw_qwen import PROMPT, QWEN, summarize_qwen
from boxrl.benchmarks.outcome import Outcome
from boxrl.benchmarks.record import Benchmark
from boxrl.benchmarks.rex_pointing import REX_POINTING, summarize_pointing
from boxrl.benchmarks.rf_vl import INSTRUCTIONS, with_instructions
from boxrl.benchmarks.samples import build_samples
from boxrl.benchmarks.summary import evaluate_parts, summarize_benchmark
from boxrl.benchmarks.tables import describe
from boxrl.data.files import write_atomic, write_json
from boxrl.data.predictions import Prediction, meta_path, render_prediction
from boxrl.data.samples import read_samples, render_sample, write_samples
from boxrl.engines.answers import AnswerOptions, answer_samples
from boxrl.errors import DataError, UsageError
from boxrl.evaluate import Evaluation
from boxrl.evaluate.cost import Price
from boxrl.evaluate.detectors import ranked_by, read_answers
from boxrl.evaluate.files import settings_family, write_evaluation
from boxrl.evaluate.judging import Confidence
from boxrl.evaluate.protocol import how_asked, how_resampled, shared_protocol
from boxrl.metrics.intervals import RESAMPLES
from boxrl.types import Sample


def run_benchmark(
    benchmark: Benchmark,
    root: Path,
    out: Path,
    answers: AnswerOptions | Path,
    *,
    family: str | None = None,
    mode: str | None = None,
    limit: int | None = None,
    allow_missing: bool = False,
    confidence: Confidence = "constant",
    nms: float | None = None,
    protocol: str | None = None,
    resamples: int = RESAMPLES,
    price: Price | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Run a benchmark into a run folder, or go on there.

    Args:
        benchmark: which one.
        root: the data root, see `build_samples`.
        out: the run folder; gets samples.jsonl, predictions.jsonl, benchmark.json and an
            evaluation per part.
        answers: how samples are answered, or a file of predictions, which is scored as it is.
        family: name of the family, where the predictions do not say it.
        mode: which labels are asked for, see `build_samples`.
        limit: at most so many samples of each part.
        allow_missing: run the parts that are there where some are not.
        confidence: what ranks boxes, see `evaluate`.
        nms: see `evaluate`.
        protocol: one of the benchmark's others, for its summary; None is boxrl's.
        resamples: of the bootstrap; 0 leaves intervals out.
        price: of a million prompt tokens and a million completion tokens.
        tell: hears of every part whose files are not there, before anything is answered.

    Raises:
        UsageError: nothing of it lies under the root, or `out` holds answers to other questions.
        DataError: a file is damaged, the predictions are for other samples, or some answers ended
            in error.
    """
    answers = _by_own_prompt(benchmark, _by_protocol(benchmark, protocol, answers))
    samples, missing = build_samples(benchmark, root, mode, limit, allow_missing)
    if protocol == INSTRUCTIONS:
        samples = with_instructions(samples, root)
    for name, reason in missing.items():
        tell(f"left out: {name}: {reason}")
    _check_same_samples(out, samples)
    write_samples(out / "samples.jsonl", samples)
    path = answers if isinstance(answers, Path) else out / "predictions.jsonl"
    if isinstance(answers, AnswerOptions):
        answered = answer_samples(answers, samples, out / "samples.jsonl", root, path)
        if answered.failed:
            raise DataError(f"{path}: {answered.failure}")
    settings, predictions = read_answers(path, samples)
    known = settings_family(settings, family, str(path))
    parts: dict[str, Evaluation] = {}
    intervals: dict[str, list[float]] = {}
    asked: dict[str, Any] = how_asked(samples, settings, known)
    if benchmark is REX_POINTING:
        summary, intervals = summarize_pointing(
            samples, predictions, known, resamples, bool(settings.get("opens_thought"))
        )
    else:
        parts = evaluate_parts(
            samples, predictions, known, settings=settings, resamples=resamples,
            confidence=ranked_by(path, confidence), nms=nms, price=price,
        )  # fmt: skip
        asked = shared_protocol(parts.values())
        if protocol == QWEN:
            summary = summarize_qwen(benchmark, samples, predictions, known)
        else:
            summary = summarize_benchmark(benchmark, samples, parts, root)
            intervals = mean_intervals(benchmark, parts, resamples)
    if limit:
        asked["limit"] = f"the first {limit:,} samples of each part"
    if intervals:
        asked["intervals"] = how_resampled(resamples, SET_SEED)
    outcome = Outcome(benchmark, summary, parts, missing, protocol, intervals, asked, len(samples))
    settings |= {"images": str(root.resolve()), "family": known.name}
    write_json(out / "benchmark.json", describe(outcome))
    for name, part in parts.items():
        mine = [sample for sample in samples if sample.meta["part"] == name]
        _write_part(out, name, part, mine, predictions, settings)
    facts = {"name": benchmark.name, "method": "benchmark", "model": settings.get("model")}
    facts |= {"status": "done", "evals": list(parts), "pairs": []}
    write_json(out / "run.json", facts)
    return outcome


def _by_protocol(
    benchmark: Benchmark, protocol: str | None, answers: AnswerOptions | Path
) -> AnswerOptions | Path:
    """The options with the protocol's own prompt.

    Raises:
        UsageError: the benchmark has no such protocol, or another prompt is asked for.
    """
    if protocol is None:
        return answers
    if protocol not in benchmark.protocols:
        known = ", ".join(benchmark.protocols) or "none"
        raise UsageError(f"{benchmark.name}: unknown protocol {protocol!r}; protocols: {known}")
    if isinstance(answers, Path) or protocol != QWEN:
        return answers
    if answers.prompt not in ("standard", PROMPT):  # the first is what nobody asked for
        raise UsageError(f"--protocol {protocol} asks by prompt {PROMPT}, not {answers.prompt!r}")
    return replace(answers, prompt=PROMPT)


def _by_own_prompt(benchmark: Benchmark, answers: AnswerOptions | Path) -> AnswerOptions | Path:
    """The options with the benchmark's own prompt, where it has one and no other is asked for."""
    if isinstance(answers, Path) or benchmark.prompt is None or answers.prompt != "standard":
        return answers
    return replace(answers, prompt=benchmark.prompt)


def _check_same_samples(out: Path, samples: Sequence[Sample]) -> None:
    """Refuse answers that an earlier call left there to other questions of the same ids.

    Raises:
        UsageError: the folder holds another mode, or other data.
    """
    if not ((out / "predictions.jsonl").is_file() and (out / "samples.jsonl").is_file()):
        return
    earlier = {sample.id: render_sample(sample) for sample in read_samples(out / "samples.jsonl")}
    for sample in samples:
        if earlier.get(sample.id, line := render_sample(sample)) != line:
            raise UsageError(
                f"{out}: holds answers to other questions (sample {sample.id!r} differs: another "
                "--mode, or other data); choose another --out"
            )


def _write_part(
    out: Path,
    name: str,
    part: Evaluation,
    samples: Sequence[Sample],
    predictions: Mapping[str, Prediction],
    settings: Mapping[str, Any],
) -> None:
    """The evaluation folder of one part, with its own samples and predictions."""
    folder = out / "evals" / name
    write_samples(folder / "samples.jsonl", samples)
    with write_atomic(folder / "predictions.jsonl") as handle:
        handle.writelines(render_prediction(predictions[s.id]) + "\n" for s in samples)
    located = {"samples": f"evals/{name}/samples.jsonl"}
    write_json(meta_path(folder / "predictions.jsonl"), {**settings, **located})
    write_evaluation(folder, part, samples=folder / "samples.jsonl")
