"""Cells: one arm under one seed, stored under a key of everything that its result follows from.

CACHE/
data/KEY/       drawn scenes: SPLIT.jsonl, images/
cells/KEY/
  cell.json     what is to be done           log.txt   what the process said
  run/          the training run, a run folder like any other
  tests/KEY/    predictions.jsonl, metrics.json
  spent.jsonl   processor seconds of each process that worked on it

Two keys: a cell's says what was trained, a test's also what it was asked and how. So a new test
trains nothing again, and experiments share what they have in common.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from boxrl.config import Data, Recipe, dump_recipe
from boxrl.data.files import hash_file, write_json
from boxrl.data.synthetic import Worlds, draw_files
from boxrl.experiments.definition import Experiment, HeldOutTest, Way, arm_recipe, is_trained
from boxrl.experiments.sources import code_version
from boxrl.experiments.work import SPENT
from boxrl.generation.model_folders import model_folder
from boxrl.guard.files import read_json_object
from boxrl.prompts import build_prompt

TRAINING_CODE = "boxrl.engines.training.train"
TESTING_CODE = "boxrl.experiments.work"
SCENES_CODE = "boxrl.data.synthetic"
PACKAGES = ("torch", "torchvision", "transformers", "trl", "numpy", "hotcoco")


@dataclass(frozen=True, slots=True)
class Test:
    """A held-out set, and how it is answered.

    Attributes:
        name: of the held-out set in the experiment.
        way: see `Way`; `sampled` is at the training temperature.
        samples: the samples file; `images` its images folder.
        key: of questions, way and evaluating code.
    """

    name: str
    way: Way
    samples: Path
    images: Path
    key: str


@dataclass(frozen=True, slots=True)
class Cell:
    """What one process does: train a recipe, or take its model as it is, and test it.

    Attributes:
        arm, seed: place in the experiment's grid.
        recipe: resolved; its `out` is the cell's run folder.
        trained: False takes `recipe.model` as it is.
        start: the cell whose trained model this one starts from.
        tests: what the model is tested on.
        folder: CACHE/cells/KEY.
    """

    arm: str
    seed: int
    recipe: Recipe
    trained: bool
    start: Cell | None
    tests: tuple[Test, ...]
    folder: Path

    @property
    def key(self) -> str:
        """Of everything that the trained model follows from."""
        return self.folder.name

    def test_folder(self, test: Test) -> Path:
        """Predictions and metrics of one test."""
        return self.folder / "tests" / test.key

    def is_trained(self) -> bool:
        """Whether the model stands."""
        run = self.recipe.out / "run.json"
        if not self.trained:
            return True
        return run.is_file() and read_json_object(run)["status"] == "done"

    def is_done(self) -> bool:
        """Whether there is nothing left to do."""
        metrics = (self.test_folder(test) / "metrics.json" for test in self.tests)
        return self.is_trained() and all(path.is_file() for path in metrics)

    def spent(self) -> float:
        """Processor seconds of every process that ended by itself or was asked to."""
        path = self.folder / SPENT
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        return float(sum(json.loads(line)["cpu"] for line in lines))

    def write(self) -> None:
        """Write cell.json for the cell's process."""
        tests = [
            {
                "name": test.name,
                "way": test.way,
                "samples": str(test.samples),
                "images": str(test.images),
                "folder": str(self.test_folder(test)),
            }
            for test in self.tests
        ]
        recipe = dump_recipe(self.recipe)
        write_json(
            self.folder / "cell.json",
            {"recipe": recipe, "trained": self.trained, "tests": tests},
        )


def build_cells(
    experiment: Experiment, seeds: Sequence[int], cache_folder: Path, share_of_steps: float = 1.0
) -> list[Cell]:
    """Every cell of an experiment, seed by seed, a cell behind the one that it starts from.

    Scenes are drawn where they are missing.

    Args:
        experiment: what to run.
        seeds: every arm is run under each; held-out scenes are the same for all.
        cache_folder: see the module's docstring.
        share_of_steps: of each recipe's own number.
    """
    cells: list[Cell] = []
    tests = [
        test
        for name, held_out in experiment.tests.items()
        for test in _build_tests(name, held_out, cache_folder)
    ]
    for seed in seeds:
        built: dict[str, Cell] = {}
        for arm in _in_order(experiment):
            recipe = arm_recipe(experiment, arm, seed, share_of_steps)
            start = built.get(experiment.arms[arm].get("after", ""))
            trained = is_trained(experiment, arm)
            built[arm] = _build_cell(arm, recipe, trained, start, tests, cache_folder)
        cells += [built[arm] for arm in _in_order(experiment)]
    return cells


