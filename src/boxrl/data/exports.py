"""Samples to the files of other tools, boxes in the frame that each expects.

COCO, VLM-R1 and ms-swift take pixels of the original image; ms-swift scales them to the model
itself. EasyR1 hands the answer to the user's reward as it stands, so it is written in the frame of
the model's family.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from boxrl.data.files import write_atomic
from boxrl.data.vlmr1 import conversation_row, expression_row
from boxrl.errors import DataError
from boxrl.families import FAMILIES, Family
from boxrl.prompts import Prompt, render_target, render_text, render_think
from boxrl.types import Detections, Sample

PLAIN = FAMILIES["plain"]

DECIMALS = 9
"""x + width - x is width but for the last bits; COCO's own files have two decimals."""


def write_coco(path: Path, samples: Sequence[Sample]) -> int:
    """Write a COCO instances file; returns the number of annotations.

    Samples of one image become one image. Ids of the source (`meta`) are kept where they are
    whole, positive and unique; otherwise all of a kind are numbered from 1.

    Raises:
        DataError: samples without boxes by nature (region, counting), or one label with two ids.
    """
    wrong = next((s for s in samples if s.task not in ("detection", "grounding")), None)
    if wrong is not None:
        raise DataError(f"sample {wrong.id!r}: a {wrong.task} sample has no place in a COCO file")
    categories = _category_ids(samples)
    image_ids = _image_ids(samples)
    images: dict[str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for sample in samples:
        images.setdefault(
            sample.image,
            {
                "id": image_ids[sample.image],
                "file_name": sample.image,
                "width": sample.width,
                "height": sample.height,
            },
        )
        annotations += _annotations(sample, image_ids[sample.image], categories)
    _number(annotations)
    document = {
        "images": list(images.values()),
        "annotations": annotations,
        "categories": [{"id": key, "name": name} for name, key in categories.items()],
    }
    with write_atomic(path) as handle:
        json.dump(document, handle, ensure_ascii=False)
    return len(annotations)


def _annotations(
    sample: Sample, image_id: int, categories: dict[str, int]
) -> Iterator[dict[str, Any]]:
    count = len(sample.objects)
    ids = _aligned(sample, "annotation_ids", count) or [None] * count
    areas = _aligned(sample, "areas", count) or [None] * count
    for item, key, area in zip(sample.objects, ids, areas, strict=True):
        x1, y1, x2, y2 = item.bbox
        width, height = round(x2 - x1, DECIMALS), round(y2 - y1, DECIMALS)
        yield {
            "id": key,
            "image_id": image_id,
            "category_id": categories[item.label],
            "bbox": [x1, y1, width, height],
            "area": width * height if area is None else area,
            "iscrowd": int(item.iscrowd),
        }


def _aligned(sample: Sample, key: str, count: int) -> list[Any] | None:
    """A list of `meta` that has one entry per object."""
    value = sample.meta.get(key)
    return value if isinstance(value, list) and len(value) == count else None


def _number(annotations: list[dict[str, Any]]) -> None:
    ids = [row["id"] for row in annotations]
    if not all(type(key) is int and key > 0 for key in ids) or len(set(ids)) < len(ids):
        for number, row in enumerate(annotations, start=1):
            row["id"] = number


def _category_ids(samples: Iterable[Sample]) -> dict[str, int]:
    """Ids by label: the source's where every label has one, else numbered from 1."""
    known: dict[str, int] = {}
    labels: dict[str, None] = {}
    for sample in samples:
        labels.update(dict.fromkeys((*sample.labels, *(item.label for item in sample.objects))))
        ids = _aligned(sample, "category_ids", len(sample.labels)) or ()
        for label, key in zip(sample.labels, ids, strict=False):
            if key is not None and known.setdefault(label, key) != key:
                raise DataError(
                    f"sample {sample.id!r}: label {label!r} has category id {key} here and "
                    f"{known[label]} before; export the files one by one"
                )
    if set(known) == set(labels) and len(set(known.values())) == len(known):
        return dict(sorted(known.items(), key=lambda pair: pair[1]))
    return {label: number for number, label in enumerate(labels, start=1)}


def _image_ids(samples: Iterable[Sample]) -> dict[str, int]:
    known: dict[str, Any] = {}
    for sample in samples:
        known.setdefault(sample.image, sample.meta.get("image_id"))
    if all(type(key) is int for key in known.values()) and len(set(known.values())) == len(known):
        return known
    return {image: number for number, image in enumerate(known, start=1)}


def write_vlmr1(path: Path, samples: Sequence[Sample]) -> int:
    """Write VLM-R1's list of expressions (.json) or its conversations (any other suffix).

    Raises:
        DataError: a sample that the list cannot hold.
    """
    if path.suffix != ".json":
        return _write_lines(path, map(conversation_row, samples))
    rows = [expression_row(sample) for sample in samples]
    with write_atomic(path) as handle:
        json.dump(rows, handle, ensure_ascii=False)
    return len(rows)


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    count = 0
    with write_atomic(path) as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def swift_row(sample: Sample, prompt: Prompt) -> dict[str, Any]:
    """A line for ms-swift: placeholders in the text, boxes of original pixels in `objects`.

    Train with QWENVL_BBOX_FORMAT=new, which writes `<bbox>` as a JSON list.
    """
    objects = [item for item in sample.objects if not item.iscrowd]
    question, answer, refs = render_text(sample, prompt), sample.answer, []
    if answer is None:
        items = ", ".join('{"bbox_2d": <bbox>, "label": "<ref-object>"}' for _ in objects)
        answer = f"```json\n[{items}]\n```" if objects else "None"
        refs = [item.label for item in objects]
    elif objects:  # a region question shows its box in the text
        (region,) = PLAIN.render_boxes(Detections.of(objects[:1]).boxes, sample.size_wh)
        question, objects = question.replace(str(region), "<bbox>"), objects[:1]
    gold = f"<think>{render_think(sample)}</think>\n<answer>{answer}</answer>"
    row: dict[str, Any] = {
        "messages": [
            {"role": "user", "content": f"<image>{question}"},
            {"role": "assistant", "content": gold},
        ],
        "images": [sample.image],
    }
    if objects:
        boxes = [list(item.bbox) for item in objects]
        row["objects"] = {"ref": refs, "bbox": boxes, "bbox_type": "real"}
    return row


def easyr1_row(sample: Sample, prompt: Prompt, family: Family) -> dict[str, Any]:
    """A line for EasyR1: `answer` is the gold completion in the family's frame and syntax."""
    return {
        "images": [sample.image],
        "problem": f"<image>{render_text(sample, prompt, family)}",
        "answer": render_target(sample, family),
    }


def write_swift(path: Path, samples: Sequence[Sample], prompt: Prompt) -> int:
    """Write JSON lines for ms-swift; returns how many."""
    return _write_lines(path, (swift_row(sample, prompt) for sample in samples))


def write_easyr1(path: Path, samples: Sequence[Sample], prompt: Prompt, family: Family) -> int:
    """Write JSON lines for EasyR1; returns how many."""
    return _write_lines(path, (easyr1_row(sample, prompt, family) for sample in samples))
