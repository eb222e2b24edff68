"""Samples in, predictions.jsonl out, with any engine; needs no torch.

A killed run goes on where it stopped, and its final file equals that of an uninterrupted run.
"""

from __future__ import annotations

import copy
import math
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from PIL.Image import Image

from boxrl import __version__
from boxrl.data.files import hash_file, locked
from boxrl.data.predictions import Prediction, PredictionsFile, answering_others
from boxrl.data.samples import hash_question
from boxrl.errors import DataError, UsageError
from boxrl.families.own import is_own
from boxrl.generation.questions import Questions
from boxrl.parsing import parse
from boxrl.parsing.answers import as_read
from boxrl.progress import progress_bar
from boxrl.types import SEEDS, TEMPERATURES, Asked, Sample

Keep = Callable[[Sequence[Prediction]], None]
"""Takes finished rows, in any order; those that are on disk already are dropped."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        temperature: 0 is greedy.
        top_p: mass of the likeliest tokens that are drawn from.
        max_new_tokens: longest completion.
        seed: of every draw.
        batch_size: rows that are generated together; changes no greedy result but by rounding.
            Drawn by transformers, completions repeat as long as it does.
        n: completions per sample.
        logprobs: also give each box the mean log-probability of its coordinates.
        first_tokens: also give so many of the likeliest first tokens, with their probabilities.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 1024
    seed: int = 0
    batch_size: int = 32
    n: int = 1
    logprobs: bool = False
    first_tokens: int = 0

    def __post_init__(self) -> None:
        """Refuse what no engine can do, and would do otherwise: -1 degrees are greedy to some.

        Raises:
            UsageError: a value out of its range.
        """
        least = {"temperature": 0, "max_new_tokens": 1, "seed": 0, "batch_size": 1, "n": 1}
        for key, lowest in least.items():
            value, whole = getattr(self, key), key != "temperature"
            is_number = isinstance(value, Integral if whole else Real)
            if not is_number:
                kind = "a whole number" if whole else "a number"
                raise UsageError(f"{key} {value!r:.40}; expected {kind}, {lowest} or more")
            if not lowest <= value < math.inf:
                raise UsageError(f"{key} {value!r}; expected {lowest} or more")
        if self.seed >= SEEDS:
            raise UsageError(f"seed {self.seed}; expected less than {SEEDS}")
        coldest, hottest = TEMPERATURES
        if self.temperature and not coldest <= self.temperature <= hottest:
            raise UsageError(
                f"temperature {self.temperature!r}; expected 0, which is greedy, or {coldest:g} to "
                f"{hottest:g}"
            )
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p {self.top_p!r}; expected more than 0, at most 1")

    def settings(self) -> dict[str, Any]:
        """What a prediction depends on: all but the batch size, and what is not asked for."""
        left_out = {"batch_size"} if self.first_tokens else {"batch_size", "first_tokens"}
        return {key: value for key, value in asdict(self).items() if key not in left_out}


class Draw(NamedTuple):
    """One completion to be generated: the row's id, and the sample that is asked."""

    id: str
    sample: Sample

    def seed(self, seed: int) -> int:
        """Its own random seed, 32 bits, whatever is generated beside it."""
        return zlib.crc32(f"{seed}/{self.id}".encode())


def draws(samples: Sequence[Sample], n: int) -> list[Draw]:
    """Every completion to be generated, those of a sample in a row.

    With n = 1 the ids are the samples' own; else they are `ID#0` to `ID#n-1`, so that no file of
    several draws is taken for one of single answers.
    """
    if n == 1:
        return [Draw(sample.id, sample) for sample in samples]
    return [Draw(f"{sample.id}#{k}", sample) for sample in samples for k in range(n)]


class Shown(NamedTuple):
    """Draws whose images can be shown, and those that cannot.

    Attributes:
        draws: in order.
        images: by sample id, RGB.
        failed: a row that says why for each of the others.
    """

    draws: list[Draw]
    images: dict[str, Image]
    failed: list[Prediction]


def show_images(questions: Questions, batch: Sequence[Draw]) -> Shown:
    """Read the images of a batch; one that cannot be shown costs its own rows alone."""
    shown = Shown([], {}, [])
    for draw in batch:
        try:
            if draw.sample.id not in shown.images:
                shown.images[draw.sample.id] = questions.image(draw.sample)
            shown.draws.append(draw)
        except DataError as error:
            shown.failed.append(failed_row(draw, str(error)))
    return shown


def failed_row(draw: Draw, error: str) -> Prediction:
    """The row of a draw that cannot be answered."""
    return Prediction(draw.id, "", 0, "error", error=error)


MOST_FAILED = 20
"""Rows that end in error before any is answered, after which the run stops."""

FIRST = 20
"""Answers after which it is told where none of them can be read."""


class Engine(Protocol):
    """Whatever answers questions."""

    questions: Questions

    @property
    def versions(self) -> dict[str, str]:
        """Versions and servers that rounding may depend on; recorded, not compared."""

    def run(self, wanted: Sequence[Draw], done: set[str], sampling: Sampling, keep: Keep) -> None:
        """Answer every draw of `wanted` whose id is not in `done`.

        Args:
            wanted: draws in the order of the samples, those of a sample in a row.
            done: ids of the draws that are answered.
            sampling: how to draw.
            keep: takes rows as they come.
        """


