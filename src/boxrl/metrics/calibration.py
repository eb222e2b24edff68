"""Whether a detector is as often right as it says: calibration of confidences.

Boxes are matched as COCO matches them, surest first, within the label; those that go to a crowd
region are left out.

Source: D-ECE, Kueppers et al. 2020; LaECE, Oksuz et al. 2023; LRP, Oksuz et al. 2018; the figures
are those of github.com/fiveai/detection_calibration, its quirks among them: a label whose error is
0 is left out of the means, and at an IoU threshold of 0 a box beside a target takes it. (Its LaACE
also counts boxes in crowd regions as false, as without these regions among the targets.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from boxrl.boxes import area, iou
from boxrl.metrics.average_precision import Floats, Ints, Predictions, Targets

BINS = 10
LABEL_BINS = 25


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Boxes that count, with what they found.

    Attributes:
        confidence: Float "n", in [0, 1].
        label: Int "n".
        found: Float "n", IoU with the target that a box has found; NaN where it is false.
        targets: Int "labels", targets per label, crowd regions left out.
        iou_threshold: from which on a box has found a target.
    """

    confidence: Floats
    label: Ints
    found: Floats
    targets: Ints
    iou_threshold: float

    @property
    def hit(self) -> npt.NDArray[np.bool_]:
        """Bool "n", which boxes are right."""
        return ~np.isnan(self.found)

    @property
    def overlap(self) -> Floats:
        """Float "n", `found`, and 0 for boxes that are false."""
        return np.where(self.hit, self.found, 0.0)


def judge_boxes(
    targets: Targets, preds: Predictions, n_labels: int, iou_threshold: float = 0.5
) -> Judged:
    """Match boxes at one IoU threshold, surest first.

    Args:
        targets: what is right.
        preds: what was found, of these labels only.
        n_labels: number of labels.
        iou_threshold: in [0, 1].
    """
    groups = _rows_of(preds.image * n_labels + preds.label)
    of_targets = _rows_of(targets.image * n_labels + targets.label)
    found = np.full(len(preds.image), np.nan)
    ignored = np.zeros(len(preds.image), dtype=bool)
    for key, mine in groups.items():
        theirs = of_targets.get(key, NONE)
        mine = mine[np.argsort(-preds.confidence[mine], kind="stable")]
        real, crowd = theirs[~targets.crowd[theirs]], theirs[targets.crowd[theirs]]
        overlap = iou(preds.boxes[mine], targets.boxes[real])
        for row, place in enumerate(mine.tolist()):
            best = _best_free(overlap[row], iou_threshold)
            if best is not None:
                found[place] = overlap[row, best]
                overlap[:, best] = -1.0
            else:
                regions = targets.boxes[crowd]
                ignored[place] = _inside(preds.boxes[place], regions) >= iou_threshold and len(
                    crowd
                )
    kept = ~ignored
    return Judged(
        preds.confidence[kept],
        preds.label[kept],
        found[kept],
        np.bincount(targets.label[~targets.crowd], minlength=n_labels),
        iou_threshold,
    )


def detection_ece(judged: Judged, bins: int = BINS) -> float | None:
    """D-ECE: how far confidence is from precision, all labels pooled.

    Args:
        judged: boxes.
        bins: equal ones from 0 to 1.

    Returns:
        In [0, 1]: the mean over bins of |precision - mean confidence|, weighted by boxes; None
        without boxes.
    """
    rows = reliability(judged, bins)
    n = sum(row["n"] for row in rows)
    if not n:
        return None
    return float(sum(r["n"] / n * abs(r["precision"] - r["confidence"]) for r in rows if r["n"]))


def reliability(judged: Judged, bins: int = BINS) -> list[dict[str, Any]]:
    """What a reliability plot shows.

    Args:
        judged: boxes.
        bins: equal ones from 0 to 1; each holds its upper end.

    Returns:
        Per bin `low`, `high`, `n`, and the mean `confidence` and `precision` of its boxes, None
        where it has none.
    """
    place = _bin(judged.confidence, bins)
    edges = np.linspace(0.0, 1.0, bins + 1)
    rows = []
    for k in range(bins):
        mine = place == k
        n = int(mine.sum())
        rows.append(
            {
                "low": float(edges[k]),
                "high": float(edges[k + 1]),
                "n": n,
                "confidence": float(judged.confidence[mine].mean()) if n else None,
                "precision": float(judged.hit[mine].mean()) if n else None,
            }
        )
    return rows


