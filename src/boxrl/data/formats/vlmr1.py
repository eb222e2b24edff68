"""VLM-R1's own files to samples, and back without loss.

Source: github.com/om-ai-lab/VLM-R1. Two forms: a JSON list with a row per referring expression
(`rec_jsons_processed`), and JSON lines of conversations, which it trains on. Boxes are pixels of
the original image. The row as it stands is kept in `meta.vlmr1`; `data export vlmr1` writes it
again wherever the sample still says the same.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from boxrl.data.files import is_number
from boxrl.data.formats.chat_answers import why_unfinished
from boxrl.data.formats.documents import Document
from boxrl.data.formats.image_folder import ImageFolder
from boxrl.data.formats.reading import (
    Reading,
    Rejected,
    check_declared,
    placed_xyxy,
    read_records,
    refuse_shares,
    require,
    size_of,
)
from boxrl.data.formats.turns import untold_turns
from boxrl.data.images import read_header
from boxrl.data.samples import render_checked
from boxrl.errors import DataError
from boxrl.families import FAMILIES
from boxrl.parsing.answers import find_answer, says_none
from boxrl.parsing.json_items import read_items
from boxrl.prompts import GROUND, render_answer, render_problem
from boxrl.types import Detections, Object, Sample, Task

PLAIN = FAMILIES["plain"]

_LABEL_LIST = re.compile(r"\b(?:objects|targets)\b[^\[\n]{0,40}:\s*(?=\[)")
_LABELS = re.compile(r"\btargets:\s*([^\n]*?)\.\s*Output")
_EXPRESSION = re.compile(r"\bsentence describes:\s*([^\n]*?)\.?\s*(?:Output\b.*)?$", re.DOTALL)
_BOXES = re.compile(
    r"<\|box_start|<box>|<\|begin_of_box|<loc_?\d|\bbbox|[\[(]\s*(?:[\d.]+\s*,\s*){3}[\d.]"
)
"""What tells boxes from a text, in whatever syntax."""

_TAGS = re.compile(r"</?answer>")
MAX_BRACKETS = 64


def read_vlmr1(annotations: Path, images: Path) -> Reading:
    """Samples of either form; a sample's id is the number of its row, from 1.

    Args:
        annotations: a .json list or a .jsonl file of conversations.
        images: folder that image paths start from; headers are read for conversations, which do
            not tell sizes.

    Raises:
        DataError: no such file, or of neither form. A bad row is a `Rejected`.
    """
    found = ImageFolder(images)
    if annotations.name.removesuffix(".gz").endswith(".json"):
        return _read_list(annotations, found)
    reading = read_records(
        annotations, lambda row, key, where: _conversation_sample(row, key, found, where)
    )
    return reading._replace(images=found)


def _read_list(path: Path, images: ImageFolder) -> Reading:
    document = Document(path)
    listed = document.array(None)

    def rows() -> Iterator[Sample | Rejected]:
        for index, row in enumerate(listed):
            try:
                yield _expression_sample(row, str(index + 1), images, f"[{index}]")
            except DataError as error:
                yield document.rejected(None, index, error, row)

    return Reading(len(listed), rows(), images=images)


def _expression_sample(row: dict[str, Any], key: str, images: ImageFolder, where: str) -> Sample:
    image = images.locate(require(row, "image", str, where), where)
    size_wh = size_of(row, where)
    expression = require(row, "normal_caption", str, where)
    sample = Sample(
        id=key,
        image=image,
        width=size_wh[0],
        height=size_wh[1],
        task="grounding",
        labels=(expression,),
        objects=_expression_objects(row, size_wh, where),
        question=expression,
        meta={"vlmr1": row},
    )
    render_checked(sample, where)  # its meta holds the row, whatever is in it
    return sample


def _expression_objects(
    row: dict[str, Any], size_wh: tuple[int, int], where: str
) -> tuple[Object, ...]:
    solution = require(row, "solution", list, where)
    refuse_shares(filter(is_number, solution), where)
    return (Object(placed_xyxy(solution, size_wh, where), row["normal_caption"]),)


def _conversation_sample(row: dict[str, Any], key: str, images: ImageFolder, where: str) -> Sample:
    image = images.locate(_one_image(row, where), where)
    size_wh = read_header(images.folder / image, where).size_wh
    check_declared(row, size_wh, where)
    question, answer = _turns(row, where)
    labels = _labels(question)
    expression = _EXPRESSION.search(question)
    objects = _answer_objects(answer, expression.group(1) if expression else None, size_wh, where)
    if objects is None and (labels or expression or _BOXES.search(answer)):
        raise DataError(
            f"{where}: boxes are asked for or answered, and {answer!r:.80} cannot be read as "
            'boxes; expected a JSON list of {"bbox_2d": [x1, y1, x2, y2], "label": ...}, or None'
        )
    task: Task = "detection"
    if expression and not labels:
        task, labels = "grounding", [expression.group(1)]
    elif objects is None:
        task = "counting" if answer.isdecimal() else "region"
    elif not labels:
        labels = list(dict.fromkeys(item.label for item in objects))
        if not labels:
            raise DataError(f"{where}: the answer is None and no labels are found in the question")
    asks = task != "detection"
    sample = Sample(
        id=key,
        image=image,
        width=size_wh[0],
        height=size_wh[1],
        task=task,
        labels=tuple(labels),
        objects=objects or (),
        question=(labels[0] if task == "grounding" else question) if asks else None,
        answer=answer if objects is None else None,
        meta={"vlmr1": row},
    )
    render_checked(sample, where)
    return sample


def _one_image(row: dict[str, Any], where: str) -> str:
    image = row.get("image")
    if isinstance(image, list) and len(image) == 1:
        image = image[0]
    if not isinstance(image, str):
        raise DataError(f"{where}: image {image!r:.80}; expected one path: samples have one image")
    return image


def _turns(row: dict[str, Any], where: str) -> tuple[str, str]:
    """The human's text without the image mark, and the answer without thought and tags."""
    turns = require(row, "conversations", list, where)
    said = {str(turn.get("from")): turn.get("value") for turn in turns if isinstance(turn, dict)}
    human, gpt = said.get("human"), said.get("gpt")
    if len(turns) != 2 or not isinstance(human, str) or gpt is None:
        raise DataError(
            f"{where}: expected two turns, human and gpt, got {len(turns)}; "
            "boxrl data convert chat reads more"
        )
    if why := why_unfinished(human, str(gpt)):
        raise DataError(f"{where}: the answer {gpt!r:.80} {why}")
    answer = _TAGS.sub("", find_answer(str(gpt)).answer).strip()
    return human.replace("<image>", "").strip(), answer