def with_questions(engine: Engine, **changes: Any) -> Engine:
    """The same loaded model, asked otherwise; `engine` itself is not changed.

    Args:
        engine: who answers.
        changes: fields of its `Questions`.
    """
    other = copy.copy(engine)
    other.questions = replace(engine.questions, **changes)
    return other


def predict(
    engine: Engine,
    samples: Sequence[Sample],
    out: Path,
    sampling: Sampling,
    facts: dict[str, Any],
    description: str = "predict",
) -> list[Prediction]:
    """Answer every sample that `out` does not hold yet; rows reach the disk as they come.

    Law: killed at any moment and called again with the same arguments, the file ends equal to
    that of one uninterrupted call: one row per draw, in the samples' order.

    Args:
        engine: who answers.
        samples: what to answer.
        out: predictions.jsonl; settings go into the .meta.json beside it.
        sampling: how completions are drawn.
        facts: what else the predictions depend on: model, samples, images.
        description: shown beside the progress bar.

    Returns:
        The rows that ended in error; the next call tries them again.

    Raises:
        UsageError: `out` was made with other settings, or answers other questions under the same
            ids, or another process is writing it.
        DataError: nothing but errors came of the first rows.
    """
    with locked(out):
        file = PredictionsFile(out, _settings(engine, sampling, facts))
        return _answer(engine, file, draws(samples, sampling.n), sampling, description)


def _answer(
    engine: Engine,
    file: PredictionsFile,
    wanted: Sequence[Draw],
    sampling: Sampling,
    description: str,
) -> list[Prediction]:
    """Generate what the file lacks and put it in order; returns the rows that ended in error."""
    asked = {draw.id: hash_question(draw.sample) for draw in wanted}
    _check_asked(file, asked)
    done = asked.keys() & file.done.keys()
    failed: list[Prediction] = []
    first: dict[str, str] = {}
    with progress_bar(description, len(wanted), len(done)) as bar:

        def keep(rows: Sequence[Prediction]) -> None:
            fresh = [row for row in rows if row.id not in file.done]
            new = [replace(row, asked=asked[row.id]) for row in fresh]
            file.append(new)
            failed.extend(row for row in new if row.finish_reason == "error")
            bar.advance(len(new))
            if len(first) < FIRST:
                first.update((row.id, row.completion) for row in new if not row.error)
                told = unread(engine.questions, wanted, first) if len(first) >= FIRST else ""
                if told:
                    bar.say(told)
            if failed:
                bar.note(f"{len(failed)} failed")
            if len(failed) >= MOST_FAILED and not file.done:
                raise DataError(
                    f"{file.path}: the first {len(failed)} completions all ended in error "
                    f"({failed[0].error}); fix this and rerun the same command"
                )

        if len(done) < len(wanted):
            began, answered = time.monotonic(), len(file.done)
            engine.run(wanted, done, sampling, keep)
            file.add_timing(time.monotonic() - began, len(file.done) - answered)
    file.arrange([draw.id for draw in wanted])
    return failed


def _check_asked(file: PredictionsFile, asked: Mapping[str, str]) -> None:
    """See that rows which are kept answer what is asked now, by id.

    Raises:
        UsageError: one does not.
    """
    kept = {key: asked[key] for key in asked if key in file.done}
    if others := answering_others(file.done, kept):
        raise UsageError(
            f"{file.path}: {len(others):,} of its rows, {others[0]!r} for one, answer other "
            "questions than the samples ask now; choose another --out, or remove these rows"
        )


def unread(questions: Questions, wanted: Sequence[Draw], completions: Mapping[str, str]) -> str:
    """Why no answer can be read, in words; "" where one can.

    Args:
        questions: how they were asked.
        wanted: what was asked.
        completions: by id of the draw.
    """
    reasons = Counter[str]()
    for draw in wanted:
        if draw.id in completions and draw.sample.task in ("detection", "grounding"):
            text = as_read(completions[draw.id], questions.thinking.opened)
            size, asked = draw.sample.size_wh, Asked.from_sample(draw.sample)
            parsed = parse(text, questions.family, size, answer_tag="optional", asked=asked)
            if parsed.readable:
                return ""
            reasons[parsed.reason] += 1
    if not reasons:
        return ""
    why = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    return (
        f"none of the first {reasons.total()} answers can be read as family "
        f"{questions.family.name} writes them ({why}): are model, family and prompt right?"
    )


def _settings(engine: Engine, sampling: Sampling, facts: dict[str, Any]) -> dict[str, Any]:
    questions = engine.questions
    return (
        facts
        | questions.family.limits()
        | questions.form
        | {
            "family": questions.family.name,
            "prompt": questions.prompt.name,
            "prompt_file": _hash_own(questions.prompt.name),
            "family_file": _hash_own(questions.family.name),
            "sampling": sampling.settings(),
            "versions": {"boxrl": __version__} | engine.versions,
        }
    )


def _hash_own(name: str) -> str | None:
    """Short SHA-256 of the file of a prompt or family of one's own; None of a packaged one."""
    return hash_file(Path(name))[:12] if is_own(name) else None


def batches(wanted: Sequence[Draw], size: int, done: set[str]) -> Iterator[Sequence[Draw]]:
    """Runs of `size` draws of which one at least is not done.

    The borders do not depend on what is done: a resumed run repeats the very batches of an
    uninterrupted one, and with them every rounding and every random number.
    """
    for start in range(0, len(wanted), size):
        batch = wanted[start : start + size]
        if any(draw.id not in done for draw in batch):
            yield batch
