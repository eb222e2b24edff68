"""Teach the tiny VLM to look a second time: is what a box holds what it is called?

    python -m boxrl.engines.tiny.teach_verify --out DIR

makes DIR/taught from `tiny-taught`. Both packaged models answer scenes at temperature 1; their
boxes and those of the objects are drawn into the scenes as `boxrl verify` does, and SFT teaches Yes
where a box lies on an object of its label (IoU .5), else No, as many of either. What comes of it
detects no more: it verifies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from random import Random

from boxrl.config import Recipe
from boxrl.data.samples import read_samples, write_samples
from boxrl.data.synthetic import draw_files
from boxrl.engines.tiny import lessons
from boxrl.engines.tiny.onward import START
from boxrl.evaluate.calling import evaluate_files
from boxrl.generation.questions import load_image, mark_box
from boxrl.generation.verify import box_questions
from boxrl.matching import HIT, label_overlaps
from boxrl.types import Detections, Object, Sample

ANSWERING = ("tiny", START)
"""Whose boxes are verified."""


def draw_questions(folder: Path, scenes: int, seed: int, threads: int) -> Path:
    """Questions about boxes, as many to be answered Yes as No; FOLDER/questions.jsonl.

    Args:
        folder: of the scenes and what is made of them.
        scenes: how many are answered.
        seed: of scenes and draws.
        threads: of torch.
    """
    drawn = draw_files("standard", scenes, seed, "verify", folder)
    samples, images = read_samples(drawn), folder / "images"
    asked = [
        replace(question, id=f"{question.id} {name}")
        for name, boxes in _boxes(drawn, samples, seed, threads)
        for sample, detections in boxes
        for question in _answered(sample, detections)
    ]
    Random(seed).shuffle(asked)
    sides = ([item for item in asked if item.answer == answer] for answer in ("Yes", "No"))
    kept = []
    for question in chain.from_iterable(zip(*sides, strict=False)):
        image = f"{question.id}.png"
        shown = load_image(images / question.image, question)
        mark_box(shown, question.meta["marked"]).save(images / image)
        kept.append(replace(question, image=image, meta={}))
    write_samples(folder / "questions.jsonl", kept)
    return folder / "questions.jsonl"


def _boxes(
    drawn: Path, samples: list[Sample], seed: int, threads: int
) -> Iterator[tuple[str, list[tuple[Sample, Detections]]]]:
    """Those of the objects, and what each of ANSWERING draws."""
    yield "objects", [(sample, Detections.from_objects(sample.targets)) for sample in samples]
    by_id = {sample.id: sample for sample in samples}
    for name in ANSWERING:
        answers = lessons.draw_answers(name, drawn, seed, threads)
        rows = evaluate_files(samples, answers, resamples=0).rows
        found = [[Object(box.bbox, box.label) for box in row.predictions] for row in rows]
        pairs = zip(rows, found, strict=True)
        yield name, [(by_id[row.id], Detections.from_objects(boxes)) for row, boxes in pairs]


def _answered(sample: Sample, boxes: Detections) -> Iterator[Sample]:
    """A question per box, with what is right."""
    targets = Detections.from_objects(sample.targets)
    right = {box for box, _, _ in label_overlaps(boxes, targets, HIT)}
    for place, question in enumerate(box_questions(sample, boxes)):
        yield replace(question, answer="Yes" if place in right else "No")


def build_recipe(folder: Path, questions: Path, steps: int, seed: int, threads: int) -> Recipe:
    """SFT on the questions; arguments as `draw_questions`."""
    prompt = folder / "bare.yaml"
    prompt.write_text('instruction: ""\n', "utf-8")
    return lessons.build_recipe("teach-verify", prompt, questions, steps, seed, threads)


def main() -> None:
    """Teach it; see the module's docstring."""
    lessons.teach(__doc__, "that both models answer", draw_questions, build_recipe)


if __name__ == "__main__":
    main()
