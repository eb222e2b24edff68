"""Section Gallery: samples and judged rows as compact JSON for the page's script."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from boxrl.data.predictions import Prediction
from boxrl.data.samples import image_path
from boxrl.errors import DataError
from boxrl.evaluate.rows import Row
from boxrl.guard.texts import visible
from boxrl.prompts import render_messages
from boxrl.report.images import fits
from boxrl.report.reading import ShownEvaluation
from boxrl.report.reward_parts import Scored, score_all
from boxrl.report.thinking import extract_thinking
from boxrl.types import Completion, Sample, Target

MAX_LABEL = 200
"""Characters of a label that a page shows."""


class Gallery:
    """Samples, label names and evaluations, numbered as they are added.

    The page's script reads `as_json`; its short keys are explained where they are written.
    """

    def __init__(self, scores: Sequence[Scored]) -> None:
        self._scores = scores
        self._labels: dict[str, int] = {}
        self._samples: dict[object, int] = {}
        self._sample_rows: list[dict[str, Any]] = []
        self._evaluations: list[dict[str, Any]] = []
        self.image_paths: list[Path] = []
        self.misfits = 0
        self._images: dict[Path, int] = {}

    def add(self, title: str, evaluation: ShownEvaluation) -> int:
        """Add an evaluation's rows; returns its number, by which views name it."""
        prompts = _prompts(evaluation)
        start, end = shared_ends(prompts)
        rows = {}
        for row, written, prompt in zip(
            evaluation.rows, evaluation.completions, prompts, strict=True
        ):
            own = {"prompt": prompt[len(start) : len(prompt) - len(end)]}
            shown = self._row(row, written, evaluation.predictions.get(row.id))
            rows[self._sample(evaluation, row)] = without_none(shown) | own
        self._evaluations.append({"title": title, "prompt": (start, end), "rows": rows})
        return len(self._evaluations) - 1

    def as_json(self, views: Sequence[tuple[int, ...]], pictures: Sequence[str | None]) -> str:
        """Everything as JSON that may stand inside a `<script type="application/json">`.

        Args:
            views: what can be shown side by side: numbers of evaluations, left to right.
            pictures: URLs in the order of `image_paths`.
        """
        content = {
            # name, 1 for a part of the reward before it, 1 for a reward of the recipe, what it pays
            "rewards": [(s.name, int(s.part), int(s.trained), s.meaning) for s in self._scores],
            "labels": list(self._labels),
            "samples": self._sample_rows,
            "evaluations": self._evaluations,
            "views": views,
            "pictures": pictures,
        }
        return script_json(content)

    def _label(self, label: str) -> int:
        return self._labels.setdefault(visible(label, MAX_LABEL), len(self._labels))

    def _sample(self, evaluation: ShownEvaluation, row: Row) -> int:
        # Runs that hold copies of one samples file share its samples; ids alone may be chance.
        sample = row.sample
        key = (sample.id, sample.image, sample.size_wh, sample.labels, sample.objects)
        if key not in self._samples:
            self._samples[key] = len(self._sample_rows)
            self._sample_rows.append(
                without_none(
                    {
                        "id": visible(sample.id, MAX_LABEL),
                        "w": sample.width,
                        "h": sample.height,
                        "asked": [self._label(label) for label in sample.labels],
                        "question": sample.question and visible(sample.question),
                        "answer": sample.answer and visible(sample.answer),
                        # x1, y1, x2, y2, label, 1 for a crowd region
                        "targets": [
                            [*rounded(item.bbox), self._label(item.label), int(item.iscrowd)]
                            for item in sample.objects
                        ],
                        "picture": self._image(evaluation, sample),
                    }
                )
            )
        return self._samples[key]

    def _image(self, evaluation: ShownEvaluation, sample: Sample) -> int | None:
        if evaluation.images is None:
            return None
        try:
            path = image_path(evaluation.images, sample)
        except DataError:
            return None
        if not fits(path, sample.size_wh):
            self.misfits += 1
            return None
        if path not in self._images:
            self._images[path] = len(self.image_paths)
            self.image_paths.append(path)
        return self._images[path]

    def _row(self, row: Row, written: Completion, prediction: Prediction | None) -> dict[str, Any]:
        finish = prediction.finish_reason if prediction else "stop"
        thinking = extract_thinking(written.text)
        return {
            "status": row.status,
            "text": visible(prediction.completion) if prediction else "",
            "think": None if thinking is None else visible(thinking),
            # x1, y1, x2, y2, label, kind, IoU, 1 on an object that was not asked for
            "boxes": [
                [
                    *rounded(box.bbox),
                    self._label(box.label),
                    box.kind,
                    box.iou,
                    int(box.on_unasked),
                ]
                for box in row.predictions
            ],
            "missed": [place for place, item in enumerate(row.objects) if item.missed] or None,
            "said": visible(row.parse.answer, MAX_LABEL) if row.f1 is None else None,
            "ok": 1 if row.is_faultless else None,
            "score": round(row.score, 4),
            "rewards": score_all(self._scores, written, Target.from_sample(row.sample)),
            "tokens": row.n_tokens,
            "finish": None if finish == "stop" else finish,
            "error": prediction and prediction.error and visible(prediction.error),
        }


def _prompts(evaluation: ShownEvaluation) -> list[str]:
    """Each row's prompt as the model read it, images aside; empty where it is not known."""
    prompt, family = evaluation.prompt, evaluation.family
    if prompt is None or family is None:
        return [""] * len(evaluation.rows)
    return [prompt_text(render_messages(row.sample, prompt, family)) for row in evaluation.rows]


def prompt_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """What a conversation says before the answer, images aside, fit to be shown."""
    return visible("\n\n".join(_texts(messages)))


def _texts(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What a conversation says, system message first."""
    for message in messages:
        content = message["content"]
        if isinstance(content, str):
            yield content
        else:
            yield from (part["text"] for part in content if part["type"] == "text")


def script_json(content: Any) -> str:
    """JSON that may stand inside a `<script type="application/json">`."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # "</script" and "<!--" would end or change the element; "<" occurs in strings only.
    return text.replace("<", "\\u003c")


def rounded(box: Iterable[float]) -> list[float]:
    """Tenths of a pixel; whole ones without a decimal."""
    tenths = [round(float(value), 1) for value in box]
    return [int(value) if value.is_integer() else value for value in tenths]


def without_none(row: dict[str, Any]) -> dict[str, Any]:
    """The row without the keys that hold nothing."""
    return {key: value for key, value in row.items() if value is not None}


def shared_ends(texts: Sequence[str]) -> tuple[str, str]:
    """What all texts begin and end with; prompts differ in their labels only.

    >>> shared_ends(["find a cat.", "find a dog."])
    ('find a ', '.')
    """
    start = _shared_start(texts)
    return start, _shared_start([text[len(start) :][::-1] for text in texts])[::-1]


def _shared_start(texts: Sequence[str]) -> str:
    first, last = min(texts, default=""), max(texts, default="")  # they differ the soonest
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return first[: sum(1 for _ in same)]
