"""Rex-Omni-EvalData's pointing: a point for every object, right where it lies in the object's mask.

ROOT holds `_annotations/point_eval/<SET>.jsonl` beside the sets' images. A row without masks is
scored by its boxes, as LocateAnything's copy of the script does.

Source: github.com/IDEA-Research/Rex-Omni, evaluation/metrics/other_metric.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hotcoco import mask

from boxrl.benchmarks.intervals import set_seed
from boxrl.benchmarks.record import Benchmark, Part
from boxrl.data.predictions import Prediction, check_asked
from boxrl.errors import DataError
from boxrl.evaluate.summary import image_groups
from boxrl.families import Family
from boxrl.metrics.detection import mean_or_none
from boxrl.metrics.intervals import FEWEST, Floats, interval, resample
from boxrl.metrics.rex_f1 import Scores, score_points
from boxrl.parsing import NamedPoint, read_points
from boxrl.parsing.answers import as_read
from boxrl.types import Sample

SETS = ("COCO", "Dense200", "HumanRef", "LVIS", "RefCOCOg_val", "RefCOCOg_test", "VisDrone")
REFERRING = "pointing_referring"
FIGURES = ("precision", "recall", "F1")

REX_POINTING = Benchmark(
    "rexomni_pointing",
    "Rex-Omni-EvalData: seven sets of pointing",
    "rexomni",
    tuple(
        Part(
            name,
            (f"_annotations/point_eval/{name}.jsonl", f"annotations/point_eval/{name}.jsonl"),
            (".",),
        )
        for name in SETS
    ),
    "mean.F1",
    "Per image every mask, in the order of the file, takes the first point of its name that lies "
    "in it; precision and recall are means over images, F1 is that of the two means, and `mean` is "
    "the mean over sets. A row without masks is scored by its boxes. In referring rows the first "
    "name answered is taken for the one asked. The prompt is `point`, of Rex-Omni `rex-point`. "
    "No box is read, so that there is no AP.",
    headline=(("F1", "mean.F1"), *((name, f"sets.{name}.F1") for name in SETS)),
    prompt="point",
)


def summarize_pointing(
    samples: Sequence[Sample],
    predictions: Mapping[str, Prediction],
    family: Family,
    resamples: int,
    opened: bool = False,
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Precision, recall and F1 of every set, and their means; 95 % intervals of F1.

    Args:
        samples: of all sets that are there; `meta.masks` beside their boxes.
        predictions: by sample id.
        family: in whose frame and syntax the points are.
        resamples: of the bootstrap; 0 leaves intervals out.
        opened: whether the chat template opened the thought.

    Returns:
        The summary {`mean`, `sets`}, and figure -> [low, high].

    Raises:
        DataError: the predictions are for other samples, or a mask cannot be read.
    """
    if len(samples) != len(predictions) or any(s.id not in predictions for s in samples):
        raise DataError(
            f"{len(samples)} questions, {len(predictions)} predictions; score them with the data "
            "and the --limit that they were made with"
        )
    check_asked({sample.id: sample for sample in samples}, predictions)
    rows: dict[str, list[Scores]] = {}
    asked: dict[str, list[Sample]] = {}
    for sample in samples:
        answer = predictions[sample.id]
        text = as_read(answer.completion, opened)
        points = read_points(text, family, sample.size_wh, answer.input_size_wh)
        rows.setdefault(sample.meta["part"], []).append(score_answer(sample, points))
        asked.setdefault(sample.meta["part"], []).append(sample)
    sets = {}
    for name, found in rows.items():
        values = _f1(np.array(found)[:, :2].mean(axis=0)[None])[0].tolist()
        sets[name] = dict(zip(FIGURES, values, strict=True))
    mean = {key: mean_or_none([sets.get(name, {}).get(key) for name in SETS]) for key in FIGURES}
    drawn = {k: _drawn(k, asked[k], found, resamples) for k, found in rows.items() if resamples}
    ends = {f"sets.{name}.F1": interval(values) for name, values in drawn.items()}
    if len(drawn) == len(SETS):
        ends["mean.F1"] = interval(np.mean([*drawn.values()], axis=0))
    return {"mean": mean, "sets": sets}, {k: list(v) for k, v in ends.items() if v is not None}


def score_answer(sample: Sample, points: Sequence[NamedPoint]) -> Scores:
    """One image of pointing.

    Args:
        sample: what is right.
        points: what was answered.

    Raises:
        DataError: a mask cannot be read.
    """
    truth: dict[str, list[Any]] = {}
    regions = sample.meta.get("masks") or [item.bbox for item in sample.objects]
    for item, region in zip(sample.objects, regions, strict=True):
        truth.setdefault(item.label, []).append(_decoded(region, sample))
    answer: dict[str, list[tuple[float, float]]] = {}
    sole = sample.labels[0] if len(sample.labels) == 1 else ""
    first = points[0].label if points and sample.meta.get("task_name") == REFERRING else None
    for x, y, label in points:
        name = sample.labels[0] if label == first else label or sole
        answer.setdefault(name.lower(), []).append((x, y))
    return score_points(truth, answer)


def _decoded(region: Any, sample: Sample) -> Any:
    if not isinstance(region, Mapping):
        return region
    try:
        return mask.decode({"size": region["size"], "counts": region["counts"].encode()})
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise DataError(f"sample {sample.id!r}: a mask cannot be read ({error})") from error


def _f1(means: Floats) -> Floats:
    """Precision, recall and their F1, "r 3", of "r 2"."""
    total = means.sum(axis=1)
    f1 = np.divide(2 * means.prod(axis=1), total, out=np.zeros(len(means)), where=total > 0)
    return np.column_stack([means, f1])


def _drawn(name: str, samples: Sequence[Sample], rows: Sequence[Scores], resamples: int) -> Floats:
    """F1 of a set in every resample of its images; NaN of fewer than FEWEST."""
    groups, n_images = image_groups(samples)
    if n_images < FEWEST:
        return np.full(resamples, np.nan)
    drawn = resample(n_images, resamples, set_seed(name))[:, groups]
    return _f1(drawn @ np.array(rows)[:, :2] / drawn.sum(axis=1, keepdims=True))[:, 2]