def brier_score(judged: Judged) -> float | None:
    """Mean squared difference of confidence and being right; None without boxes."""
    if not len(judged.confidence):
        return None
    return float(((judged.confidence - judged.hit) ** 2).mean())


def localization_aware_ece(judged: Judged, bins: int = LABEL_BINS) -> float | None:
    """LaECE: per label, how far confidence is from precision times the IoU of what is right.

    Args:
        judged: boxes.
        bins: equal ones from 0 to 1.

    Returns:
        The mean over labels; None where no label has an error.
    """
    errors = []
    for label in np.flatnonzero(judged.targets):
        mine = judged.label == label
        place = _bin(judged.confidence[mine], bins)
        n = np.bincount(place, minlength=bins)
        sure, near = (
            np.bincount(place, values[mine], minlength=bins)
            for values in (judged.confidence, judged.overlap)
        )
        errors.append(np.abs(sure - near).sum() / n.sum() if n.sum() else 0.0)
    return _mean_of_wrong(errors)


def localization_aware_ace(judged: Judged) -> float | None:
    """LaACE: as LaECE without bins, box by box; None where no label has an error."""
    errors = []
    for label in np.flatnonzero(judged.targets):
        mine = judged.label == label
        apart = np.abs(judged.confidence[mine] - judged.overlap[mine])
        errors.append(apart.mean() if mine.any() else 0.0)
    return _mean_of_wrong(errors)


def localization_recall_precision(judged: Judged) -> float | None:
    """LRP error: what is false, missed, and how far the rest is off, as one number.

    Returns:
        In [0, 1], the mean over labels with targets; 0 is perfect. None without targets.
    """
    errors = []
    for label in np.flatnonzero(judged.targets):
        mine = judged.label == label
        hit = judged.hit[mine]
        off = (1 - judged.found[mine][hit]).sum() / (1 - judged.iou_threshold)
        wrong, missed = (~hit).sum(), judged.targets[label] - hit.sum()
        errors.append(float(off + wrong + missed) / float(hit.sum() + wrong + missed))
    return float(np.mean(errors)) if errors else None


NONE = np.zeros(0, dtype=np.int64)


def _rows_of(keys: Ints) -> dict[int, Ints]:
    """Rows of every key, in their order."""
    order = np.argsort(keys, kind="stable")
    known, starts = np.unique(keys[order], return_index=True)
    parts = np.split(order, starts[1:]) if len(known) else []
    return dict(zip(known.tolist(), parts, strict=True))


def best_threshold(judged: Judged) -> dict[str, float] | None:
    """The confidence from which on boxes should be kept, for the highest F1.

    Args:
        judged: boxes; matched surest first, so that each threshold keeps a beginning of them.

    Returns:
        `threshold` and the `precision`, `recall` and `f1` of the boxes from it up; None without
        boxes or targets.
    """
    n_targets = int(judged.targets.sum())
    if not n_targets or not len(judged.confidence):
        return None
    order = np.argsort(-judged.confidence, kind="stable")
    sure = judged.confidence[order]
    ends = np.append(np.flatnonzero(np.diff(sure)), len(sure) - 1)
    right, kept = judged.hit[order].cumsum()[ends], ends + 1
    f1 = 2 * right / (kept + n_targets)
    best = int(f1.argmax())
    return {
        "threshold": float(sure[ends[best]]),
        "precision": float(right[best] / kept[best]),
        "recall": float(right[best] / n_targets),
        "f1": float(f1[best]),
    }


def _best_free(overlap: Floats, threshold: float) -> int | None:
    """The target that overlaps most, the last of equal ones; None below the threshold."""
    if not len(overlap) or overlap.max() < threshold:
        return None
    return int(np.flatnonzero(overlap == overlap.max())[-1])


def _inside(box: Floats, regions: Floats) -> float:
    """Largest share of the box that lies in one of the regions."""
    if not len(regions):
        return 0.0
    low, high = np.maximum(box[:2], regions[:, :2]), np.minimum(box[2:], regions[:, 2:])
    inside = np.maximum(high - low, 0.0).prod(axis=1)
    return float(inside.max() / max(float(area(box[None])[0]), 1e-12))


def _bin(confidence: Floats, bins: int) -> Ints:
    """Place of every confidence among equal bins, each of which holds its upper end."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    return (np.searchsorted(edges, confidence, side="left") - 1).clip(0, bins - 1)


def _mean_of_wrong(errors: list[Any]) -> float | None:
    known = [float(error) for error in errors if error > 0]
    return float(np.mean(known)) if known else None