def _in_order(experiment: Experiment) -> list[str]:
    """Arms, those that start from another arm's model behind it."""
    return sorted(experiment.arms, key=lambda arm: "after" in experiment.arms[arm])


def _build_cell(
    arm: str,
    recipe: Recipe,
    trained: bool,
    start: Cell | None,
    tests: Sequence[Test],
    cache_folder: Path,
) -> Cell:
    source = start.key if start else _hash_folder(model_folder(recipe.model))
    facts = recipe.model_dump(mode="json", exclude={"name", "out", "data", "model"})
    facts["prompt"] = asdict(replace(build_prompt(recipe.prompt), name=""))  # its file may change
    if recipe.verifier is not None and recipe.verifier.is_local:
        facts["verifier"]["model"] = _hash_folder(model_folder(recipe.verifier.model))
    if trained:
        recipe, data = _with_drawn_data(recipe, cache_folder)
        facts |= {"data": data, "code": code_version(TRAINING_CODE)}
    else:
        asked = ("prompt", "family", "min_pixels", "max_pixels", "seed", "engine")
        limits = ("max_completion_length", "temperature")
        facts = {name: facts[name] for name in asked} | {n: facts["train"][n] for n in limits}
    folder = cache_folder / "cells" / _hash({"model": source, "versions": _versions(), **facts})
    model = str(start.recipe.out / "model") if start else recipe.model
    recipe = recipe.model_copy(update={"out": folder / "run", "model": model})
    return Cell(arm, recipe.seed, recipe, trained, start, tuple(tests), folder)


def _with_drawn_data(recipe: Recipe, cache_folder: Path) -> tuple[Recipe, dict[str, Any]]:
    """The recipe with its training scenes as files, and what identifies them."""
    scenes = recipe.data.synthetic
    if scenes is None:
        assert recipe.data.train is not None
        facts = {"train": _hash_file(recipe.data.train), "images": str(recipe.data.images)}
        return recipe, facts
    folder = drawn_scenes(
        scenes.world, scenes.train, recipe.seed, "train", scenes.p_absent, cache_folder
    )
    data = Data(train=folder / "train.jsonl", images=folder / "images")
    return recipe.model_copy(update={"data": data}), {"scenes": folder.name}


def _build_tests(name: str, held_out: HeldOutTest, cache_folder: Path) -> list[Test]:
    samples, images = held_out.samples, held_out.images
    if samples is None or images is None:
        folder = drawn_scenes(
            held_out.world, held_out.scenes, held_out.seed, "test", held_out.p_absent, cache_folder
        )
        samples, images = folder / "test.jsonl", folder / "images"
        asked = {"scenes": folder.name}
    else:
        asked = {"samples": _hash_file(samples), "images": str(images)}
    asked["code"] = code_version(TESTING_CODE)
    return [Test(name, way, samples, images, _hash({"way": way, **asked})) for way in held_out.ways]


def drawn_scenes(
    worlds: Worlds, count: int, seed: int, split: str, p_absent: float | None, cache_folder: Path
) -> Path:
    """The folder that holds these scenes; drawn at the first call.

    Args:
        worlds: this and what follows as for `synthetic.mixed_scenes`.
        count: scenes in all.
        seed: of every draw.
        split: name of the samples file, and of its random stream.
        p_absent: None keeps that of the worlds.
        cache_folder: shared by all experiments; other code that draws gives another folder in it.
    """
    facts = {
        "worlds": worlds if isinstance(worlds, str) else dict(worlds),
        "count": count,
        "seed": seed,
        "split": split,
        "p_absent": p_absent,
        "code": code_version(SCENES_CODE),
    }
    folder = cache_folder / "data" / _hash(facts)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another grid may want the same scenes
        if not (folder / f"{split}.jsonl").is_file():
            draw_files(worlds, count, seed, split, folder, p_absent)
    return folder


_hash_file = cache(hash_file)


@cache
def _hash_folder(folder: Path) -> str:
    """Hash of a model folder's files, names and bytes."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return _hash({path.name: _hash_file(path) for path in files})


def _hash(facts: Any) -> str:
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found
