"""Arms as recipes, and the grids at full scale that they come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.config import load_recipe
from boxrl.errors import UsageError
from boxrl.experiments.arm_recipes import write_recipes
from boxrl.experiments.definition import (
    FULL_SCALE,
    experiments_folder,
    find_experiment,
    full_scale_of,
    is_trained,
    load_experiment,
)

from .files import EXPERIMENT, write_experiment

LARGE = sorted((experiments_folder() / FULL_SCALE).glob("*.yaml"))


def test_every_grid_has_a_file_at_full_scale() -> None:
    small = {path.stem for path in experiments_folder().glob("*.yaml")}
    assert {name for name in small if full_scale_of(name) is None} == set()
    assert find_experiment("kl_3b") == full_scale_of("kl")


@pytest.mark.parametrize("path", LARGE, ids=lambda path: path.stem)
def test_a_grid_at_full_scale_gives_recipes_that_load(path: Path, tmp_path: Path) -> None:
    experiment = load_experiment(path, check_files=False)
    header = path.read_text("utf-8").split("extends:")[0]
    assert f"boxrl experiment recipes {path.stem} --out" in header
    assert f"boxrl experiment run {path.stem}" in header
    assert experiment.claims
    written = write_recipes(experiment, [1], tmp_path)
    trained = [arm for arm in experiment.arms if is_trained(experiment, arm)]
    assert len(written) == len(trained)
    for file in written:
        recipe = load_recipe(file, check_files=False)
        assert recipe.data.synthetic is None
        assert recipe.seed == 1
        assert recipe.model.startswith(("models/Qwen", f"runs/{path.stem}/"))
        assert f"boxrl train {file} --launch accelerate" in file.read_text("utf-8")


def test_an_arm_that_starts_from_another_names_its_model(tmp_path: Path) -> None:
    experiment = load_experiment(write_experiment(tmp_path))
    written = write_recipes(experiment, [0, 1], tmp_path / "out")
    assert [path.stem for path in written] == [
        f"{arm}-{seed}" for seed in (0, 1) for arm in ("ap", "ap50", "later")
    ]
    later = load_recipe(tmp_path / "out" / "later-1.yaml", check_files=False)
    first = load_recipe(tmp_path / "out" / "ap-1.yaml", check_files=False)
    assert later.model == str(first.out / "model") == "runs/small/ap-1/model"


def test_arms_that_would_be_one_file_are_refused(tmp_path: Path) -> None:
    text = EXPERIMENT.replace("  ap50: {", "  + ap: {}\n  ap50: {")
    experiment = load_experiment(write_experiment(tmp_path, text))
    with pytest.raises(UsageError, match=r"arms \+ ap and ap would|arms ap and \+ ap would"):
        write_recipes(experiment, [0], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_extended_file_keeps_what_its_tests_ask(tmp_path: Path) -> None:
    write_experiment(tmp_path)
    (tmp_path / "large.yaml").write_text(
        "extends: small.yaml\narms:\n  ap50: {rewards: [format, ap50]}\n"
        "tests:\n  in_domain: {scenes: 3}\n"
    )
    small, large = (load_experiment(tmp_path / f"{name}.yaml") for name in ("small", "large"))
    assert large.name == "large"
    assert (large.base, large.arms["ap"]) == (small.base, small.arms["ap"])
    assert large.arms["ap50"] == {"rewards": ["format", "ap50"]}
    assert large.columns == small.columns
    assert large.tests["in_domain"].ways == ["greedy"]
    (tmp_path / "other.yaml").write_text("extends: small.yaml\ntests:\n  new: {scenes: 3}\n")
    assert [c.title for c in load_experiment(tmp_path / "other.yaml").columns] == [
        "format takes off"
    ]


def test_the_command_names_what_it_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["experiment", "recipes", "kl_3b", "--seeds", "4", "--out", str(tmp_path)]
    assert main(call) in (0, None)
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "beta-0-4.yaml"), str(tmp_path / "beta-0.04-4.yaml"),
    ]  # fmt: skip
