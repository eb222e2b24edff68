"""The samples of a benchmark, from the files under its data root."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from boxrl.benchmarks.record import Benchmark, Part, located
from boxrl.data.formats import READERS
from boxrl.data.formats.reading import Rejected
from boxrl.errors import DataError, UsageError
from boxrl.types import Sample


class Built(NamedTuple):
    """What the data root gives.

    Attributes:
        samples: of all parts that are there, in the benchmark's order.
        missing: part -> why it is not there.
    """

    samples: list[Sample]
    missing: dict[str, str]


def build_samples(
    benchmark: Benchmark,
    root: Path,
    mode: str | None = None,
    limit: int | None = None,
    allow_missing: bool = False,
) -> Built:
    """All samples of all parts that the data root holds; image paths start from it.

    Ids are PART/ID and `meta.part` names the part.

    Args:
        benchmark: which one.
        root: the data root.
        mode: one of the benchmark's modes; None is its first.
        limit: at most so many samples of each part, the first ones.
        allow_missing: take the parts that are there; else every one must be.

    Raises:
        UsageError: an unknown mode, or a part is not there; see `allow_missing`.
        DataError: a file is damaged, or a row of it is bad.
    """
    options = _mode_option(benchmark, mode)
    samples: list[Sample] = []
    missing: dict[str, str] = {}
    for part in benchmark.parts:
        try:
            samples += _part_samples(benchmark, part, root, options, limit)
        except UsageError as error:
            missing[part.name] = str(error)
    if not samples:
        raise UsageError(
            f"{root}: holds nothing of {benchmark.name} ({next(iter(missing.values()))}); "
            f"expected there: {', '.join(layout(benchmark))}"
        )
    if missing and not allow_missing:
        first = next(iter(missing.values()))
        raise UsageError(
            f"{root}: {len(missing)} of {len(benchmark.parts)} parts of {benchmark.name} are not "
            f"there: {', '.join(missing)} ({first}); add them, or run the others with "
            "--allow-missing"
        )
    return Built(samples, missing)


def layout(benchmark: Benchmark) -> list[str]:
    """The paths under the data root, each once; `or` between those that serve alike."""
    paths: list[str] = []
    for part in benchmark.parts:
        paths += part.files or [" or ".join(part.annotations)]
        paths.append(" or ".join(part.images))
    return list(dict.fromkeys(paths))


def _mode_option(benchmark: Benchmark, mode: str | None) -> dict[str, str]:
    if mode is not None and mode not in benchmark.modes:
        known = ", ".join(benchmark.modes) or "none"
        raise UsageError(f"{benchmark.name}: unknown mode {mode!r}; modes: {known}")
    return {benchmark.mode_option: mode or benchmark.modes[0]} if benchmark.modes else {}


def _part_samples(
    benchmark: Benchmark, part: Part, root: Path, options: dict[str, Any], limit: int | None
) -> list[Sample]:
    images = located(root, part.images)
    annotations = located(root, part.annotations)
    reading = READERS[benchmark.reader](annotations, images, **part.options, **options)
    samples: list[Sample] = []
    for row in reading.rows:
        if isinstance(row, Rejected):
            raise DataError(f"{row.reason}; a benchmark leaves nothing out: mend the file")
        if len(samples) == limit:
            break
        samples.append(_placed(row, part, images.relative_to(root)))
    return samples


def _placed(sample: Sample, part: Part, prefix: Path) -> Sample:
    meta = {**sample.meta, "part": part.name}
    image = (prefix / sample.image).as_posix()
    named = sample.id.startswith(f"{part.name}/")  # some readers say the file's name themselves
    key = sample.id if named else f"{part.name}/{sample.id}"
    return replace(sample, id=key, image=image, meta=meta)
