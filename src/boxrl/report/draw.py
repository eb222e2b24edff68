"""Boxes drawn on images: one PNG that shows what changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from boxrl.data.images import read_image
from boxrl.errors import DataError
from boxrl.evaluate.rows import Row
from boxrl.guard.texts import visible
from boxrl.report.colours import COLOURS
from boxrl.report.reading import ShownEvaluation, read_run
from boxrl.types import Detections, fold_label

TILE = 320
"""Side of the square that a scene is fitted into, in pixels."""

DETECTIONS_SIDE = 720
"""Longer side of an image that is shown alone, in pixels."""

GAP, MARGIN, CAPTION = 16, 20, 32
LABEL_PX, CAPTION_PX = 14, 16
INK, MUTED, PAPER = "#1c1e21", "#5b6168", "#ffffff"

_Span = tuple[float, float, float, float]


class Label(NamedTuple):
    """Text to stand at a box, on the box's colour."""

    box: _Span
    text: str
    colour: str


def draw_before_after(
    run_dir: Path, out: Path, pair: tuple[str, str] | None = None, count: int = 4
) -> None:
    """Write a PNG: `count` scenes side by side, before training above and after it below.

    The scenes are those whose score rose most, each under another question.

    Args:
        run_dir: a run folder with two evaluations of the same samples.
        out: the PNG file.
        pair: names of the evaluations; the run's first pair where it is not given.
        count: how many scenes.

    Raises:
        DataError: the run has no such pair, or no answers or images of it.
    """
    run = read_run(run_dir)
    if pair is None:
        if not run.pairs:
            raise DataError(f"{run_dir}: no two evaluations to compare: {'; '.join(run.missing)}")
        pair = run.pairs[0]
    unknown = [name for name in pair if name not in run.evaluations]
    if unknown:
        known = ", ".join(run.evaluations)
        raise DataError(f"{run_dir}: no evaluation {unknown[0]!r}; evaluations: {known}")
    before, after = (run.evaluations[name] for name in pair)
    chosen = most_gained(before, after, count)
    if not chosen:
        raise DataError(f"{run_dir}: no sample is answered in both of {', '.join(pair)}")
    sheet = _sheet(chosen, before.images)
    out.parent.mkdir(parents=True, exist_ok=True)
    # A palette of 256 colours halves the file and loses nothing that one can see.
    sheet.quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)


def most_gained(
    before: ShownEvaluation, after: ShownEvaluation, count: int
) -> list[tuple[Row, Row]]:
    """Rows of the samples whose score rose most, one per question, highest gain first.

    One of them, the last, is a negative, where an answer on one improved at all.
    """
    rows = {row.id: row for row in before.rows}
    both = [(rows[row.id], row) for row in after.rows if row.id in rows]
    # Where the gain is equal, the richer scene shows more.
    both.sort(key=lambda pair: (pair[0].score - pair[1].score, -len(pair[1].objects)))
    chosen: dict[object, tuple[Row, Row]] = {}
    for pair in both:
        row = pair[0]
        chosen.setdefault((row.question, frozenset(row.labels)), pair)
    found = [pair for pair in chosen.values() if pair[0].objects]
    negatives = [p for p in chosen.values() if not p[0].objects and p[0].score < p[1].score]
    return [*found[: count - 1], *negatives[:1]] if negatives else found[:count]


def draw_answer(row: Row, image: Image.Image, side: int = TILE) -> Image.Image:
    """The image fitted into a square of `side` pixels, with targets and judged boxes over it."""
    scale = side / max(row.width, row.height)
    width, height = round(row.width * scale), round(row.height * scale)
    tile = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(tile)
    labels = []
    for target in row.objects:
        if not target.iscrowd:
            _dashed(pen, _place(target.bbox, scale))
        if target.missed:
            span = _place(target.bbox, scale)
            labels.append(_label(row, span, target.label, "missed", "#ffffff"))
    for box in row.predictions:
        span, colour = _place(box.bbox, scale), COLOURS[box.kind]
        _framed(pen, span, colour)
        labels.append(_label(row, span, box.label, box.kind, colour))
    if row.status == "empty":
        colour = COLOURS["right" if row.is_faultless else "background"]
        labels.append(Label((8, height - 8, 8, height - 8), "says None", colour))
    _write_labels(pen, labels, tile.size)
    return tile


def draw_detections(
    image: Image.Image,
    detections: Detections,
    side: int = DETECTIONS_SIDE,
    targets: Detections | None = None,
) -> Image.Image:
    """The image with boxes and their labels, each label in a colour of its own.

    Args:
        image: the original image.
        detections: boxes in its pixels.
        side: longer side of the result, in pixels.
        targets: what is right, dashed, under the boxes.
    """
    scale = side / max(image.size)
    size_wh = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    drawn = image.convert("RGB").resize(size_wh, Image.Resampling.LANCZOS)
    pen, palette = ImageDraw.Draw(drawn), tuple(COLOURS.values())
    names = list(dict.fromkeys(map(fold_label, detections.labels)))
    for box in targets.boxes.tolist() if targets else ():
        _dashed(pen, _place(box, scale))
    labels = []
    for box, name in zip(detections.boxes.tolist(), detections.labels, strict=True):
        span, colour = _place(box, scale), palette[names.index(fold_label(name)) % len(palette)]
        _framed(pen, span, colour)
        labels.append(Label(span, name, colour))
    _write_labels(pen, labels, drawn.size)
    return drawn


