"""Start models are taught before a grid, once, and stand whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from boxrl.errors import DataError, RecipeError
from boxrl.experiments import teaching
from boxrl.experiments.definition import experiments_folder, load_experiment
from boxrl.experiments.teaching import TEACHERS, teach_missing, untaught

from .files import EXPERIMENT, write_experiment

TEACHER = """
import pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
folder.mkdir()
(folder / "config.json").write_text(" ".join(sys.argv[1:-2]))
sys.exit("--fail" in sys.argv)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, in which `python -m boxrl.engines.tiny.teach` is `TEACHER`."""
    package = tmp_path / "boxrl" / "engines" / "tiny"
    package.mkdir(parents=True)
    for part in (package, *package.parents[:2]):
        (part / "__init__.py").touch()
    (package / "teach.py").write_text(TEACHER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "models"


def test_a_missing_model_is_taught_once(folder: Path) -> None:
    teaches = {"models/a": "teach --seed 1", "models/b": "teach"}
    assert untaught(teaches) == ["models/a", "models/b"]
    teach_missing(teaches)
    assert (folder / "a" / "config.json").read_text() == "--seed 1"
    (folder / "a" / "config.json").write_text("kept")
    teach_missing(teaches)
    assert (folder / "a" / "config.json").read_text() == "kept"
    assert untaught(teaches) == []
    assert sorted(path.name for path in folder.iterdir()) == [".teaching", "a", "b"]


def test_a_teacher_that_fails_leaves_no_model(folder: Path) -> None:
    with pytest.raises(DataError, match=r"models/b: teach --fail failed"):
        teach_missing({"models/a": "teach", "models/b": "teach --fail"})
    assert (folder / "a").is_dir()
    assert not (folder / "b").exists()


def test_nothing_but_teachers_is_run(tmp_path: Path) -> None:
    path = write_experiment(tmp_path, EXPERIMENT + "teaches: {models/a: http.server}\n")
    with pytest.raises(RecipeError, match=r"'http.server' teaches no model; expected one of teach"):
        load_experiment(path, check_files=False)


def test_shipped_grids_teach_every_start_that_the_package_lacks() -> None:
    for path in experiments_folder().glob("*.yaml"):
        experiment = load_experiment(path, check_files=False)
        models = {*experiment.starts, experiment.base["model"]}
        models |= {arm["model"] for arm in experiment.arms.values() if "model" in arm}
        for model in models - {"tiny", "tiny-taught"}:
            assert str(Path(model).parent) in experiment.teaches, (path.stem, model)


def test_teachers_are_modules_of_the_package() -> None:
    engines = Path(teaching.__file__).parents[1] / "engines" / "tiny"
    assert {path.stem for path in engines.glob("teach*.py")} == set(TEACHERS)
