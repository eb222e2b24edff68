"""Settings of one long test: some run every time, the others with the slow tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def quick_among(settings: Iterable[str], *quick: str) -> list[Any]:
    """Parameters, all but `quick` marked slow; each of `quick` must be one."""
    names = list(settings)
    assert set(quick) <= set(names), set(quick) - set(names)
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]
