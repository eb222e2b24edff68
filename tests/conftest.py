"""Fixtures that tests share."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from boxrl.data.formats import pickles
from boxrl.data.samples import read_samples, write_samples
from boxrl.data.synthetic import World, scenes
from boxrl.guard.unpickling.answers import answer
from boxrl.types import Sample


def pytest_collection_finish() -> None:
    """What is imported by now stays: a full garbage collection, of many, need not walk it."""
    gc.freeze()


@pytest.fixture(scope="session")
def scene_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve held-out scenes: FOLDER/samples.jsonl and FOLDER/images."""
    folder = tmp_path_factory.mktemp("scenes")
    (folder / "images").mkdir()
    drawn = list(scenes(World(), 12, seed=5, split="tests"))
    for scene in drawn:
        scene.image.save(folder / "images" / scene.sample.image)
    write_samples(folder / "samples.jsonl", [scene.sample for scene in drawn])
    return folder


@pytest.fixture(scope="session")
def samples(scene_folder: Path) -> list[Sample]:
    """The twelve scenes of `scene_folder`."""
    return read_samples(scene_folder / "samples.jsonl")


@pytest.fixture
def pickles_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads pickles in this process: one of their own for each of hundreds takes a minute."""
    monkeypatch.setattr(pickles, "answer_of", answer)
