"""What a model said about one image, as people look at it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from boxrl.api.drawing import BoxesLike, draw
from boxrl.api.notebooks import boxes_table, folded, paragraph, picture
from boxrl.errors import UsageError, tally
from boxrl.parsing.answers import as_read
from boxrl.report.thinking import extract_thinking
from boxrl.types import Detections, Parsed, fold_label


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Answer:
    """What a model says about one image; a notebook shows it with its boxes.

    Attributes:
        image: what was asked about, RGB and upright.
        question: the user's turn of the conversation, word for word.
        completion: all that the model wrote, as hostile as model text is.
        parsed: how it was read.
        n_tokens: length of the completion; None where a server does not say.
        finish_reason: `stop`, or `length` where it was cut.
        opened: whether the prompt had opened the thought already.
    """

    image: Image.Image
    question: str
    completion: str
    parsed: Parsed
    n_tokens: int | None
    finish_reason: str
    opened: bool = False

    @property
    def detections(self) -> Detections:
        """The boxes found, in the image's own pixels."""
        return self.parsed.detections

    @property
    def thinking(self) -> str | None:
        """What stands between the marks of a thought, such as `<think>`; None without any."""
        return extract_thinking(as_read(self.completion, self.opened))

    @property
    def summary(self) -> str:
        """How the answer read, in one line."""
        parsed = self.parsed
        boxes = tally(len(self.detections), "box", "boxes")
        said = "the model says there are none" if parsed.status == "empty" else boxes
        facts = [said, f"parse status {parsed.status}"]
        if not parsed.tagged:
            facts.append("no answer tag, the whole text was read")
        if parsed.dropped:
            facts.append(f"{tally(parsed.dropped, 'unusable item')} dropped")
        if parsed.flipped:
            facts.append(f"corners of {parsed.flipped} reordered")
        cut = ", cut at the limit" if self.finish_reason == "length" else ""
        length = "length unknown" if self.n_tokens is None else tally(self.n_tokens, "token")
        return "; ".join([*facts, f"{length}{cut}"])

    def draw(self, targets: BoxesLike | None = None) -> Image.Image:
        """The image with the boxes found.

        Args:
            targets: what is right, drawn dashed; see `boxrl.draw`.
        """
        return draw(self.image, self.detections, targets)

    def to_supervision(self) -> Any:
        """The boxes as `supervision.Detections`: class ids count the labels as they come.

        Raises:
            UsageError: supervision is not installed.
        """
        if importlib.util.find_spec("supervision") is None:
            raise UsageError("to_supervision needs supervision; run: pip install supervision")
        import supervision

        labels = self.detections.labels
        names = list(dict.fromkeys(map(fold_label, labels)))
        return supervision.Detections(
            xyxy=self.detections.boxes.astype(np.float32),
            class_id=np.array([names.index(fold_label(name)) for name in labels], dtype=int),
            data={"class_name": np.array(labels, dtype=object)},
        )

    def __repr__(self) -> str:
        return f"<Answer: {self.summary}>" + "".join(f"\n  {row}" for row in self._rows())

    def _rows(self) -> list[str]:
        found = zip(self.detections.labels, self.detections.boxes.tolist(), strict=True)
        return [f"{label!r} at {', '.join(f'{x:.0f}' for x in box)}" for label, box in found]

    def _repr_html_(self) -> str:
        parts = [
            picture(self.draw(), f"the image with {self.summary}"),
            paragraph(self.summary),
            boxes_table(self.detections),
            folded("what the model wrote", self.completion),
            folded("what it was asked", self.question),
        ]
        return str(Markup("").join(parts))
