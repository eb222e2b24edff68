"""Every defect of a samples file, before a GPU is rented for it.

Rows are looked at one by one (`lint_rows`), then together: ids, labels, frames, contradictions.
A file can be repaired into a new one: what can be fixed without a guess is, rows that cannot
are left out, and every change is listed.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from boxrl.data.files import read_lines, write_atomic
from boxrl.data.kinds import way_out
from boxrl.data.lint.copies import UNCOMPARED, HeldOut, can_hash
from boxrl.data.lint.prompts import PromptDefect, lint_labels, lint_rendered
from boxrl.data.lint.rows import (
    Checked,
    Defect,
    Frame,
    check_image,
    check_row,
    settle,
    skeleton,
)
from boxrl.data.samples import read_samples, render_sample
from boxrl.errors import DataError, UsageError
from boxrl.families import FAMILIES, Family
from boxrl.families.frames import GRID
from boxrl.prompts import PROMPTS, Prompt
from boxrl.types import Sample, fold_label

BATCH = 256
"""Rows whose images are read at the same time."""


class _Grid(NamedTuple):
    """What boxes look like that all lie in a corner of large images.

    Attributes:
        whole: what the image measures on it.
        side: px; the longer side of images whose boxes would lie beyond it, were they pixels.
        least: how many boxes are enough.
        words: what it is.
    """

    whole: int
    side: int
    least: int
    words: str


GRIDS = (
    _Grid(100, 400, 20, "percent of the image"),
    _Grid(GRID, 2000, 1, f"a grid of 0 to {GRID}"),
    _Grid(GRID, 1250, 20, f"a grid of 0 to {GRID}"),
)

CORNER, BORDER, ENOUGH = 0.75, 0.05, 100
"""Of so many images no box ends beyond the first share of their sides, though some begin before the
second: objects keep off two of the four borders only where these are not the image's."""

OFTEN = 3
"""From so many questions on a label without any box is worth a word."""


class Lint(NamedTuple):
    """The outcome: rows looked at, how many a repair keeps, defects by line, what was not seen."""

    rows: int
    kept: int
    defects: list[Defect]
    notes: list[str]

    @property
    def errors(self) -> int:
        """How many defects make the file unfit for training."""
        return sum(defect.severity == "error" for defect in self.defects)


def lint(
    path: Path,
    images: Path | None = None,
    *,
    validation: Path | None = None,
    validation_images: Path | None = None,
    fixed: Path | None = None,
    prompt: Prompt = PROMPTS["standard"],
    family: Family = FAMILIES["plain"],
    advance: Callable[[int], None] = lambda count: None,
) -> Lint:
    """Look for every defect of a samples file.

    Args:
        path: the samples file.
        images: its images folder; None opens no image.
        validation: a samples file that must not share an image with this one, or a copy of one.
        validation_images: its images folder where that is not `images`.
        fixed: where to write a repaired file; `STEM.changes.jsonl` beside it lists the changes.
        prompt: looked at as well, filled with the first sample of each task.
        family: whose syntax the prompt's example must be in, and whose image processor must take
            the images' shapes.
        advance: called with the number of rows just done.

    Raises:
        DataError: no such file, `images` holds not one of its images, or
            it is of another kind and `fixed` would be empty.
        UsageError: `fixed` exists: repairing never writes over a file.
    """
    if fixed is not None and fixed.exists():
        raise UsageError(f"{fixed}: exists; --fix writes a new file, name another one")
    if images is not None:
        _refuse_wrong_folder(path, images)
    across = _AcrossRows(prompt, family)
    folder = validation_images or images
    held_out = HeldOut(validation, read_samples(validation), folder) if validation else None
    notes = [UNCOMPARED] if held_out is not None and folder and not can_hash() else []
    defects: list[Defect] = []
    rows = kept = 0
    frames: set[Frame | None] = set()
    waiting: list[Checked] = []  # for what the rest of the file says of their frame
    for checked in _check_rows(path, images, held_out, advance):
        rows += 1
        frames.add(checked.frame)
        if checked.sample is not None:
            kept += 1
            defects += across.look_at(checked.line, checked.sample)
        if fixed is not None or checked.frame == "either":
            waiting.append(checked)
        else:
            defects += checked.defects
    settled = [settle(checked, frames) for checked in waiting]
    defects += chain.from_iterable(checked.defects for checked in settled)
    defects += across.conclude(rows)
    if fixed is not None:
        if not kept and (kind := way_out(path, "samples")):
            raise DataError(f"{path}: no row is a sample{kind}")
        _write_repaired(fixed, settled)
    return Lint(rows, kept, sorted(defects, key=lambda defect: defect.line), notes)


def changes_path(fixed: Path) -> Path:
    """Where the changes of a repaired file are listed."""
    return fixed.with_name(f"{fixed.stem}.changes.jsonl")