def _labels(question: str) -> list[str]:
    """Labels as the known templates list them: a Python list, or parted by semicolons."""
    listed = _LABEL_LIST.search(question)
    if listed:
        end = listed.end()
        for _ in range(MAX_BRACKETS):
            end = question.find("]", end) + 1
            if not end:
                break
            try:
                labels = ast.literal_eval(question[listed.end() : end])
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue  # a bracket inside a label
            return [label for label in labels if isinstance(label, str) and label.strip()]
    parted = _LABELS.search(question)
    return (
        [label.strip() for label in parted.group(1).split(";") if label.strip()] if parted else []
    )


def _answer_objects(
    answer: str, expression: str | None, size_wh: tuple[int, int], where: str
) -> tuple[Object, ...] | None:
    """Objects of the answer; None where it is no answer of boxes at all."""
    if says_none(answer):
        return ()
    rows, rest = read_items(answer, "bbox_2d", expression, bare=expression is not None)
    if rest.unusable and rest.whole:
        raise DataError(f"{where}: an object of the answer is no box: {rest.reason}")
    if rest.dropped or not rest.whole or not (rows.boxes or rest.says_nothing):
        return None
    if not expression and not all(map(str.strip, rows.labels)):
        raise DataError(f"{where}: a label of the answer holds nothing, or nothing but a tag")
    if why := untold_turns(answer):
        raise DataError(f"{where}: {why}")
    refuse_shares((side for box in rows.boxes for side in box), where)
    return tuple(
        Object(placed_xyxy(box, size_wh, where), expression or label)
        for box, label in zip(rows.boxes, rows.labels, strict=True)
    )


def conversation_row(sample: Sample) -> dict[str, Any]:
    """The sample as a line of VLM-R1's training file: boxes in whole pixels of the original."""
    kept = sample.meta.get("vlmr1")
    if isinstance(kept, dict) and "conversations" in kept and _says_the_same(kept, sample):
        return kept
    answer = sample.answer
    if answer is None:
        objects = [item for item in sample.objects if not item.iscrowd]
        answer = render_answer(Detections.from_objects(objects), PLAIN, sample.size_wh)
    if sample.task == "grounding" and sample.objects:
        (box,) = PLAIN.render_boxes(
            Detections.from_objects(sample.objects[:1]).boxes, sample.size_wh
        )
        answer = str(box)  # what its box reward reads: a bare list
    human = f"{GROUND}{sample.question}." if sample.task == "grounding" else render_problem(sample)
    return {
        "id": sample.id,
        "image": sample.image,
        "conversations": [
            {"from": "human", "value": f"<image>{human}"},
            {"from": "gpt", "value": answer},
        ],
    }


def expression_row(sample: Sample) -> dict[str, Any]:
    """The sample as an element of VLM-R1's list of expressions.

    Raises:
        DataError: it is no grounding sample with one box.
    """
    kept = sample.meta.get("vlmr1")
    if isinstance(kept, dict) and "solution" in kept and _says_the_same(kept, sample):
        return kept
    if sample.task != "grounding" or len(sample.objects) != 1:
        raise DataError(
            f"sample {sample.id!r}: VLM-R1's list holds one expression with one box a row; "
            "export to a .jsonl file instead"
        )
    bbox = sample.objects[0].bbox
    extent = (*sample.size_wh, *sample.size_wh)
    expression = sample.question or sample.labels[0]
    return {
        "image": sample.image,
        "problem": f"{GROUND}{expression}.",
        "normal_caption": expression,
        "solution": list(bbox),
        "normalized_solution": [
            math.floor(1000 * value / side) for value, side in zip(bbox, extent, strict=True)
        ],
        "width": sample.width,
        "height": sample.height,
        "id": sample.id,
    }


def _says_the_same(row: dict[str, Any], sample: Sample) -> bool:
    """Whether the row that a sample was read from still holds the sample's image and answer."""
    try:
        if _one_image(row, "row") != sample.image:
            return False
        if "solution" in row:
            return _expression_objects(row, sample.size_wh, "row") == sample.objects
        question, answer = _turns(row, "row")
        expression = _EXPRESSION.search(question)
        found = _answer_objects(
            answer, expression.group(1) if expression else None, sample.size_wh, "row"
        )
    except (DataError, KeyError):
        return False
    return answer == sample.answer if found is None else found == sample.objects
