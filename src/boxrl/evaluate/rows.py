"""One judged sample: what stands in a line of rows.jsonl, and in memory the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from boxrl.data.files import LARGEST_WHOLE, no_cycle_search, read_lines
from boxrl.data.samples import held_once
from boxrl.errors import DataError
from boxrl.guard.files import parse_json_object
from boxrl.metrics.box_errors import BoxKind
from boxrl.types import Detections, Object, Parsed, Sample, Status, Task

_Corners = tuple[float, float, float, float]
_Count = Annotated[int, Meta(ge=0, le=LARGEST_WHOLE)]
_Size = Annotated[int, Meta(ge=1, le=LARGEST_WHOLE)]
_Fraction = Annotated[float, Meta(ge=0, le=1)]


class JudgedBox(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One predicted box.

    Attributes:
        bbox: x1, y1, x2, y2 in original pixels.
        label: as the model wrote it.
        confidence: what ranks it.
        kind: what became of it; see `boxrl.metrics.box_errors`.
        iou: with the object that it was judged by; 0 where there is none.
        on_unasked: whether it is not right and hits (IoU .5) an object of the image that was not
            asked for, as far as the source knows those.
    """

    bbox: _Corners
    label: str
    confidence: float
    kind: BoxKind
    iou: _Fraction = 0.0
    on_unasked: bool = False


