"""The whole trainer on a phantom GPU: what it computes there is what it computes on the CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from boxrl.config import Recipe  # noqa: E402
from boxrl.engines.training import train as training  # noqa: E402
from tests.support.random_models import save_folder  # noqa: E402

from .gpu import phantom_gpu  # noqa: E402
from .runs import ran, ran_on_phantom, recipe_of, reward_letters  # noqa: E402, F401

LORA = {"lora": {"r": 4, "alpha": 8}}
SETTINGS: dict[str, dict[str, Any]] = {
    "full": {},
    "no checkpointing": {"trl": {"activation_checkpointing": False}},
    "TRL's path": {"engine": {"shared_prefix": False}},
    "LoRA": LORA,
    "LoRA, frozen vision": {**LORA, "freeze_vision": True},
    "frozen vision": {"freeze_vision": True},
    "KL": {"beta": 0.1},
    "KL, LoRA": {"beta": 0.1, **LORA},
    "two updates": {"micro_batch_prompts": 1, "trl": {"num_iterations": 2}},
    "masked truncation": {"trl": {"mask_truncated_completions": True}},
    "one ratio a sequence": {"trl": {"loss_type": "grpo", "importance_sampling_level": "sequence"}},
    "top entropy": {"trl": {"top_entropy_quantile": 0.2}},
    "vision's own pace": {"vision_learning_rate": 1e-5},
    "SFT": {"method": "sft"},
    "SFT, LoRA": {"method": "sft", **LORA},
}
QUICK = ("full", "SFT")
SLOWER = [pytest.param(name, marks=pytest.mark.phantom) for name in SETTINGS if name not in QUICK]


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Two runs, by their figures; both learn something."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name in {"loss", "grad_norm", "reward"} & other.keys():
            assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-6), name
    assert any(row["grad_norm"] > 1e-3 for row in expected)


@pytest.mark.parametrize("setting", [*QUICK, *SLOWER])
def test_a_run_is_that_of_the_cpu(setting: str, scene_folder: Path, tmp_path: Path) -> None:
    options = SETTINGS[setting]
    expected = ran(recipe_of(scene_folder, tmp_path / "cpu", "cpu", **options))
    recipe = recipe_of(scene_folder, tmp_path / "gpu", "auto", **options)
    found, gpu = ran_on_phantom(recipe)
    assert len(found) == len(expected) == 2
    assert_same(found, expected)
    assert gpu.kernels > 1000 and not gpu.guesses
    for folder in ("cpu", "gpu"):
        assert (tmp_path / folder / "model" / "model.safetensors").is_file()
    weights, saved = (load_file(tmp_path / x / "model/model.safetensors") for x in ("gpu", "cpu"))
    assert max((weights[name] - saved[name]).abs().max() for name in saved) < 1e-4


@pytest.mark.phantom
@pytest.mark.usefixtures("reward_letters")
@pytest.mark.parametrize("options", [{}, LORA, {"beta": 0.1}], ids=["full", "LoRA", "KL"])
@pytest.mark.parametrize("kind", ["qwen2.5-vl", "qwen3-vl", "internvl"])
def test_other_architectures(
    kind: str, options: dict[str, Any], scene_folder: Path, tmp_path: Path
) -> None:
    folder = save_folder(kind, tmp_path / "model")

    def recipe(name: str, device: str) -> Recipe:
        made = recipe_of(scene_folder, tmp_path / name, device, **options)
        return made.model_copy(update={"model": str(folder)})

    expected = ran(recipe("cpu", "cpu"))
    found, _ = ran_on_phantom(recipe("gpu", "auto"))
    assert_same(found, expected)


HALF: dict[str, dict[str, Any]] = {
    "bfloat16": {"engine": {"dtype": "bfloat16"}},
    "float32 with autocast": {"trl": {"bf16": True}},
    "LoRA on bfloat16": {"engine": {"dtype": "bfloat16"}, **LORA, "freeze_vision": True},
    "KL": {"engine": {"dtype": "bfloat16"}, "beta": 0.1},
    "TRL's path": {"engine": {"dtype": "bfloat16", "shared_prefix": False}},
    "SFT": {"engine": {"dtype": "bfloat16"}, "method": "sft"},
}


@pytest.mark.parametrize(
    "setting",
    [
        name if name == "LoRA on bfloat16" else pytest.param(name, marks=pytest.mark.phantom)
        for name in HALF
    ],
)
def test_half_precision_trains(setting: str, scene_folder: Path, tmp_path: Path) -> None:
    options = {"max_steps": 1, **HALF[setting]}
    rows, gpu = ran_on_phantom(recipe_of(scene_folder, tmp_path / "run", "auto", **options))
    assert [row["step"] for row in rows] == [1]
    assert rows[0]["grad_norm"] > 1e-3
    assert gpu.attention["flash"]  # taken for half numbers only


@pytest.mark.phantom
def test_a_run_goes_on_where_it_stopped(scene_folder: Path, tmp_path: Path) -> None:
    """Checkpoints of a GPU are read back onto it: weights, optimizer, random numbers."""
    recipe = recipe_of(scene_folder, tmp_path / "run", "auto", save_steps=1, max_steps=2)
    whole, _ = ran_on_phantom(recipe)
    (tmp_path / "run" / "model" / "model.safetensors").unlink()
    for file in (tmp_path / "run" / "checkpoints" / "checkpoint-2").iterdir():
        file.unlink()
    with phantom_gpu():
        training.train_run(recipe, resume=True)
    again = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in again] == pytest.approx([row["loss"] for row in whole], rel=1e-4)
