"""Rex-Omni-EvalData: thirteen sets in one form, and F1 without confidences.

ROOT holds what the sets' archives unpack to, `_annotations/box_eval/<SET>.jsonl`, and for the
published figures of COCO and LVIS their annotations files below `coco/`.

Source: github.com/IDEA-Research/Rex-Omni, evaluation; published rows from its paper and from
github.com/NVlabs/Eagle (LocateAnything).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from boxrl.benchmarks.record import Benchmark, Part, Published
from boxrl.boxes import xywh_to_xyxy
from boxrl.errors import DataError
from boxrl.evaluate.coco_files import AnnotationRow, CategoryRow, CocoRow, Id, read_content
from boxrl.evaluate.rows import Evaluation, Row
from boxrl.evaluate.summary import box_table
from boxrl.metrics.average_precision import Predictions, Targets, select
from boxrl.metrics.rex_f1 import (
    THRESHOLDS,
    UNCAPPED,
    Scores,
    image_f1,
    macro_f1,
    match_unranked,
    micro_f1,
    published_f1,
    score_image,
)
from boxrl.types import Sample

SETS = (
    "COCO", "LVIS", "Dense200", "DocLayNet", "HierText", "HumanRef", "IC15", "M6Doc",
    "RefCOCOg_val", "RefCOCOg_test", "SROIE", "TotalText", "VisDrone",
)  # fmt: skip
CLASS_FILES = {
    "COCO": ("coco/instances_val2017.json", 100),
    "LVIS": ("coco/lvis_v1_val_with_filename2.json", UNCAPPED),
}
"""Sets that Rex-Omni scores by class: the annotations file that its script reads, and how many
boxes of an image and class it looks at."""

PAPER = "Rex-Omni paper, table of F1"
ABLATION = "Rex-Omni paper, SFT and GRPO"
LOCATE = "LocateAnything, RESULTS.md"


def _f1(part: str, at_50: float, at_95: float | None = None, mean: float | None = None) -> Any:
    values = {"F1@0.5": at_50, "F1@0.95": at_95, "F1@mean": mean}
    return {f"{part} {key}": value for key, value in values.items() if value is not None}


PUBLISHED = (
    Published("Qwen2.5-VL-3B", _f1("COCO", 64.7, 15.0, 47.6), PAPER),
    Published("Qwen2.5-VL-7B", _f1("COCO", 64.0, 12.6, 45.7), PAPER),
    Published("Ovis2.5-9B", _f1("COCO", 51.6, 8.2, 34.6), PAPER),
    Published("Rex-Omni, SFT", _f1("COCO", 68.2, 15.8, 50.4), PAPER),
    Published("Rex-Omni", _f1("COCO", 72.0, 15.9, 52.9), PAPER),
    Published("DINO-R50", _f1("COCO", 68.8, None, 55.6), PAPER),
    Published("Grounding DINO-T", _f1("COCO", 69.8, 23.0, 56.6), PAPER),
    Published("Rex-Omni, SFT", _f1("LVIS", 60.3) | _f1("VisDrone", 55.6), ABLATION),
    Published(
        "Rex-Omni", _f1("LVIS", 64.3) | _f1("VisDrone", 61.6) | _f1("Dense200", 78.4), ABLATION
    ),
    Published(
        "LocateAnything-3B", _f1("Dense200", 74.0, 18.5, 58.7) | _f1("VisDrone", 63.0, 3.2, 39.9),
        LOCATE,
    ),
    Published(
        "Qwen3-VL-4B", _f1("Dense200", 17.5, 2.4, 12.5) | _f1("VisDrone", 42.3, 1.4, 26.0), LOCATE
    ),
)  # fmt: skip

REXOMNI = Benchmark(
    "rexomni",
    "Rex-Omni-EvalData: thirteen sets, F1 at IoU .5, .95 and the mean of ten",
    "rexomni",
    tuple(
        Part(
            name,
            (f"_annotations/box_eval/{name}.jsonl", f"annotations/box_eval/{name}.jsonl"),
            (".",),
        )
        for name in SETS
    ),
    "published.COCO.F1@mean",
    "Asked is what each line asks. `published` is Rex-Omni's own arithmetic: of COCO and LVIS, "
    "over the classes present in each image alone, precision where a curve over image order last "
    "rises, a class without a right box given the precision of the one before it, means over "
    "values above 0; of the other sets per image and whatever the boxes' names. `honest macro` is "
    "the plain mean over classes, `honest micro` the plain count over all boxes, of every answer "
    "as it is. Its script keeps boxes that are flipped or leave the image; boxrl reads answers as "
    "everywhere.",
    published=PUBLISHED,
)


def summarize_rexomni(
    samples: Sequence[Sample], parts: Mapping[str, Evaluation], root: Path
) -> dict[str, Any]:
    """F1 of every set: as published, and by plain counts.

    Args:
        samples: of all parts; `meta.task_name` says how Rex-Omni scores each.
        parts: an evaluation per set.
        root: the data root.

    Returns:
        `published`, `honest macro` and `honest micro`, each {set: {F1@0.5, F1@0.95, F1@mean}}.
        A published figure is None where the annotations file is missing that it needs, or where
        the script would give whatever stands in memory.
    """
    tasks = {sample.id: str(sample.meta.get("task_name", REFERRING)) for sample in samples}
    summary: dict[str, Any] = {"published": {}, "honest macro": {}, "honest micro": {}}
    for name, part in parts.items():
        if name in CLASS_FILES:
            path, most = root / CLASS_FILES[name][0], CLASS_FILES[name][1]
            found = by_class(part.rows, path, most) if path.is_file() else None
        else:
            found = image_f1(score_row(row, tasks[row.id]) for row in part.rows)
        summary["published"][name] = _figures(found)
        table = box_table(part.rows)
        sizes = len(table.rows), len(table.labels) + 1
        matches = match_unranked(table.targets, table.all_preds, *sizes)
        summary["honest macro"][name] = _figures(macro_f1(matches))
        summary["honest micro"][name] = _figures(micro_f1(matches))
    return summary


REFERRING = "referring_object_detection"


def score_row(row: Row, task: str) -> list[Scores]:
    """One image of a set that is not scored by class, at ten IoU thresholds.

    Args:
        row: judged sample.
        task: Rex-Omni's name of it.
    """
    if task in ("hallucination", "gui"):
        centres = [((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in map(_bbox, row.predictions)]
        right = not centres
        if task == "gui":
            x1, y1, x2, y2 = row.objects[0].bbox
            right = any(x1 <= x <= x2 and y1 <= y <= y2 for x, y in centres)
        return [Scores.of(float(right), float(right))] * len(THRESHOLDS)
    return score_image(_by_name(row.objects), _by_name(row.predictions), task)


def by_class(rows: Sequence[Row], path: Path, most: int) -> dict[str, Scores] | None:
    """Rex-Omni's figures of a set that is scored by class.

    Args:
        rows: judged samples; images are found by the last part of their path.
        path: the annotations file.
        most: boxes of an image and class that count.

    Raises:
        DataError: an image is not in the file, or it is no annotations file.
    """
    content = read_content(path, _ClassFile, "")
    images = {PurePosixPath(row.file_name).name: at for at, row in enumerate(content.images)}
    names = {_compared(row.name): at for at, row in enumerate(content.categories)}
    found: list[tuple[int, int, tuple[float, ...]]] = []
    for row in rows:
        image = images.get(PurePosixPath(row.image).name)
        if image is None:
            raise DataError(f"{path}: does not list {row.image!r:.80}, which was asked about")
        known = [(names.get(_compared(box.label)), box.bbox) for box in row.predictions]
        found += [(image, label, bbox) for label, bbox in known if label is not None]
    found.sort(key=lambda item: item[0])
    targets = _file_targets(content)
    preds = Predictions(
        np.array([image for image, _, _ in found], dtype=np.int64),
        np.array([label for _, label, _ in found], dtype=np.int64),
        np.array([bbox for _, _, bbox in found], dtype=np.float64).reshape(-1, 4),
        np.ones(len(found)),
    )
    present = defaultdict(set)
    for image, label in zip(targets.image.tolist(), targets.label.tolist(), strict=True):
        present[image].add(label)
    pairs = zip(preds.image.tolist(), preds.label.tolist(), strict=True)
    kept = [image not in present or label in present[image] for image, label in pairs]
    preds = select(preds, np.array(kept, dtype=bool))
    return published_f1(match_unranked(targets, preds, len(images), len(content.categories), most))


class _ClassImage(CocoRow):
    """An image, with the classes of which it may hold more than is annotated."""

    id: Id
    file_name: str
    width: int
    height: int
    not_exhaustive_category_ids: tuple[Id, ...] = ()


class _ClassFile(CocoRow):
    """COCO's annotations, or LVIS's with file names; the order of its lists counts."""

    images: list[_ClassImage]
    annotations: list[AnnotationRow]
    categories: list[CategoryRow]


def _file_targets(content: _ClassFile) -> Targets:
    """The annotations; a class annotated in part alone is a crowd region all over its image."""
    images = {row.id: at for at, row in enumerate(content.images)}
    labels = {row.id: at for at, row in enumerate(content.categories)}
    rows = [(row.image_id, row.category_id, row.bbox, bool(row.iscrowd))
            for row in content.annotations]  # fmt: skip
    rows += [
        (image.id, key, (0.0, 0.0, float(image.width), float(image.height)), True)
        for image in content.images
        for key in image.not_exhaustive_category_ids
    ]
    boxes = np.array([box for _, _, box, _ in rows], dtype=np.float64).reshape(-1, 4)
    return Targets(
        np.array([images[image] for image, _, _, _ in rows], dtype=np.int64),
        np.array([labels[label] for _, label, _, _ in rows], dtype=np.int64),
        xywh_to_xyxy(boxes),
        np.array([crowd for _, _, _, crowd in rows], dtype=bool),
        boxes[:, 2] * boxes[:, 3],
    )


def _figures(found: Mapping[str, Scores] | None) -> dict[str, float | None]:
    return {f"F1@{key}": found[key].f1 if found else None for key in ("0.5", "0.95", "mean")}


def _compared(name: str) -> str:
    return name.lower().replace("_", " ")


def _bbox(box: Any) -> tuple[float, float, float, float]:
    corners: tuple[float, float, float, float] = box.bbox
    return corners


def _by_name(boxes: Iterable[Any]) -> dict[str, list[tuple[float, ...]]]:
    found: dict[str, list[tuple[float, ...]]] = {}
    for box in boxes:
        found.setdefault(box.label.lower(), []).append(box.bbox)
    return found
