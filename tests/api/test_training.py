"""Recipes from Python, and the run that comes of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import boxrl
from boxrl.api.live import curves, live_curves
from boxrl.errors import RecipeError

STEPS = [{"step": n, "time_s": n, "reward": n / 9, "rewards": {"f1": n / 9}} for n in range(1, 4)]


def recipe(scene_folder: Path) -> dict[str, Any]:
    return {
        "name": "scenes",
        "method": "sft",
        "data": {"train": scene_folder / "samples.jsonl", "images": scene_folder / "images"},
        "engine": {"device": "cpu", "threads": 1},
        "train": {"prompts_per_step": 4},
    }


def test_a_recipe_of_keys_is_trained(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    run = boxrl.train(recipe(scene_folder), train={"max_steps": 2})
    assert run.folder == Path("runs/scenes-sft")
    assert run.recipe.train.prompts_per_step == 4
    assert [row["step"] for row in run.metrics()] == [1, 2]
    assert repr(run) == "<TrainedRun runs/scenes-sft: sft, 2 steps>"
    assert "<svg" in run._repr_html_()
    assert (run.model / "config.json").is_file()
    assert run.report().is_file()


def test_every_mistake_of_a_recipe_is_told(scene_folder: Path) -> None:
    with pytest.raises(RecipeError, match="2 mistakes") as caught:
        boxrl.train(recipe(scene_folder), train={"steps": 2}, methd="sft")
    assert "train.steps: unknown key" in str(caught.value)


def test_dotted_keys_are_set(scene_folder: Path) -> None:
    with pytest.raises(RecipeError, match="max_steps"):
        boxrl.train(recipe(scene_folder), **{"train.max_steps": 0})


def test_curves_begin_with_the_second_step() -> None:
    assert "1 step so far" in curves(STEPS[:1])
    assert curves(STEPS).count("<svg") == 2


class Shell(SimpleNamespace):
    """IPython as far as a notebook's display goes."""

    def install(self, monkeypatch: pytest.MonkeyPatch, **facts: Any) -> list[dict[str, Any]]:
        shown: list[dict[str, Any]] = []
        handle = SimpleNamespace(update=lambda data, raw: shown.append(data))
        module, display = ModuleType("IPython"), ModuleType("IPython.display")
        module.get_ipython = lambda: SimpleNamespace(**facts)  # type: ignore[attr-defined]
        display.display = lambda *_, **__: handle  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "IPython", module)
        monkeypatch.setitem(sys.modules, "IPython.display", display)
        return shown


def test_a_notebook_sees_curves_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shell().install(monkeypatch, kernel=object())
    monkeypatch.setattr("boxrl.api.live.EVERY_S", 0.01)
    log = tmp_path / "metrics.jsonl"
    with live_curves(log):
        log.write_text("".join(json.dumps(row) + "\n" for row in STEPS))
    assert "<svg" in shown[-1]["text/html"]
    assert shown[-1]["text/plain"] == "training: 3 steps"


def test_a_terminal_of_ipython_is_no_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Shell().install(monkeypatch)
    with live_curves(tmp_path / "metrics.jsonl"):
        pass
    assert shown == []
