"""Fixtures of the fault campaign."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.campaign import Record
from tests.faults.site import build_site
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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, scene_folder: Path) -> Path:
    """Files of every kind that boxrl reads; a test that spoils them works on `copy`."""
    return build_site(tmp_path_factory.mktemp("site"), scene_folder)


@pytest.fixture
def copy(site: Path, tmp_path: Path) -> Path:
    """The test's own copy of `site`."""
    return shutil.copytree(site, tmp_path / "site")
