"""Training rows of vision-language models to samples: every turn that asks for boxes is one.

Rows of ms-swift, LLaMA-Factory, Qwen, InternVL, PaliGemma and Florence-2, Visual-RFT and EasyR1, as
a JSON list or as JSON lines; chat_rows.py knows their forms, chat_questions.py what is asked for,
chat_answers.py and chat_objects.py the boxes. Law: a turn is read whole or rejected; a label is
asked for where its turn asks for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from boxrl.data.files import read_lines
from boxrl.data.formats.chat_answers import (
    Box,
    OtherFrame,
    holds_boxes,
    read_boxes,
    says_nothing,
    why_unfinished,
)
from boxrl.data.formats.chat_objects import Objects
from boxrl.data.formats.chat_questions import Question, read_question
from boxrl.data.formats.chat_rows import Dialogue, image_settings, read_dialogue, shown_wh
from boxrl.data.formats.coco_joins import as_id
from boxrl.data.formats.documents import Document
from boxrl.data.formats.image_folder import ImageFolder
from boxrl.data.formats.reading import Reading, Rejected, check_declared, placed_xyxy
from boxrl.data.images import read_header
from boxrl.errors import DataError, tally
from boxrl.families import FAMILIES, Family, build_family
from boxrl.families.signs import AS_TOKENS, find_sign
from boxrl.guard.files import parse_json_object
from boxrl.parsing import parse
from boxrl.parsing.answers import find_answer, split_thought
from boxrl.types import Asked, Object, Sample, each_once, fold_label

LISTED, NO_LABEL = "Detect the following objects: ", "names no label"

Row = dict[str, Any]
Size = tuple[int, int]


def read_chat(annotations: Path, images: Path, *, family: str | None = None) -> Reading:
    """Samples of a file of training rows, in its order.

    Args:
        annotations: .jsonl, or .json with a list of rows, or of lists of them.
        images: folder that image paths start from; headers are read for the sizes.
        family: name of the model family that the rows were written for, or its .yaml file; needed
            where answers are JSON, whose frame nothing else tells.

    Raises:
        DataError: no such file. A bad row or turn is a `Rejected`.
        UsageError: answers as JSON without a family.
    """
    frame = build_family(family) if family is not None else None
    listed = list(_rows(annotations))
    reader = _Reader(ImageFolder(images), frame)
    notes: list[str] = []

    def rows() -> Iterator[Sample | Rejected]:
        for row, where in listed:
            if isinstance(row, DataError):
                yield Rejected(str(row), None)
            else:
                yield from reader.read(row, where)
        for other in reader.others.values():
            notes.extend(other.told())
        if reader.passed:
            notes.append(f"{tally(reader.passed, 'turn')} without a question for boxes left out")

    return Reading(len(listed), rows(), notes=notes, images=reader.images)


def _rows(path: Path) -> Iterator[tuple[Row | DataError, str]]:
    """(row, where) of every row; packed rows one by one."""
    if path.name.removesuffix(".gz").endswith(".jsonl"):
        for line, content in read_lines(path):
            where = f"{path}:{line}"
            try:
                yield (
                    content
                    if isinstance(content, DataError)
                    else parse_json_object(content, where),
                    where,
                )
            except DataError as error:
                yield error, where
        return
    document = Document(path)
    if not isinstance(document.content, list):
        raise DataError(f"{path}:1: expected a list of rows, got {type(document.content).__name__}")
    for place, row in enumerate(document.content):
        where = document.where(None, place)
        for part in row if isinstance(row, list) else [row]:
            yield (
                part
                if isinstance(part, dict)
                else DataError(f"{where}: expected a row, got {part!r:.80}"),
                where,
            )


class _Reader:
    """Turns rows into samples, and gives them their ids."""

    def __init__(self, images: ImageFolder, family: Family | None) -> None:
        self.images, self.family = images, family
        self.silent, self.others = False, dict[str, OtherFrame]()
        if family is not None:
            silence = parse("", family, None, answer_tag="optional")
            self.silent, self.others[""] = silence.status == "empty", OtherFrame(family)
        self.seen: Counter[str] = Counter()
        self.passed = 0

    def read(self, row: Row, where: str) -> Iterator[Sample | Rejected]:
        """The samples of a row."""
        try:
            dialogue = read_dialogue(row, where)
            image = self.images.locate(_one_image(dialogue, where), where)
            size_wh = read_header(self.images.folder / image, where).size_wh
            objects = Objects(dialogue.objects or {}, size_wh, where)
            self._check_size(row, size_wh, bool(dialogue.objects), where)
        except DataError as error:
            yield Rejected(str(error), row)
            return
        found = [*self._samples(row, dialogue, image, size_wh, objects, where)]
        if objects.boxes and not objects.captions and all(isinstance(s, Sample) for s in found):
            reason = f"{where}: {len(objects.boxes)} boxes of objects stand in no turn"
            yield Rejected(reason, row)
        else:
            yield from found

    def _check_size(self, row: Row, size_wh: Size, placed: bool, where: str) -> None:
        """Stop where boxes are in pixels and the row says that they are those of another size."""
        frame = self.family.frame if self.family is not None else ""
        if placed or frame in ("original", "resized"):
            check_declared(row, size_wh, where)
        if self.family is not None and frame == "resized" and (settings := image_settings(row)):
            theirs = shown_wh(settings, self.family, size_wh, where)
            mine = self.family.input_size_wh(size_wh)
            if theirs != mine:
                raise DataError(
                    f"{where}: the row shows its image to the model at {theirs[0]} x {theirs[1]} "
                    f"px, --family at {mine[0]} x {mine[1]}; name a FILE.yaml with like: "
                    f"{self.family.name} and the row's min_pixels and max_pixels"
                )

    def _samples(
        self,
        row: Row,
        dialogue: Dialogue,
        image: str,
        size_wh: Size,
        objects: Objects,
        where: str,
    ) -> Iterator[Sample | Rejected]:
        """The turns of a row that ask for boxes."""
        key = self._key(dialogue.key or str(PurePosixPath(image).with_suffix("")))
        by_silence = self.silent or row.get("suffix") is not None
        for number, (question, answer) in enumerate(dialogue.turns, start=1):
            empty = Sample(
                id=f"{key}/{number}" if len(dialogue.turns) > 1 else key,
                image=image,
                width=size_wh[0],
                height=size_wh[1],
                task="detection",
                labels=(),
            )
            try:
                sample = self._answered(
                    empty, question, answer, objects, by_silence, dialogue.words, where
                )
            except DataError as error:
                yield Rejected(str(error), row)
                continue
            if sample is None:
                self.passed += 1
            else:
                yield sample

    def _key(self, key: str) -> str:
        self.seen[key] += 1
        return key if self.seen[key] == 1 else f"{key}#{self.seen[key]}"

    def _answered(
        self,
        empty: Sample,
        question: str,
        answer: str,
        objects: Objects,
        by_silence: bool,
        words: str,
        where: str,
    ) -> Sample | None:
        """The sample of a turn; None where it asks for no boxes."""
        filled = objects.fill(question)
        question, refs = filled.text, tuple(dict.fromkeys(filled.refs))
        asked = read_question(question)
        if refs and asked.kind != "list":
            asked = Question(refs, kind="names")
        why = why_unfinished(question, answer)
        if why and (asked.labels or holds_boxes(answer)):
            objects.fill(answer)  # so that the turns behind it take their own
            raise DataError(f"{where}: the answer {answer!r:.80} {why}")
        thought, said = split_thought(answer)
        objects.fill(thought)  # its boxes are taken, and are no answer
        if "<bbox>" in said or objects.captions:
            pairs = objects.answer(objects.fill(said), refs or asked.labels)
        elif says_nothing(answer, by_silence):
            pairs = []
        elif holds_boxes(answer):
            known = Asked(asked.labels, asked.task)
            pairs = self._boxes(answer, known, empty.size_wh, where, words)
        elif answer.strip().isdecimal() and "how many" in question.lower():
            words = question.replace("<image>", " ").strip()
            return replace(empty, task="counting", question=words, answer=answer.strip())
        elif asked.kind == "list":
            raise DataError(f"{where}: boxes are asked for, and {answer!r:.80} holds none")
        else:
            return None
        labels, found = _agreed(asked, pairs, empty.size_wh, where)
        expression = labels[0] if asked.task == "grounding" else None
        return replace(empty, task=asked.task, labels=labels, objects=found, question=expression)

    def _boxes(
        self, answer: str, asked: Asked, size_wh: Size, where: str, words: str
    ) -> list[tuple[str, Box]]:
        pairs = read_boxes(answer, self.family, asked, size_wh, where, words)
        key = "" if self.family is not None else find_sign(find_answer(answer).answer) or ""
        if key and key not in AS_TOKENS and key not in self.others:
            self.others[key] = OtherFrame(FAMILIES[key])
        if key in self.others:
            self.others[key].look_at([box for _, box in pairs], size_wh)
        return pairs


def _one_image(dialogue: Dialogue, where: str) -> str:
    """The image of a row; of several the one that all boxes name."""
    images = dialogue.images
    objects = dialogue.objects
    if len(images) > 1 and isinstance(objects, dict | list):
        listed = (
            objects.get("image_id")
            if isinstance(objects, dict)
            else [item.get("image", 0) if isinstance(item, dict) else 0 for item in objects]
        )
        boxes = objects.get("bbox") if isinstance(objects, dict) else objects
        count = len(boxes) if isinstance(boxes, list) else 0
        given = [as_id(place) for place in listed] if isinstance(listed, list) else []
        named = {*given[:count], *([0] if len(given) < count else [])}
        place = named.pop() if len(named) == 1 else None
        if isinstance(place, int) and 0 <= place < len(images):
            return images[place]
    if len(images) != 1:
        raise DataError(f"{where}: {len(images)} images; samples have one")
    return images[0]


def _agreed(
    asked: Question, pairs: list[tuple[str, Box]], size_wh: tuple[int, int], where: str
) -> tuple[tuple[str, ...], tuple[Object, ...]]:
    """Labels and objects, where question and answer agree.

    Labels of the question are what is asked for where it lists them. Of other wordings it is what
    the answer names, or where it says that there is none, the names that the question has.
    """
    named = each_once(label for label, _ in pairs if label)
    known, said = set(map(fold_label, asked.labels)), set(map(fold_label, named))
    strange = [label for label in named if fold_label(label) not in known]
    labels = asked.labels
    if asked.kind != "list" and named:
        labels = each_once([*(one for one in labels if fold_label(one) in said), *named])
    elif strange:
        raise DataError(f"{where}: the answer names {strange[0]!r:.80}, which nobody asked for")
    if not labels or (asked.kind == "words" and not pairs):
        what = "boxes without labels" if pairs else "that there is no object"
        why = f"is no list of labels; begin it with {LISTED!r} if it is" if labels else NO_LABEL
        raise DataError(f"{where}: the answer says {what}, and the question {why}")
    if not all(label for label, _ in pairs) and (len(known) != 1 or strange):
        count = len(known | said)
        raise DataError(f"{where}: a box without a label, where {count} are named")
    spelt = {fold_label(label): label for label in labels}
    objects = tuple(
        Object(placed_xyxy(box, size_wh, where), spelt[fold_label(label)] if label else labels[0])
        for label, box in pairs
    )
    return labels, objects