def _place(box: Sequence[float], scale: float) -> _Span:
    """A box on the scaled image; one that is thinner than a pixel is a line."""
    x1, y1, x2, y2 = (value * scale for value in box)
    return x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)


def _framed(pen: ImageDraw.ImageDraw, span: _Span, colour: str) -> None:
    """A rectangle on black, seen on any ground."""
    pen.rectangle(_grown(span, 1), outline="#000000", width=5)
    pen.rectangle(span, outline=colour, width=3)


def _label(row: Row, box: _Span, name: str, kind: str, colour: str) -> Label:
    """The name of a right box; what is wrong with another, its name only where it is a choice."""
    asked = row.labels
    if kind == "right":
        return Label(box, name, colour)
    obvious = len(asked) == 1 and fold_label(name) == fold_label(asked[0])
    text = kind.replace("_", " ")
    return Label(box, text if obvious else f"{text}: {name}", colour)


def _sheet(chosen: Sequence[tuple[Row, Row]], images: Path | None) -> Image.Image:
    width = MARGIN * 2 + len(chosen) * (TILE + GAP) - GAP
    height = MARGIN * 2 + 2 * (TILE + CAPTION) + 2 * CAPTION + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, pair in enumerate(chosen):
        x = MARGIN + column * (TILE + GAP)
        asked = pair[0].question or ", ".join(pair[0].labels)
        _line(pen, (x, MARGIN), f"asked: {asked}", MUTED)
        for line, (row, when) in enumerate(zip(pair, ("before", "after"), strict=True)):
            y = MARGIN + CAPTION + line * (TILE + CAPTION + GAP)
            _line(pen, (x, y), f"{when}: F1 {row.score:.2f}", INK)
            tile = draw_answer(row, _open(images, row))
            sheet.paste(tile, (x, y + CAPTION))
    note = "These scenes gained most. Dashed: targets. F1: mean over IoU .50 to .95."
    _line(pen, (MARGIN, height - MARGIN - CAPTION_PX), note, MUTED, width)
    return sheet


def _open(images: Path | None, row: Row) -> Image.Image:
    """The row's image; grey ground where it cannot be read."""
    try:
        return read_image((images or Path()) / row.image, f"sample {row.id!r}")
    except DataError:
        return Image.new("RGB", (row.width, row.height), "#808080")


def _dashed(pen: ImageDraw.ImageDraw, span: _Span, dash: int = 6) -> None:
    """A white dashed rectangle on black, seen on any ground."""
    x1, y1, x2, y2 = span
    pen.rectangle(span, outline="#000000", width=2)
    for start in range(round(x1), round(x2), 2 * dash):
        for y in (y1, y2 - 1):
            pen.line((start, y, min(start + dash, x2), y), fill="#ffffff", width=2)
    for start in range(round(y1), round(y2), 2 * dash):
        for x in (x1, x2 - 1):
            pen.line((x, start, x, min(start + dash, y2)), fill="#ffffff", width=2)


def _write_labels(
    pen: ImageDraw.ImageDraw, labels: Sequence[Label], size_wh: tuple[int, int]
) -> None:
    """Each label above, below or inside its box: the first place inside the image that is free."""
    font = ImageFont.load_default(LABEL_PX)
    taken: list[_Span] = []
    for box, text, colour in labels:
        shown = _one_line(text, 40)
        width, height = pen.textlength(shown, font) + 8, LABEL_PX + 5
        spots = [
            _inside((x, y, x + width, y + height), size_wh)
            for y in (box[1] - height, box[3], box[1] + 2, box[3] + height, box[1] - 2 * height)
            for x in (box[0], box[2] - width)
        ]
        spot = next((s for s in spots if not any(_touch(s, t) for t in taken)), spots[0])
        taken.append(spot)
        pen.rounded_rectangle(spot, 3, fill=colour)
        pen.text((spot[0] + 4, spot[1] + 1), shown, fill="#0d0f11", font=font)


def _inside(span: _Span, size_wh: tuple[int, int]) -> _Span:
    x = max(0.0, min(span[0], size_wh[0] - (span[2] - span[0])))
    y = max(0.0, min(span[1], size_wh[1] - (span[3] - span[1])))
    return x, y, x + span[2] - span[0], y + span[3] - span[1]


def _touch(a: _Span, b: _Span) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _grown(span: _Span, by: float) -> _Span:
    return span[0] - by, span[1] - by, span[2] + by, span[3] + by


def _one_line(text: str, limit: int) -> str:
    """Hostile text as Pillow takes it: visible, without line breaks, cut after `limit`."""
    shown = " ".join(visible(text[:limit]).split())
    return shown + "..." if len(text) > limit else shown


def _line(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, colour: str, width: float = TILE
) -> None:
    """A caption, cut to its width."""
    font, shown = ImageFont.load_default(CAPTION_PX), _one_line(text, 200)
    while pen.textlength(shown, font) > width:
        shown = shown.removesuffix("...")[:-1] + "..."
    pen.text(at, shown, fill=colour, font=font)
