"""Samples and predictions on disk, readers of published formats, synthetic scenes.

A reader is a function `(annotations, images, *, options) -> Reading`; docs/howto/add_dataset.md
shows how to add one.
"""

from __future__ import annotations

from collections.abc import Callable

from boxrl.data.coco import read_coco
from boxrl.data.reading import Reading

READERS: dict[str, Callable[..., Reading]] = {
    "coco": read_coco,
}
"""Readers by the name of their format."""
