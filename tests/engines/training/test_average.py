"""The mean of the last weights: of the right steps, and the same after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from pydantic import ValidationError  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from boxrl.engines.training.average import (  # noqa: E402
    FILE,
    AverageWeights,
    add_to_mean,
    first_step,
)
from boxrl.runs import AVERAGE, LOCK, clear_run  # noqa: E402
from tests.engines.training.test_resume import run, run_until_killed  # noqa: E402
from tests.support.recipes import tiny_recipe  # noqa: E402


@pytest.mark.parametrize(
    ("share", "steps", "first"), [(0.4, 100, 61), (0.5, 4, 3), (1.0, 4, 1), (0.01, 4, 4)]
)
def test_the_last_share_of_the_steps_counts(share: float, steps: int, first: int) -> None:
    assert first_step(share, steps) == first


def test_the_mean_is_that_of_float32_and_of_trained_weights_alone() -> None:
    model = torch.nn.Linear(2, 1).to(torch.bfloat16)
    model.bias.requires_grad = False
    mean: dict[str, torch.Tensor] = {}
    for count, value in enumerate((1.0, 2.0, 6.0)):
        torch.nn.init.constant_(model.weight, value)
        add_to_mean(mean, count, model)
    assert list(mean) == ["weight"]
    assert mean["weight"].dtype == torch.float32
    assert mean["weight"].tolist() == [pytest.approx([3.0, 3.0])]


def test_a_run_writes_the_mean_of_its_last_checkpoints(scene_folder: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(
        scene_folder, tmp_path / "run", method="sft", max_steps=3, average_last=0.67,
        save_steps=1, keep_checkpoints=3, learning_rate=1e-3,
    )  # fmt: skip
    run(recipe)
    files = [recipe.out / "checkpoints" / f"checkpoint-{step}" for step in (2, 3)]
    two, three = (load_file(folder / "model.safetensors") for folder in files)
    average = load_file(recipe.out / AVERAGE / "model.safetensors")
    last = load_file(recipe.out / "model" / "model.safetensors")
    assert average.keys() == last.keys()
    assert any((two[name] != three[name]).any() for name in last)
    for name, weight in average.items():
        torch.testing.assert_close(weight, (two[name] + three[name]) / 2)
        assert torch.equal(last[name], three[name])
    clear_run(recipe.out)
    assert [path.name for path in recipe.out.iterdir()] == [LOCK]


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [3, 4])
def test_a_killed_run_ends_with_the_same_mean(
    killed_at: int, scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = (
        tiny_recipe(
            scene_folder, tmp_path / name, method="sft", max_steps=4, average_last=0.75,
            save_steps=2, learning_rate=1e-3,
        )
        for name in ("whole", "killed")
    )  # fmt: skip
    run(whole)
    run_until_killed(killed, killed_at, monkeypatch)
    run(killed, resume=True)
    one, other = (load_file(r.out / AVERAGE / "model.safetensors") for r in (whole, killed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_that_is_trained_further_begins_its_mean_anew(tmp_path: Path) -> None:
    facts = {"first": "61", "count": "40"}
    save_file({"weight": torch.ones(1)}, tmp_path / FILE, facts)
    assert AverageWeights(0.4, 100, tmp_path).count == 40
    assert AverageWeights(0.4, 110, tmp_path).count == 0


def test_adapters_have_no_mean(scene_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="average_last is of whole weights, which lora"):
        tiny_recipe(scene_folder, tmp_path, average_last=0.5, lora={"r": 2})
