"""A second look at every predicted box: is what it holds what it is called?

The box is drawn in red into the full image, and any engine is asked yes or no; its score is
p(yes) / (p(yes) + p(no)) of the first token.

Source: DetPO (github.com/ggare-cmu/DetPO), where it is worth two points of mAP on RF20-VL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from boxrl.data.files import write_atomic, write_json
from boxrl.data.predictions import Prediction, meta_path, render_prediction
from boxrl.errors import DataError
from boxrl.families import Family
from boxrl.generation.predict import Engine, Sampling, draws, predict, with_questions
from boxrl.parsing import parse
from boxrl.parsing.answers import as_read
from boxrl.prompts import Prompt
from boxrl.types import Asked, Detections, Sample

QUESTION = (
    "Is the object in the red box '{label}', whole inside the box and alone in it? "
    "Answer with one word: Yes or No."
)
LIKELY = 20
"""First tokens that are looked at; servers give no more."""

ASKS: Mapping[str, Any] = {"max_new_tokens": 1, "first_tokens": LIKELY}
"""How: one token, by its alternatives."""

UNDECIDED = 0.5
"""Score of a box where neither yes nor no is among them."""


class Verified(NamedTuple):
    """What came of it.

    Attributes:
        boxes: how many were asked about.
        undecided: of them, those with neither yes nor no among the likely answers.
        failed: rows that ended in error; the same call tries them again.
    """

    boxes: int
    undecided: int
    failed: list[Prediction]


def verify_predictions(
    engine: Engine,
    samples: Sequence[Sample],
    predictions: Mapping[str, Prediction],
    family: Family,
    settings: Mapping[str, Any],
    out: Path,
    facts: Mapping[str, Any],
    batch_size: int = 32,
) -> Verified:
    """Ask about every box and write the predictions with `box_verify`.

    The answers stand in OUT's stem + `.boxes.jsonl`; called again, what is there is not asked anew.

    Args:
        engine: who is asked.
        samples: what was asked of the model that predicted.
        predictions: its answers, by sample id.
        family: in whose frame they are.
        settings: their predictions.meta.json.
        out: the predictions file to write.
        facts: what the verification depends on: model, engine, the predictions' hash.
        batch_size: questions that are asked together.

    Raises:
        UsageError: `out` was begun for other predictions or with another model.
        DataError: a sample has no prediction.
    """
    opened = bool(settings.get("opens_thought"))
    questions = list(_questions(samples, predictions, family, opened))
    asks, marking = Sampling(**ASKS, batch_size=batch_size), as_verifier(engine)
    answers = out.with_name(f"{out.stem}.boxes.jsonl")
    failed = predict(marking, questions, answers, asks, {**facts, "question": QUESTION}, "verify")
    if failed:
        return Verified(len(questions), 0, failed)
    from boxrl.data.predictions import read_predictions

    looked = read_predictions(answers)
    scores = {item.id: _score_of(looked[item.id]) for item in questions}
    with write_atomic(out) as handle:
        for sample in samples:
            row = predictions[sample.id]
            mine = _ids(sample, scores)
            known = tuple([_surely(scores[key]) for key in mine])
            handle.write(render_prediction(replace(row, box_verify=known)) + "\n")
    described = {key: facts[key] for key in ("model", "engine") if key in facts}
    limits = {"min_pixels": None, "max_pixels": None} | engine.questions.family.limits()
    limits.pop("factor", None)
    verified = {**described, "family": engine.questions.family.name, **limits}
    write_json(meta_path(out), {**settings, "verify": verified})
    undecided = sum(value is None for value in scores.values())
    return Verified(len(questions), undecided, [])


def as_verifier(engine: Engine) -> Engine:
    """The same loaded model, shown each sample's marked box and asked its question alone."""
    return with_questions(engine, prompt=Prompt("verify", ""), marked=True)


def score(first_tokens: Mapping[str, float]) -> float | None:
    """p(yes) / (p(yes) + p(no)), over every way that a token begins either word.

    Args:
        first_tokens: token and probability; what is not listed counts as 0.

    Returns:
        In [0, 1]; None where neither is listed.

    >>> score({"Yes": 0.6, " yes": 0.1, "No": 0.3})
    0.7
    """
    yes, no = (_mass(first_tokens, word) for word in ("yes", "no"))
    return yes / (yes + no) if yes + no else None


def _mass(first_tokens: Mapping[str, float], word: str) -> float:
    folded = ((text.strip().casefold(), value) for text, value in first_tokens.items())
    return sum(value for text, value in folded if text and word.startswith(text))


def verify_boxes(
    engine: Engine, asked: Sequence[tuple[Sample, Detections]], batch_size: int = 32
) -> list[tuple[float, ...]]:
    """P(yes) of each box, .5 where the answer is neither; nothing is written.

    Args:
        engine: who is asked, see `as_verifier`.
        asked: samples, each with boxes in its original pixels; a sample may come several times.
        batch_size: questions that are asked together.

    Raises:
        DataError: a question ended in error.
    """
    questions: dict[tuple[Any, ...], Sample] = {}
    keys: list[list[tuple[Any, ...]]] = []
    for sample, boxes in asked:  # draws of a group repeat boxes: each is looked at once
        keys.append([])
        for question in box_questions(sample, boxes):
            key = (question.image, *question.meta["marked"], *question.labels)
            questions.setdefault(key, replace(question, id=f"{question.id} {len(questions)}"))
            keys[-1].append(key)
    rows: dict[str, Prediction] = {}
    wanted = draws(list(questions.values()), 1)
    sampling = Sampling(**ASKS, batch_size=batch_size)
    engine.run(wanted, set(), sampling, lambda found: rows.update({row.id: row for row in found}))
    for row in rows.values():
        if row.error:
            raise DataError(f"verifier: question {row.id!r} ended in error: {row.error}")
    known = {key: _surely(_score_of(rows[item.id])) for key, item in questions.items()}
    return [tuple([known[key] for key in mine]) for mine in keys]


def _score_of(row: Prediction) -> float | None:
    return score(row.first_tokens or {})


def _surely(found: float | None) -> float:
    return UNDECIDED if found is None else found


def _questions(
    samples: Sequence[Sample],
    predictions: Mapping[str, Prediction],
    family: Family,
    opened: bool,
) -> Iterator[Sample]:
    """A question per predicted box, see `box_questions`."""
    for sample in samples:
        row = predictions.get(sample.id)
        if row is None:
            raise DataError(f"sample {sample.id!r} has no prediction; run boxrl predict first")
        text = as_read(row.completion, opened)
        asked = Asked.from_sample(sample)
        found = parse(text, family, sample.size_wh, row.input_size_wh, "optional", asked)
        yield from box_questions(sample, found.detections)


def box_questions(sample: Sample, boxes: Detections) -> Iterator[Sample]:
    """One yes-or-no question per box; ids are the sample's and the box's place.

    Args:
        sample: whose image is shown, the box in `meta.marked` drawn into it.
        boxes: in original pixels.
    """
    for place, (bbox, label) in enumerate(zip(boxes.boxes.tolist(), boxes.labels, strict=True)):
        yield replace(
            sample,
            id=f"{sample.id}@{place}",
            task="counting",
            labels=(label,),
            objects=(),
            question=QUESTION.format(label=label),
            answer="Yes",
            meta={"marked": bbox},
        )


def _ids(sample: Sample, scores: Mapping[str, Any]) -> list[str]:
    """Ids of the sample's boxes, in order."""
    ids, place = [], 0
    while (key := f"{sample.id}@{place}") in scores:
        ids.append(key)
        place += 1
    return ids
