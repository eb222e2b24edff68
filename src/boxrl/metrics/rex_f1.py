"""F1 of models without confidences, as Rex-Omni's tables have it and as a plain count gives it.

Source: github.com/IDEA-Research/Rex-Omni, evaluation/metrics and the C++ beside it. Its COCO and
LVIS figures read precision off a curve over image order, where false boxes behind the last right
one cost nothing; a class without a right box keeps the precision of the class before it, and means
run over values above 0, so that a class of which nothing is found does not lower the recall. The
plain counts stand beside it. Its other sets count per image, whatever the boxes' classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from boxrl.boxes import iou
from boxrl.metrics.average_precision import Floats, Ints, Predictions, Targets, match_boxes
from boxrl.metrics.precision_recall import EPS, match_records, rank_boxes

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
RECALLS = np.arange(101) * 0.01
UNCAPPED = 1_000_000_000
"""More boxes than an image and label have."""

LETTERS_ONLY = frozenset(
    {"common_object_detection", "long_tailed_object_detection", "dense_object_detection"}
)
"""Tasks whose names are compared by their letters alone."""

Named = Mapping[str, Sequence[Sequence[float]]]
"""Name -> boxes, xyxy, or points."""


class Scores(NamedTuple):
    """Precision, recall and F1, each in [0, 1]."""

    precision: float
    recall: float
    f1: float

    @classmethod
    def of(cls, precision: float, recall: float) -> Scores:
        """With the F1 of the two; 0 where both are 0."""
        total = precision + recall
        return cls(precision, recall, 2 * precision * recall / total if total else 0.0)


class Matches(NamedTuple):
    """COCO's matching of boxes without confidences.

    Attributes:
        label: Int "n", of every box, in the order of its ranking.
        hit: Bool "10 n", whether it is right at each of THRESHOLDS.
        ignored: Bool "10 n", whether it is neither right nor wrong.
        targets: Int "labels", how many each has.
    """

    label: Ints
    hit: npt.NDArray[np.bool_]
    ignored: npt.NDArray[np.bool_]
    targets: Ints

    def counts(self, label: int | None = None) -> tuple[Ints, Ints, Ints]:
        """Right boxes "10", false boxes "10" and targets of a label, or of all."""
        mine = np.ones(len(self.label), dtype=bool) if label is None else self.label == label
        hits = self.hit[:, mine].sum(axis=1)
        wrong = (~self.hit & ~self.ignored)[:, mine].sum(axis=1)
        n = self.targets.sum() if label is None else self.targets[label]
        return hits, wrong, np.full(len(THRESHOLDS), n)


def match_unranked(
    targets: Targets,
    preds: Predictions,
    n_images: int,
    n_labels: int,
    max_boxes: int = UNCAPPED,
) -> Matches:
    """Match boxes as COCO does, in the order of images and of emission.

    Args:
        targets: what is right.
        preds: what was found, of these labels only; confidences are passed over.
        n_images: number of images, those without boxes included.
        n_labels: number of labels.
        max_boxes: how many of an image and label take part.
    """
    even = Predictions(preds.image, preds.label, preds.boxes, np.ones(len(preds.image)))
    evaluator = match_boxes(targets, even, n_images, n_labels)
    records = match_records(evaluator, max_boxes=max_boxes)
    _, label, matched, ignored = rank_boxes(records, max_boxes)
    n_targets = np.bincount(targets.label[~targets.crowd], minlength=n_labels)
    return Matches(label, matched & ~ignored, ignored, n_targets)


def micro_f1(matches: Matches) -> dict[str, Scores]:
    """Plain precision and recall over all boxes.

    Returns:
        Of IoU "0.5", "0.95" and "mean", whose precision and recall are means over the ten.
    """
    hits, wrong, n = matches.counts()
    return _at_thresholds(_share(hits, hits + wrong), _share(hits, n))


def macro_f1(matches: Matches) -> dict[str, Scores]:
    """Means of plain precision and recall over the labels that have targets.

    Returns:
        Of IoU "0.5", "0.95" and "mean".
    """
    labels = np.flatnonzero(matches.targets)
    precision, recall = np.zeros((2, len(labels), len(THRESHOLDS)))
    for row, label in enumerate(labels.tolist()):
        hits, wrong, n = matches.counts(label)
        precision[row], recall[row] = _share(hits, hits + wrong), _share(hits, n)
    if not len(labels):
        precision, recall = np.zeros((2, 1, len(THRESHOLDS)))
    return _at_thresholds(precision.mean(axis=0), recall.mean(axis=0))


def published_f1(matches: Matches) -> dict[str, Scores] | None:
    """The arithmetic of Rex-Omni's script over COCO and LVIS, its faults included.

    Args:
        matches: of boxes in the annotations file's order of images; labels in the order of its
            categories, because a label without a right box takes the precision of the one before.

    Returns:
        Of IoU "0.5", "0.95" and "mean"; None where the first label has no right box, for which
        the script reads memory that nobody set.
    """
    precision = np.full((len(THRESHOLDS), len(matches.targets)), np.nan)
    recall = np.full_like(precision, -1.0)
    for label in np.flatnonzero(matches.targets).tolist():
        mine = matches.label == label
        for row in range(len(THRESHOLDS)):
            hit, ignored = matches.hit[row, mine], matches.ignored[row, mine]
            precision[row, label] = _last_precision(hit, ignored, matches.targets[label])
            recall[row, label] = hit.sum() / matches.targets[label]
    at_ends = {"0.5": _inherit(precision[0]), "0.95": _inherit(precision[-1])}
    # The mean walks the thresholds of one label, then the next label's: one variable for all.
    walked = _inherit(precision.T.ravel()).reshape(precision.T.shape)
    if any(np.isnan(values).any() for values in (*at_ends.values(), walked)):
        return None
    mean = Scores.of(_mean_above_zero(walked.mean(axis=1)), _mean_above_zero(recall.mean(axis=0)))
    found = {
        name: Scores.of(_mean_above_zero(values), _mean_above_zero(recall[row]))
        for row, (name, values) in zip((0, -1), at_ends.items(), strict=True)
    }
    return {**found, "mean": mean}


def image_f1(scores: Iterable[Sequence[Scores]]) -> dict[str, Scores]:
    """Means over images of the precision and recall of each, as Rex-Omni's other sets have it.

    Args:
        scores: per image one at each of THRESHOLDS: `score_image`, or `[score_points(...)] * 10`.

    Returns:
        Of IoU "0.5", "0.95" and "mean", here the mean of ten F1s.
    """
    table = np.array([[(at.precision, at.recall) for at in image] for image in scores], dtype=float)
    if not len(table):
        table = np.zeros((1, len(THRESHOLDS), 2))
    each = [Scores.of(*means) for means in table.mean(axis=0).tolist()]
    mean = Scores(*np.array(each).mean(axis=0).tolist())
    return {"0.5": each[0], "0.95": each[-1], "mean": mean}


def score_image(truth: Named, answer: Named, task: str) -> list[Scores]:
    """One image of a set other than COCO and LVIS, at each of THRESHOLDS.

    Boxes match whatever their class, in the order of the truth, each with the nearest box that is
    left. Of the answer only the boxes of names in the truth may match; the others count as false.

    Args:
        truth: boxes by name.
        answer: boxes by name.
        task: Rex-Omni's name of it; `referring_object_detection` passes over the names.
    """
    if task == "referring_object_detection":
        truth, answer = (_together(side) for side in (truth, answer))
    else:
        truth, answer = (_renamed(side, task) for side in (truth, answer))
    n_answers = sum(map(len, answer.values()))
    if not truth or not n_answers:
        right = float(not truth and not n_answers)
        return [Scores.of(right, right)] * len(THRESHOLDS)
    targets = _boxes(box for boxes in truth.values() for box in boxes)
    usable = _boxes(box for name in truth for box in answer.get(name, ()))
    overlap = iou(targets, usable)
    hits = [_nearest_first(overlap, threshold) for threshold in THRESHOLDS]
    n = len(targets)
    return [Scores.of(found / n_answers, found / n if n else 0.0) for found in hits]


def score_points(truth: Mapping[str, Sequence[Any]], answer: Named) -> Scores:
    """One image of pointing: every mask takes the first point of its name that lies in it.

    Args:
        truth: masks by name, Bool "height width" each; or boxes, xyxy, where there are none.
        answer: points (x, y) in pixels by name.
    """
    answer = {name.lower(): points for name, points in answer.items()}
    n, n_answers = sum(map(len, truth.values())), sum(map(len, answer.values()))
    if not n or not n_answers:
        right = float(not n and not n_answers)
        return Scores.of(right, right)
    found = 0
    for name, masks in truth.items():
        free = list(answer.get(name.lower(), ()))
        for mask in masks:
            hit = next((k for k, point in enumerate(free) if _lies_in(point, mask)), None)
            if hit is not None:
                del free[hit]
                found += 1
    return Scores.of(found / n_answers, found / n)


def _last_precision(hit: Any, ignored: Any, n_targets: int) -> float:
    """Precision at the last point of recall that is passed, or NaN where none is."""
    right, wrong = hit.cumsum(), (~hit & ~ignored).cumsum()
    highest = np.maximum.accumulate((right / (right + wrong + EPS))[::-1])[::-1]
    at = np.searchsorted(right / n_targets, RECALLS, side="right")
    passed = at[at < len(hit)]
    values = highest[passed]
    return float(values[values > 0][-1]) if (values > 0).any() else float("nan")


def _inherit(values: Floats) -> Floats:
    """Every NaN takes the value before it."""
    known = np.maximum.accumulate(np.where(np.isnan(values), -1, np.arange(len(values))))
    return np.where(known < 0, np.nan, values[known])


def _mean_above_zero(values: Floats) -> float:
    return float(values[values > 0].mean()) if (values > 0).any() else 0.0


def _share(part: Ints, whole: Ints) -> Floats:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _at_thresholds(precision: Floats, recall: Floats) -> dict[str, Scores]:
    """What is reported of ten thresholds; F1 is that of the two means."""
    at = {"0.5": (precision[0], recall[0]), "0.95": (precision[-1], recall[-1])}
    at["mean"] = precision.mean(), recall.mean()
    return {name: Scores.of(float(p), float(r)) for name, (p, r) in at.items()}


def _together(named: Named) -> dict[str, Sequence[Sequence[float]]]:
    """All boxes under one name; none without boxes."""
    boxes = [box for some in named.values() for box in some]
    return {"": boxes} if boxes else {}


def _renamed(named: Named, task: str) -> dict[str, Sequence[Sequence[float]]]:
    """Boxes by their name as it is compared; of names that become one the last one counts."""
    if task in LETTERS_ONLY:
        return {"".join(c.lower() for c in key if c.isalpha()): named[key] for key in named}
    return {key.lower().replace("_", "").replace(" ", ""): boxes for key, boxes in named.items()}


def _boxes(boxes: Iterable[Sequence[float]]) -> Floats:
    return np.array([[*box] for box in boxes], dtype=np.float64).reshape(-1, 4)


def _nearest_first(overlap: Floats, threshold: float) -> int:
    """Targets that find a box, each in turn taking the nearest that is free."""
    free, found = overlap.copy(), 0
    for row in range(len(free)):
        if free.shape[1] and free[row].max() >= threshold:
            free[:, free[row].argmax()] = -1.0
            found += 1
    return found


def _lies_in(point: Sequence[float], mask: Any) -> bool:
    x, y = int(point[0]), int(point[1])
    if len(mask) == 4 and np.ndim(mask) == 1:
        x1, y1, x2, y2 = mask
        return bool(x1 <= x <= x2 and y1 <= y <= y2)
    height, width = mask.shape
    return 0 <= x < width and 0 <= y < height and bool(mask[y, x])
