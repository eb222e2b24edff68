"""Experiment files: what they may say, and that every shipped one stands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.errors import RecipeError, UsageError
from boxrl.experiments.definition import (
    arm_recipe,
    experiments_folder,
    find_experiment,
    load_experiment,
)

from .files import EXPERIMENT, write_experiment

SHIPPED = sorted(experiments_folder().glob("*.yaml"))
NAMES = {
    "small_objects", "region_label", "rewards", "prompt_grammar", "prompt_structure",
    "prompt_placement", "model_size", "rl_vs_sft", "tokens", "trainer_consistency",
    "completion_length", "kl", "cosine", "cosine_parts", "one_sided", "thresholds",
    "near_repetition", "pairs", "groups", "starts", "image_tree", "reading", "reading_rl",
    "retention", "written_confidence", "well_formed", "verified",
}  # fmt: skip


def test_every_finding_has_its_experiment() -> None:
    assert {path.stem for path in SHIPPED} == NAMES


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_experiment_loads_with_all_its_recipes(path: Path) -> None:
    experiment = load_experiment(path, check_files=False)
    assert experiment.claims
    assert f"boxrl experiment run {path.stem}" in path.read_text("utf-8").split("finding:")[0]
    recipes = {arm: arm_recipe(experiment, arm, 3, check_files=False) for arm in experiment.arms}
    assert {recipe.seed for recipe in recipes.values()} == {3}


def test_dotted_and_nested_changes_of_an_arm_are_the_same(tmp_path: Path) -> None:
    nested = EXPERIMENT.replace("train.beta: 0.04", "train: {beta: 0.04}")
    dotted, other = (
        arm_recipe(load_experiment(write_experiment(tmp_path, text)), "ap50", 0)
        for text in (EXPERIMENT, nested)
    )
    assert dotted == other
    assert (dotted.train.beta, dotted.train.max_steps) == (0.04, 10)


def test_the_base_may_be_a_file_of_its_own(tmp_path: Path) -> None:
    start, end = EXPERIMENT.index("base:"), EXPERIMENT.index("arms:")
    base = EXPERIMENT[start:end].removeprefix("base:\n")
    (tmp_path / "base.yaml").write_text(base)
    split = EXPERIMENT[:start] + "base: base.yaml\n" + EXPERIMENT[end:]
    whole = load_experiment(write_experiment(tmp_path))
    assert load_experiment(write_experiment(tmp_path, split)) == whole


def test_overrides_reach_the_base_the_tests_and_the_arms(tmp_path: Path) -> None:
    overrides = ["train.max_steps=3", "tests.in_domain.scenes=7", "arms.new.rewards=[f1]"]
    experiment = load_experiment(write_experiment(tmp_path), overrides)
    assert arm_recipe(experiment, "ap", 0).train.max_steps == 3
    assert experiment.tests["in_domain"].scenes == 7
    assert [entry.written for entry in arm_recipe(experiment, "new", 0).rewards] == ["f1"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("higher: ap, ", "higher: app, ", "arm 'app' is unknown; known: untrained, ap, ap50"),
        ("test: in_domain}\n  - {title: tokens", "test: indomain}\n  - {title: tokens",
         "test 'indomain' is unknown; known:"),
        ("ap: {mAP: 27.4}", "ap: {map: 27.4}", "column 'map' is unknown"),
        ("same: [ap, later], within: 0.01", "same: [ap, later]", "name either `higher`"),
        ("scenes: 2,", "scense: 2,", "tests.in_domain.scense: unknown key; did you mean scenes?"),
        ("[greedy, sampled]", "[sampled]", "way 'greedy' is unknown; known: sampled"),
        ("ap: {rewards: [format, ap]}", "ap: {rewards: [format, app]}", "arm ap: 1 mistake"),
        ("train.beta: 0.04", "train.betta: 0.04", "train.betta: unknown key; did you mean beta?"),
        ("{scenes: 2,", "{scenes: 2, world: nowhere,", "unknown world 'nowhere'; worlds: standard"),
        ("after: ap,", "after: op,", "arm 'op' is unknown"),
        ("[greedy, sampled]", "[greedy, averaged]", "arm ap: way averaged needs train.average"),
        ("arms:\n", "starts: [tiny]\narms:\n  own: {model: tiny}\n",
         "arm 'own' names a model, and so does `starts`"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_words(tmp_path: Path, old: str, new: str, reason: str) -> None:
    assert old in EXPERIMENT
    with pytest.raises(RecipeError) as caught:
        load_experiment(write_experiment(tmp_path, EXPERIMENT.replace(old, new)))
    assert reason in str(caught.value)


def test_seeds_start_from_the_models_in_turn(tmp_path: Path) -> None:
    text = EXPERIMENT.replace("arms:\n", "starts: [tiny, tiny-taught]\narms:\n")
    experiment = load_experiment(write_experiment(tmp_path, text))
    models = [arm_recipe(experiment, "ap", seed).model for seed in range(4)]
    assert models == ["tiny", "tiny-taught"] * 2
    missing = text.replace("tiny-taught", "models/nowhere/taught")
    with pytest.raises(RecipeError, match="models/nowhere/taught"):
        load_experiment(write_experiment(tmp_path, missing))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown experiment 'reward'; experiments: .*rewards"):
        find_experiment("reward")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--seeds", "1,1"], "expected different integers"),
        (["--seeds", "-1"], "expected different integers"),
        (["--budget", "3"], "expected a time such as"),
        (["--workers", "0"], "expected 1 or more"),
        (["train.max_step=3"], "did you mean max_steps?"),
    ],
)
def test_a_wrong_call_is_told_and_runs_nothing(
    options: list[str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["experiment", "run", "kl", *options]) == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_list_names_every_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert set(listed) == NAMES
    assert listed["rewards"]["finding"] == "4.1"
    assert "ap50" in listed["rewards"]["arms"]
    assert main(["experiment", "list"]) == 0
    printed = capsys.readouterr().out
    assert [name for name in NAMES if f"\n{name} (" not in f"\n{printed}"] == []


def test_experiments_import_no_torch() -> None:
    code = "import sys, boxrl.experiments.run; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
