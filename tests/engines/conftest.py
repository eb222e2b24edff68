"""Fixtures of the engines' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from boxrl.data.samples import read_samples
from boxrl.types import Sample


@pytest.fixture(scope="session")
def samples(scene_folder: Path) -> list[Sample]:
    """The twelve scenes of `scene_folder`."""
    return read_samples(scene_folder / "samples.jsonl")
