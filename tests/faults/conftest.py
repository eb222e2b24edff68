"""Fixtures of the fault campaign."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.campaign import Record
from tests.faults.warm import Warm


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Where faults of a test are noted; its folder is the test's own."""
    return Record(tmp_path)


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Runs calls that need torch, which it has imported already."""
    process = Warm()
    yield process
    process.close()
