"""A samples file in figures, as `boxrl data stats --json` prints them; enough to plan with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boxrl.errors import DataError
from boxrl.families import Family
from boxrl.guard.files import read_json_object
from boxrl.types import Object, Sample


@dataclass(frozen=True, slots=True)
class Summary:
    """What is known of samples that are not here.

    Attributes:
        samples: how many there are.
        tasks: theirs.
        labels: all labels, the longest first.
        asked: labels of one question, at most.
        boxes: of one answer, at most.
        image_tokens: of one image at most, by family, at the family's released limits.
    """

    samples: int
    tasks: tuple[str, ...]
    labels: tuple[str, ...]
    asked: int
    boxes: int
    image_tokens: dict[str, int]

    def largest(self, family: Family) -> list[Sample]:
        """A sample of each task as large as any: longest labels, most boxes, largest image.

        Args:
            family: of the model that is to learn.

        Raises:
            DataError: the summary knows nothing of its images.
        """
        if family.name not in self.image_tokens:
            known = ", ".join(self.image_tokens)
            raise DataError(f"the summary has no image_tokens of {family.name}; it has: {known}")
        columns, rows = _grid(self.image_tokens[family.name])
        width, height = columns * family.factor, rows * family.factor
        labels = self.labels[: max(self.asked, 1)] or ("object",)
        objects = tuple(
            Object((0, 0, width, height), labels[number % len(labels)])
            for number in range(self.boxes)
        )
        return [
            Sample(
                id=task, image="", width=width, height=height, task=task,  # type: ignore[arg-type]
                labels=labels[:1] if task == "grounding" else labels, objects=objects,
            )
            for task in self.tasks
        ]  # fmt: skip


def read_summary(path: Path) -> Summary:
    """The figures of a file that holds what `boxrl data stats --json` printed.

    Args:
        path: the file.

    Raises:
        DataError: it cannot be read, or holds something else.
    """
    read = read_json_object(path)
    try:
        return Summary(
            samples=int(read["samples"]),
            tasks=tuple(read["tasks"]),
            labels=tuple(sorted(read["labels"], key=len, reverse=True)),
            asked=int(read["labels_asked"]["max"]),
            boxes=int(read["boxes_per_sample"]["max"]),
            image_tokens={name: _own(found) for name, found in read["image_tokens"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: expected what boxrl data stats --json prints ({error!r:.80})"
        ) from error


def _own(found: dict[str, Any]) -> int:
    return int(found["own"]["max"])


def _grid(tokens: int) -> tuple[int, int]:
    """Columns and rows of a rectangle of at least so many cells, nearly square."""
    columns = max(1, round(tokens**0.5))
    return columns, -(-tokens // columns)