def _refuse_wrong_folder(path: Path, images: Path) -> None:
    """Stop where no image at all is found: a repair would leave every row out."""
    samples = (check_row(number, line).sample for number, line in read_lines(path))
    first = None
    for sample in filter(None, samples):
        if os.path.exists(images / sample.image):  # noqa: PTH110 - False for odd names, too
            return
        first = first or sample.image
    if first is not None:
        raise DataError(
            f"{path}: none of its images lies in {images}, such as {first!r}; --images names the "
            "folder that these paths start from, the one that was named to data convert"
        )


def _check_rows(
    path: Path,
    images: Path | None,
    held_out: HeldOut | None,
    advance: Callable[[int], None],
) -> Iterator[Checked]:
    """Each row on its own; images of a batch are read in parallel."""

    def look(row: Checked) -> Checked:
        if held_out is not None:
            row = held_out.check(row, images)
        return row if images is None else check_image(row, images)

    with ThreadPoolExecutor() as pool:
        lines = read_lines(path)
        while batch := list(islice(lines, BATCH)):
            checked: Iterable[Checked] = (check_row(number, line) for number, line in batch)
            if images is not None or held_out is not None:
                checked = pool.map(look, list(checked))
            yield from checked
            advance(len(batch))


class _Answer(NamedTuple):
    """What a row says of its image: labels asked for, those with a box, those beside the question.

    The last two are folded.
    """

    line: int
    labels: tuple[str, ...]
    present: frozenset[str]
    beside: frozenset[str]


