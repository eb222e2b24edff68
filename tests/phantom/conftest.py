"""Loads the phantom GPU, before anything imports torch."""

from __future__ import annotations

import pytest

from . import guard

REASON = guard.load()


def pytest_runtest_setup() -> None:
    """Where there is no phantom, its tests are skipped and say why."""
    if REASON:
        pytest.skip(REASON)
