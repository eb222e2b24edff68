"""The HTML that notebooks show: everything from a model or a file is escaped."""

from __future__ import annotations

import base64
import io

from markupsafe import Markup, escape
from PIL import Image

from boxrl.evaluate.shown import table
from boxrl.guard.texts import visible
from boxrl.types import Detections

MAX_TEXT = 2_000
"""Characters of a completion that a notebook shows."""


def picture(image: Image.Image, alt: str) -> Markup:
    """The image as an element that holds its own bytes.

    Args:
        image: any image.
        alt: what it shows, for those who do not see it.
    """
    written = io.BytesIO()
    image.convert("RGB").save(written, "webp", quality=85)
    data = base64.b64encode(written.getvalue()).decode("ascii")
    tag = Markup('<img src="data:image/webp;base64,{}" alt="{}" style="max-width: 100%">')
    return tag.format(data, visible(alt))


def boxes_table(detections: Detections) -> Markup:
    """Labels and corners, in original pixels.

    Args:
        detections: in order of their rows.
    """
    boxes = detections.boxes.round(1).tolist()
    found = zip(map(visible, detections.labels), boxes, strict=True)
    rows = [[label, *box] for label, box in found]
    return table(["label", "x1", "y1", "x2", "y2"], rows) if rows else Markup("")


def folded(title: str, text: str) -> Markup:
    """Text that opens when its title is pressed."""
    return Markup(
        '<details><summary>{}</summary><pre style="white-space: pre-wrap">{}</pre></details>'
    ).format(title, visible(text, MAX_TEXT))


def paragraph(text: str) -> Markup:
    """One line of text."""
    return Markup("<p>{}</p>").format(escape(visible(text)))
