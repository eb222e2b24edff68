"""Activations are computed again where memory asks for it, and where the recipe says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from boxrl.cli import main  # noqa: E402
from boxrl.config import Recipe, dump_recipe  # noqa: E402
from boxrl.engines.training import train as training  # noqa: E402
from boxrl.engines.training.memory import estimate  # noqa: E402
from boxrl.engines.training.micro_batch import checkpoints  # noqa: E402
from boxrl.engines.training.recompute import ROOM, is_open, settle  # noqa: E402
from boxrl.errors import UsageError  # noqa: E402
from tests.support.recipes import tiny_recipe  # noqa: E402


def recipe_of(scenes: Path, out: Path, device: str = "auto", **train: Any) -> Recipe:
    recipe = tiny_recipe(scenes, out, **train)
    engine = recipe.engine.model_copy(update={"device": device})
    return recipe.model_copy(update={"engine": engine})


def test_a_gpu_with_room_keeps_them_and_a_smaller_one_does_not(
    scene_folder: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(scene_folder, tmp_path / "run")
    kept = estimate(recipe_of(scene_folder, tmp_path / "run", trl={NAME: False})).training
    again = estimate(recipe_of(scene_folder, tmp_path / "run", trl={NAME: True})).training
    assert again < kept
    for available, chosen in ((1.001 * kept / ROOM, False), (0.999 * kept / ROOM, True)):
        settled = settle(recipe, available)
        assert checkpoints(settled.recipe) is chosen
        assert settled.need.training == (again if chosen else kept)
        assert ("computed again" in settled.said) is chosen
        assert ("kept: a step" in settled.said) is not chosen


NAME = "activation_checkpointing"


@pytest.mark.parametrize("name", [NAME, "gradient_checkpointing"])
@pytest.mark.parametrize("value", [True, False])
def test_what_the_recipe_says_wins(
    name: str, value: bool, scene_folder: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(scene_folder, tmp_path / "run", trl={name: value})
    for available in (1e6, 1e12):
        settled = settle(recipe, available)
        assert settled.recipe is recipe and not settled.said


def test_options_of_checkpointing_ask_for_it(scene_folder: Path, tmp_path: Path) -> None:
    trl = {"gradient_checkpointing_kwargs": {"use_reentrant": False}}
    settled = settle(recipe_of(scene_folder, tmp_path / "run", trl=trl), 1e12)
    assert checkpoints(settled.recipe) and not settled.said


def test_nothing_is_chosen_without_a_gpu_nor_where_processes_share_weights(
    scene_folder: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(scene_folder, tmp_path / "run")
    assert is_open(recipe, 1e12) and is_open(recipe, 1e12, 8)
    assert not is_open(recipe, None)
    assert not is_open(recipe, 1e12, 8, shares=True)
    assert not is_open(recipe_of(scene_folder, tmp_path / "run", "cpu"), 1e12)


def test_a_run_takes_the_choice_and_its_checkpoints_name_the_recipe_as_given(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(scene_folder, tmp_path / "run")
    monkeypatch.setattr(training, "visible_memory", lambda: 1e12)
    settled, said = training._settle(recipe)
    assert not checkpoints(settled) and "kept" in said
    built: list[Recipe] = []
    build = training.BUILD_TRAINER["grpo"]

    def noted(recipe: Recipe, *rest: Any) -> Any:
        built.append(recipe)
        return build(recipe, *rest)

    monkeypatch.setitem(training.BUILD_TRAINER, "grpo", noted)
    trainer = training._build(recipe, training.model_folder("tiny"), None)
    assert built == [settled] and trainer.recipe == dump_recipe(recipe)
    assert trainer.notices["activations"] == said

    def fails(*_: Any) -> None:
        raise UsageError("its steps cannot be counted")

    monkeypatch.setattr(training, "settle", fails)
    assert training._settle(recipe) == (recipe, "")


def test_the_plan_tells_it_in_one_line(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "recipe.yaml"
    written.write_text(dump_recipe(recipe_of(scene_folder, tmp_path / "run")))
    assert main(["train", str(written), "--dry-run", "--gpu-memory", "80"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert "activations are kept: a step runs each forward pass once" in told
