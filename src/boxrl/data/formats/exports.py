"""Samples to the training files of other tools, boxes in the frame that each expects.

VLM-R1 and ms-swift take pixels of the original image; ms-swift scales them to the model
itself. EasyR1 hands the answer to the user's reward as it stands, so it is written in the frame in
which the model answers there. The lines of both also hold the sample itself, for `boxrl.rewards`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from boxrl.data.files import write_atomic
from boxrl.data.formats.vlmr1 import conversation_row, expression_row
from boxrl.data.samples import render_sample
from boxrl.families import FAMILIES
from boxrl.families.image_paths import ImagePath
from boxrl.prompts import Prompt, render_completion, render_target, render_text
from boxrl.types import Detections, Sample

PLAIN = FAMILIES["plain"]


def write_vlmr1(path: Path, samples: Sequence[Sample]) -> int:
    """Write VLM-R1's list of expressions (.json) or its conversations (any other suffix).

    Raises:
        DataError: a sample that the list cannot hold.
    """
    if path.suffix != ".json":
        return _write_lines(path, map(conversation_row, samples))
    rows = [expression_row(sample) for sample in samples]
    with write_atomic(path) as handle:
        handle.write(json.dumps(rows, ensure_ascii=False))
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
        # ms-swift puts them between the quotes as they stand.
        refs = [json.dumps(item.label, ensure_ascii=False)[1:-1] for item in objects]
    elif objects:  # a region question shows its box in the text
        (region,) = PLAIN.render_boxes(Detections.from_objects(objects[:1]).boxes, sample.size_wh)
        question, objects = question.replace(str(region), "<bbox>"), objects[:1]
    row: dict[str, Any] = {
        "messages": [
            {"role": "user", "content": f"<image>{question}"},
            {"role": "assistant", "content": render_completion(answer, sample, prompt)},
        ],
        "images": [sample.image],
        "sample": render_sample(sample),
    }
    if objects:
        boxes = [list(item.bbox) for item in objects]
        row["objects"] = {"ref": refs, "bbox": boxes, "bbox_type": "real"}
    return row


def easyr1_row(sample: Sample, prompt: Prompt, path: ImagePath) -> dict[str, Any]:
    """A line for EasyR1, whose prompt has the image's place written as `<image>`.

    Args:
        sample: boxes in original pixels.
        prompt: the words of the question.
        path: an image's way to the model, in whose frame and syntax the answer is.

    Returns:
        `images`: [path], `problem`: the question, `answer`: the gold completion, `sample`: the
        line of the samples file.
    """
    size_wh = path.input_size_wh(sample.size_wh)
    return {
        "images": [sample.image],
        "problem": f"<image>{render_text(sample, prompt, path.family)}",
        "answer": render_target(sample, path.family, size_wh, prompt=prompt),
        "sample": render_sample(sample),
    }


def write_swift(path: Path, samples: Sequence[Sample], prompt: Prompt) -> int:
    """Write JSON lines for ms-swift; returns how many."""
    return _write_lines(path, (swift_row(sample, prompt) for sample in samples))


def write_easyr1(
    path: Path, samples: Sequence[Sample], prompt: Prompt, image_path: ImagePath
) -> int:
    """Write JSON lines for EasyR1; returns how many.

    Args:
        path: replaced where it exists.
        samples: one line each.
        prompt: the question's wording.
        image_path: see `easyr1_row`.
    """
    return _write_lines(path, (easyr1_row(sample, prompt, image_path) for sample in samples))
