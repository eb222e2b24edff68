"""Several completions per sample to pass@k, best of k and self-consistency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from boxrl.data.predictions import Prediction, check_asked
from boxrl.errors import DataError, UsageError
from boxrl.evaluate.behaviour import behaviour
from boxrl.evaluate.judging import Question, Rules, judge
from boxrl.evaluate.rows import Row
from boxrl.families import Family
from boxrl.metrics.pass_at_k import best_of_k, most_agreed
from boxrl.parsing import parse
from boxrl.parsing.answers import as_read
from boxrl.rewards.localization import f1
from boxrl.types import Asked, Completion, Parsed, Sample, Target, fold_label


def evaluate_draws(
    samples: Sequence[Sample],
    predictions: Mapping[str, Prediction],
    family: Family,
    ks: Sequence[int] | None = None,
    opened: bool = False,
) -> dict[str, Any]:
    """Figures of a file made with `predict --n N`.

    An answer is right where `evaluate` calls it so: grounding, region, counting and negatives as
    a whole; detection where at IoU .5 every target is matched and no box is left over.

    Args:
        samples: what was asked.
        predictions: by draw, ids `ID#0` to `ID#n-1`, for every sample.
        family: the frame in which the model answered.
        ks: sizes to report; by default 1, 2, 4, ... and n.
        opened: whether the prompt had opened the thought, so that completions begin in it.

    Returns:
        `n` samples, `draws` per sample, `pass@k` and `best_of_k_f1` {k: mean over samples},
        `self_consistency` {pass, f1}: the draw that the others agree with most; `behaviour` of all
        draws, see there: best of k takes the best of them, whatever else they do.

    Raises:
        UsageError: the file holds single answers, or a k is larger than n.
        DataError: draws are missing or ended in error.
    """
    n = draws_per_sample(samples, predictions)
    sizes = sorted(set(ks or [2**p for p in range(n.bit_length())] + [n]))
    if sizes[0] < 1 or sizes[-1] > n:
        raise UsageError(f"k must be between 1 and the {n} draws per sample, got {sizes}")
    rules = Rules(opened=opened)
    right, values, chosen = [], [], []
    rows: list[Row] = []
    for sample in samples:
        draws = [predictions[f"{sample.id}#{k}"] for k in range(n)]
        question = Question.from_sample(sample)
        judged = [judge(question, draw, family, rules) for draw in draws]
        # Whether each is right, and its f1; for answers that are not boxes both are one.
        right.append([float(row.is_faultless) for row in judged])
        values.append([row.score for row in judged])
        rows += judged
        chosen.append(most_agreed(_agreement(sample, draws, family, opened)))
    return {
        "n": len(samples),
        "draws": n,
        "pass@k": {str(k): fmean([best_of_k(each, k) for each in right]) for k in sizes},
        "best_of_k_f1": {str(k): fmean([best_of_k(each, k) for each in values]) for k in sizes},
        "self_consistency": {
            "pass": fmean([each[k] for each, k in zip(right, chosen, strict=True)]),
            "f1": fmean([each[k] for each, k in zip(values, chosen, strict=True)]),
        },
        "behaviour": behaviour(rows),
    }


def draws_per_sample(samples: Sequence[Sample], predictions: Mapping[str, Prediction]) -> int:
    """How many draws every sample has: as many as the one that has most.

    Args:
        samples: what was asked.
        predictions: by draw, ids `ID#0` to `ID#n-1`.

    Raises:
        UsageError: the file holds single answers.
        DataError: draws are missing, ended in error or answer other questions.
    """
    ids = {sample.id for sample in samples}
    known = Counter(key.rpartition("#")[0] for key in predictions)
    n = max((known[key] for key in ids), default=0)
    if n < 2:
        raise UsageError(
            "these are not several draws per sample (ids ID#0, ID#1, ...); make them with "
            "boxrl predict --n 8 --temperature 1, or score single answers with boxrl evaluate"
        )
    wanted = [f"{sample.id}#{k}" for sample in samples for k in range(n)]
    bad = [i for i in wanted if i not in predictions or predictions[i].finish_reason == "error"]
    if bad:
        raise DataError(
            f"{len(bad)} of {len(wanted)} draws are missing or ended in error (first: {bad[0]!r}); "
            "repeat the predict command"
        )
    asked = {f"{sample.id}#{k}": sample for sample in samples for k in range(n)}
    check_asked(asked, predictions)
    return n


def _agreement(sample: Sample, draws: Sequence[Prediction], family: Family, opened: bool) -> Any:
    """How well draw j does were draw i the truth, "n n"; unreadable answers agree with none."""
    texts = [as_read(draw.completion, opened) for draw in draws]
    size, asked = sample.size_wh, Asked.from_sample(sample)
    parsed = [
        parse(text, family, size, draw.input_size_wh, "optional", asked)
        for text, draw in zip(texts, draws, strict=True)
    ]
    boxes = sample.task in ("detection", "grounding")
    return np.array(
        [
            [_agree(truth, text, other, boxes) for text, other in zip(texts, parsed, strict=True)]
            for truth in parsed
        ]
    )


def _agree(truth: Parsed, text: str, other: Parsed, boxes: bool) -> float:
    if not boxes:
        return float(fold_label(truth.answer) == fold_label(other.answer) != "")
    if not truth.readable:
        return 0.0
    return f1(Completion(text, other), Target(truth.detections)) or 0.0