class TargetBox(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One object of the sample.

    Attributes:
        bbox: x1, y1, x2, y2 in original pixels.
        label: the name it was asked for by.
        area: what counts as its size, in square pixels.
        iscrowd: a crowd region is no target.
        missed: whether no predicted box accounts for it; see `boxrl.metrics.box_errors`.
    """

    bbox: _Corners
    label: str
    area: Annotated[float, Meta(ge=0)]
    iscrowd: bool = False
    missed: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no box of an image."""
        x1, y1, x2, y2 = self.bbox
        if not (0 <= x1 < x2 and 0 <= y1 < y2):
            raise ValueError(f"bbox {list(self.bbox)} is no box; expected 0 <= x1 < x2, y1 < y2")


class ParseRecord(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """How a completion was read: `Parsed` but for its status and boxes.

    Attributes:
        answer: the text that was read as the answer.
        dropped: items that could not be used.
        flipped: boxes whose corners had to be reordered.
        written: boxes as written of every well-formed item.
        names: their labels as written.
        kept: indices of the items that became boxes; None where all did.
        tagged: whether the answer stood in `<answer>` tags.
        reason: why nothing could be read; "" where the answer is readable.
    """

    answer: str = ""
    dropped: _Count = 0
    flipped: _Count = 0
    written: tuple[tuple[float, ...], ...] = ()
    names: tuple[str, ...] = ()
    kept: tuple[_Count, ...] | None = None
    tagged: bool = False
    reason: str = ""


class Row(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """One judged sample; a line of rows.jsonl.

    Attributes:
        id, image, width, height, task, labels, question: of the sample.
        gold_answer: what is right where the answer is not boxes.
        status: how the completion read.
        parse: what else was read of it.
        formatted: in the form that was asked for: one thought, then one answer, or the makers'.
        n_tokens: completion tokens; None where nobody counted them.
        truncated: cut at the token limit.
        tp, fp, fn: greedy one-to-one matches at IoU .5 within the label; boxes of kind `crowd`
            are in none.
        f1: the reward of that name; None where the answer is not boxes.
        correct: grounding: first box hits; region, counting: answer equals; negatives: says so;
            None for detection samples with targets.
        first_box_hits: where a wrong choice exists, whether the first box hits an asked object.
        looks: what `first_box_hits` was called; goes with the next release.
        unknown_labels: predicted boxes whose label was not asked for.
        predictions: the boxes of the answer, in emission order.
        objects: those of the sample, crowd regions included.
    """

    id: str
    image: str
    width: _Size
    height: _Size
    task: Task
    labels: tuple[str, ...]
    question: str | None = None
    gold_answer: str | None = None
    status: Status
    parse: ParseRecord
    formatted: bool
    n_tokens: _Count | None
    truncated: bool
    tp: _Count
    fp: _Count
    fn: _Count
    f1: _Fraction | None
    correct: bool | None
    first_box_hits: bool | None
    looks: bool | None
    unknown_labels: _Count
    predictions: tuple[JudgedBox, ...]
    objects: tuple[TargetBox, ...]

    def __post_init__(self) -> None:
        """Hold equal lists of labels once, because many samples ask for the same 80."""
        msgspec.structs.force_setattr(self, "labels", held_once(self.labels))

    @property
    def is_negative(self) -> bool:
        """A question about boxes of which the image is known to hold none."""
        return self.f1 is not None and not self.tp + self.fn and self.sample.is_negative

    @property
    def is_faultless(self) -> bool:
        """Right as a whole: every target found and nothing else, or the answer correct."""
        return not self.fp and not self.fn if self.correct is None else self.correct

    @property
    def score(self) -> float:
        """The reward `f1`, or 0 or 1 for a question whose answer is not boxes."""
        return float(bool(self.correct)) if self.f1 is None else self.f1

    @property
    def sample(self) -> Sample:
        """What was asked, without what else its source knows (`meta`)."""
        return Sample(
            id=self.id,
            image=self.image,
            width=self.width,
            height=self.height,
            task=self.task,
            labels=self.labels,
            objects=tuple([Object(item.bbox, item.label, item.iscrowd) for item in self.objects]),
            question=self.question,
            answer=self.gold_answer,
        )

    @property
    def detections(self) -> Detections:
        """The predicted boxes."""
        boxes = np.array([box.bbox for box in self.predictions], dtype=np.float64).reshape(-1, 4)
        return Detections(boxes, tuple([box.label for box in self.predictions]))

    @property
    def parsed(self) -> Parsed:
        """What the completion says, as it was read when it was judged."""
        return Parsed(self.detections, self.status, **msgspec.structs.asdict(self.parse))


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A judged run.

    Attributes:
        metrics: what metrics.json holds: metrics, intervals, blind baseline, protocol.
        rows: one per sample, in the samples' order.
    """

    metrics: dict[str, Any]
    rows: tuple[Row, ...]

    def to_markdown(self) -> str:
        """The figures to cite, with n, intervals and protocol; rates in percent."""
        return self._cited("markdown")

    def to_latex(self) -> str:
        """As `to_markdown`, a LaTeX table that needs no package."""
        return self._cited("latex")

    def to_csv(self) -> str:
        """As `to_markdown`, with every digit, n and protocol in columns of their own."""
        return self._cited("csv")

    def _cited(self, form: Literal["markdown", "latex", "csv"]) -> str:
        from boxrl.evaluate.tables import evaluation_table, render_tables  # which need the rows

        return render_tables([evaluation_table(self.metrics)], form)

    def __repr__(self) -> str:
        return self.to_markdown()

    def _repr_html_(self) -> str:
        from boxrl.evaluate.shown import render_html  # which needs the rows

        return render_html(self.metrics)


_DECODER = msgspec.json.Decoder(Row)


def encode_row(row: Row) -> bytes:
    """One line of rows.jsonl, without its end."""
    try:
        return msgspec.json.encode(row)
    except UnicodeEncodeError:  # an unpaired surrogate in a label, which only JSON can write
        return json.dumps(msgspec.to_builtins(row)).encode()


def decode_row(line: bytes, where: str) -> Row:
    """A row from its line.

    Raises:
        DataError: it is no JSON, or a field is missing or of another kind.
    """
    try:
        try:
            return _DECODER.decode(line)
        except msgspec.ValidationError:
            raise
        except (ValueError, RecursionError):  # an unpaired surrogate, or no JSON: told here
            return msgspec.convert(parse_json_object(line, where), Row)
    except (msgspec.ValidationError, OverflowError, UnicodeEncodeError) as error:
        raise DataError(f"{where}: no row of an evaluation ({error}); evaluate again") from error


@no_cycle_search()
def read_rows(path: Path) -> tuple[Row, ...]:
    """rows.jsonl.

    Raises:
        DataError: the first line that is no row, as `file:line: what`.
    """
    rows = []
    for number, line in read_lines(path):
        if isinstance(line, DataError):
            raise line
        rows.append(decode_row(line, f"{path}:{number}"))
    return tuple(rows)