class _AcrossRows:
    """Defects that no row has by itself."""

    def __init__(self, prompt: Prompt, family: Family) -> None:
        self.prompt, self.family = prompt, family
        self.tasks: set[str] = set()
        self.ids: dict[str, int] = {}
        self.labels: dict[str, int] = {}  # label -> first line
        self.asked: Counter[str] = Counter()  # labels of detection samples
        self.present: set[str] = set()
        self.answers: dict[str, list[_Answer]] = {}
        self.interned: dict[Any, Any] = {}
        self.refusing: dict[tuple[int, int], str] = {}  # size -> families that refuse it
        self.shown: set[str] = set()  # images with boxes
        # Shares of the sides at which the first box begins, in x and y, and the last one ends.
        self.first, self.last = (1.0, 1.0), 0.0
        # first line, boxes, furthest coordinate in images of such sides
        self.large = dict.fromkeys(GRIDS, (0, 0, 0.0))

    def look_at(self, line: int, sample: Sample) -> Iterator[Defect]:
        """Defects against the rows before; remembers what later rows are compared with."""
        first = self.ids.setdefault(sample.id, line)
        if first != line:
            yield Defect(
                line, sample.id, "duplicate-id", "error", f"id already used in line {first}",
                "make ids unique, such as by a suffix",
            )  # fmt: skip
        for label in sample.labels:
            if label not in self.labels:
                self.labels[label] = line
                if sample.task == "detection":
                    yield from self._warnings(line, sample, lint_labels([label]))
        if sample.task not in self.tasks:
            self.tasks.add(sample.task)
            yield from self._warnings(line, sample, lint_rendered(sample, self.prompt, self.family))
        if sample.task == "detection":
            self._remember_answer(line, sample)
            self.asked.update(dict.fromkeys(sample.labels).keys())
            self.present.update([item.label for item in sample.objects if not item.iscrowd])
        yield from self._refusals(line, sample)
        self._look_at_borders(sample)
        for grid in self.large if sample.objects else ():
            if max(sample.size_wh) >= grid.side:
                start, boxes, furthest = self.large[grid]
                furthest = max(furthest, *(max(item.bbox) for item in sample.objects))
                self.large[grid] = (start or line, boxes + len(sample.objects), furthest)

    def _look_at_borders(self, sample: Sample) -> None:
        width, height = sample.size_wh
        for item in sample.objects:
            x1, y1, x2, y2 = item.bbox
            self.first = min(self.first[0], x1 / width), min(self.first[1], y1 / height)
            self.last = max(self.last, x2 / width, y2 / height)
        if sample.objects:
            self.shown.add(sample.image)

    def _refusals(self, line: int, sample: Sample) -> Iterator[Defect]:
        """Shapes that image processors refuse: the named family's, or where none is, any's."""
        width, height = sample.size_wh
        named = self.family.resizing != "unknown"
        if sample.size_wh not in self.refusing:
            families = [self.family] if named else FAMILIES.values()
            refusing = [family.name for family in families if not family.takes(sample.size_wh)]
            self.refusing[sample.size_wh] = ", ".join(refusing)
        if names := self.refusing[sample.size_wh]:
            yield Defect(
                line, sample.id, "image-refused", "error" if named else "warning",
                f"image {sample.image!r} of {width} x {height} px: image processors of {names} "
                "refuse its shape",
                "crop it or leave it out",
            )  # fmt: skip

    def _warnings(self, line: int, sample: Sample, found: list[PromptDefect]) -> Iterator[Defect]:
        for rule, message, fix in found:
            yield Defect(line, sample.id, f"prompt-{rule}", "warning", message, fix)

    def _remember_answer(self, line: int, sample: Sample) -> None:
        present = frozenset(fold_label(item.label) for item in sample.objects)
        beside = frozenset(fold_label(other["label"]) for other in sample.meta.get("others", ()))
        labels = self.interned.setdefault(sample.labels, sample.labels)
        present = self.interned.setdefault(present, present)
        beside = self.interned.setdefault(beside, beside)
        self.answers.setdefault(sample.image, []).append(_Answer(line, labels, present, beside))

    def conclude(self, rows: int) -> Iterator[Defect]:
        """Defects of the file as a whole."""
        if not rows:
            yield Defect(1, "", "no-samples", "error", "the file holds no samples", "convert again")
        yield from self._near_identical_labels()
        yield from self._never_present()
        yield from self._contradictions()
        for grid, (line, boxes, furthest) in self.large.items():
            if boxes >= grid.least and 1 < furthest <= grid.whole:
                yield Defect(
                    line, "", "frame", "warning",
                    f"all {boxes} boxes in images of {grid.side} px and more lie within "
                    f"{grid.whole} px: they look like {grid.words}",
                    "convert boxes to original pixels",
                )  # fmt: skip
                return
        if len(self.shown) >= ENOUGH and self.last <= CORNER and max(self.first) <= BORDER:
            yield Defect(
                1, "", "frame", "warning",
                f"in {len(self.shown):,} images no box ends beyond {self.last:.0%} of the width or "
                "height, and some begin at the border: they look like pixels of smaller copies",
                "scale boxes to the images' own pixels, if so",
            )  # fmt: skip

    def _near_identical_labels(self) -> Iterator[Defect]:
        alike = defaultdict(list)
        for label in self.labels:
            alike[skeleton(label)].append(label)
        for labels in alike.values():
            if len(labels) > 1:
                line = max(self.labels[label] for label in labels)
                yield Defect(
                    line, "", "near-identical-labels", "warning",
                    f"labels {', '.join(map(repr, labels))} differ only in case, spacing, "
                    "punctuation or a plural s",
                    "use one spelling",
                )  # fmt: skip

    def _never_present(self) -> Iterator[Defect]:
        """Labels that no image holds: a category that is none teaches only to leave it out."""
        present = set(map(fold_label, self.present))
        never = {
            label: count
            for label, count in self.asked.most_common()
            if count >= OFTEN and fold_label(label) not in present
        }
        if never:
            told = ", ".join(f"{label!r} ({n:,} times)" for label, n in list(never.items())[:5])
            more = f" and {len(never) - 5} more" if len(never) > 5 else ""
            yield Defect(
                min(self.labels[label] for label in never), "", "label-never-present", "warning",
                f"asked for and never present: {told}{more}",
                "leave out names that no image holds, such as background or a data set's own name",
            )  # fmt: skip

    def _contradictions(self) -> Iterator[Defect]:
        for image, answers in self.answers.items():
            if len(answers) < 2:
                continue
            present = {
                label: answer.line for answer in answers for label in answer.present | answer.beside
            }
            for answer in answers:
                elsewhere = present.keys() - answer.present - answer.beside
                for label in answer.labels if elsewhere else ():
                    if fold_label(label) in elsewhere:
                        yield Defect(
                            answer.line, "", "conflicting-negative", "error",
                            f"{label!r} has no box here, but line {present[fold_label(label)]} has "
                            f"one in the same image {image!r}",
                            "keep one of the two",
                        )  # fmt: skip


def _write_repaired(path: Path, rows: Iterable[Checked]) -> None:
    """Write the rows as far as they can be repaired, and the list of their changes."""
    ids: set[str] = set()
    with write_atomic(path) as samples, write_atomic(changes_path(path)) as listed:
        for checked in rows:
            sample, changes = checked.sample, list(checked.changes)
            if sample is None:
                changes = ["left out: " + "; ".join(d.message for d in checked.defects)]
            else:
                unique = _unique(sample.id, ids)
                if unique != sample.id:
                    changes.append(f"id {sample.id!r} is now {unique!r}")
                    sample = replace(sample, id=unique)
                samples.write(render_sample(sample) + "\n")
            for change in changes:
                row = {"line": checked.line, "id": checked.id, "change": change}
                listed.write(json.dumps(row, ensure_ascii=False) + "\n")


def _unique(key: str, ids: set[str]) -> str:
    """The id, with a number behind it where it is taken; it is taken from now on."""
    unique, number = key, 1
    while unique in ids:
        number += 1
        unique = f"{key}#{number}"
    ids.add(unique)
    return unique
