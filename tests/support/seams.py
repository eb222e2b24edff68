"""Which names of other libraries a test tells of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

COVERED: set[str] = set()
"""Names of `boxrl.engines.seam`."""


def of(*names: str) -> Callable[[Any], Any]:
    """The test tells what these names do."""
    COVERED.update(names)
    return lambda test: test
