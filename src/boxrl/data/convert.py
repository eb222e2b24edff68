"""Readings to samples files: all or nothing; bad rows may be left out into a file beside it."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from boxrl.data.files import finite, no_cycle_search, write_atomic
from boxrl.data.formats.reading import MOST_SHARE, Reading, Rejected, refuse_shares
from boxrl.data.samples import render_checked
from boxrl.errors import DataError
from boxrl.types import Sample

STRIDE = 64
"""Rows between two steps of the progress bar, which costs more than a row."""

OnError = Literal["stop", "skip"]

MAX_REJECTED = 0.1
"""Share of a source's annotations that may be left out; beyond it, the source is read wrongly."""


@dataclass(slots=True)
class Conversion:
    """What was written.

    Attributes:
        samples: rows of the samples file.
        objects: boxes in them, crowd regions aside.
        crowd: crowd regions.
        negatives: samples without a box.
        rejected: rows left out; they stand in `rejected_path`, each with its reason.
        notes: what people should hear of that is no rejection.
    """

    samples: int = 0
    objects: int = 0
    crowd: int = 0
    negatives: int = 0
    rejected: int = 0
    notes: list[str] = field(default_factory=list)


def rejected_path(path: Path) -> Path:
    """Where the rows stand that did not get into the samples file: FILE.rejected.jsonl."""
    return path.with_name(f"{path.stem}.rejected.jsonl")


@no_cycle_search()
def convert(
    reading: Reading,
    path: Path,
    *,
    on_error: OnError = "stop",
    max_rejected: float = MAX_REJECTED,
    limit: int | None = None,
    seed: int | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Conversion:
    """Write a reading as a samples file, which appears only when it is whole.

    Args:
        reading: what a reader returned.
        path: the samples file.
        on_error: `stop` at the first bad row, or `skip` bad rows into `rejected_path`.
        max_rejected: share of the annotations, 0 to 1, that may be lost with skipped rows.
        limit: at most so many samples: the first ones, or with `seed` drawn at random.
        seed: of that draw; samples keep the order of the source.
        advance: called with the number of records just done, in all `reading.total`.

    Raises:
        DataError: the first bad row, a duplicate id, more rejected than allowed, no sample left,
            or boxes that are shares of the image; nothing is written then.
    """
    done = Conversion()
    rejections: list[Rejected] = []
    rows = _counted(reading, advance)
    samples = _usable(rows, on_error, rejections)
    if limit is not None:
        samples = _limited(samples, limit, seed)
    with write_atomic(path) as handle:
        furthest = 0.0
        for sample, line in samples:
            if furthest <= MOST_SHARE and sample.objects:
                furthest = max(furthest, *(side for item in sample.objects for side in item.bbox))
            handle.write(line + "\n")
            done.samples += 1
            boxes = len(sample.targets)
            done.objects += boxes
            done.crowd += len(sample.objects) - boxes
            done.negatives += not boxes and sample.is_negative
        if not done.samples:
            raise DataError(
                f"{path}: nothing to write: no sample is left of {reading.total} records"
                + (f"; first reason: {rejections[0].reason}" if rejections else "")
            )
        _check_share(rejections, reading, max_rejected, path)
        refuse_shares((furthest,), f"{path}: nothing written")
        done.notes = reading.told()
        if limit is None and done.negatives == done.samples:
            done.notes.append(
                "every sample is a negative; images that nobody annotated, as those of a test "
                "set, are none"
            )
    done.rejected = len(rejections)
    _write_rejections(rejected_path(path), rejections)
    return done


def _counted(reading: Reading, advance: Callable[[int], None]) -> Iterator[Sample | Rejected]:
    """The rows. An image may give none or several; the bar ends at the total all the same."""
    left = reading.total
    for number, row in enumerate(reading.rows, start=1):
        if number % STRIDE == 0:
            step = min(STRIDE, left)
            advance(step)
            left -= step
        yield row
    advance(left)


def _usable(
    rows: Iterable[Sample | Rejected], on_error: OnError, rejections: list[Rejected]
) -> Iterator[tuple[Sample, str]]:
    """Samples with unique ids and their lines; the rest goes to `rejections`, or stops it all."""
    seen: set[str] = set()
    for row in rows:
        if isinstance(row, Sample):
            where = f"sample {row.id!r}"
            try:
                if row.id in seen:
                    raise DataError(f"{where}: duplicate id; ids must be unique")
                line = render_checked(row, where)
            except DataError as error:
                row = Rejected(str(error), row.id)
            else:
                seen.add(row.id)
                yield row, line
                continue
        if on_error == "stop":
            raise DataError(f"{row.reason}; --on-error skip leaves such rows out")
        rejections.append(row)


def _limited(
    samples: Iterator[tuple[Sample, str]], limit: int, seed: int | None
) -> Iterator[tuple[Sample, str]]:
    if seed is None:
        for _, sample in zip(range(limit), samples, strict=False):
            yield sample
        return
    everything = list(samples)
    chosen = random.Random(seed).sample(range(len(everything)), min(limit, len(everything)))
    for index in sorted(chosen):
        yield everything[index]


def _check_share(
    rejections: list[Rejected], reading: Reading, max_rejected: float, path: Path
) -> None:
    """Stop where so much cannot be read that the source is likely not what it is taken for."""
    lost = sum(row.annotations for row in rejections)
    whole = max(reading.total, reading.annotations or 0)
    if lost <= max_rejected * whole:
        return
    kinds = Counter(reason_kind(row.reason) for row in rejections)
    kind, count = kinds.most_common(1)[0]
    example = next(row.reason for row in rejections if reason_kind(row.reason) == kind)
    raise DataError(
        f"{path}: nothing written: {lost:,} of {whole:,} annotations are rejected, more than "
        f"--max-rejected {max_rejected:g} of them; the commonest reason ({count:,} times): "
        f"{example}; mend the source, or pass --max-rejected 1.0"
    )


_DETAIL = re.compile(r"'[^']*'|[-+\d.]+")


def reason_kind(reason: str) -> str:
    """A reason without its place and its values.

    Args:
        reason: of a rejection.
    """
    return _DETAIL.sub("#", reason.partition(": ")[2])


def _write_rejections(path: Path, rejections: list[Rejected]) -> None:
    if not rejections:
        path.unlink(missing_ok=True)
        return
    with write_atomic(path) as handle:
        for reason, row, _ in rejections:
            handle.write(json.dumps({"reason": reason, "row": finite(row)}, default=repr) + "\n")
