"""Micro-batches of full-size models: what they cost, and whether they fit where they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from boxrl.config import Recipe  # noqa: E402
from boxrl.engines.training import parity  # noqa: E402
from boxrl.engines.training.memory import build_empty, estimate  # noqa: E402
from boxrl.families import read_family  # noqa: E402

from . import full_size  # noqa: E402
from .full_size import Step, measure  # noqa: E402
from .gpu import GIB, phantom_gpu  # noqa: E402

pytestmark = pytest.mark.phantom

LORA = {"lora": {"r": 64, "alpha": 128}, "freeze_vision": True, "learning_rate": 1e-5}
GRIDS = {256: (16, 16), 576: (24, 24), 1024: (32, 32), 2048: (32, 64)}
"""Image tokens -> rows and columns."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full_size")
    for name in full_size.SIZES:
        full_size.save_folder(name, folder / name)
    for tokens, grid in GRIDS.items():
        for name in full_size.SIZES:
            full_size.save_scenes(folder / f"{name}-{tokens}", name, grid)
    return folder


def recipe(folders: Path, name: str, tokens: int, **options: Any) -> Recipe:
    number = len(list(folders.glob("run*")))
    out = folders / f"run{number}"
    return full_size.recipe_of(folders / f"{name}-{tokens}", folders / name, out, **options)


def last(recipe: Recipe, **options: Any) -> Step:
    return measure(recipe, **options)[-1]


def test_the_prompt_is_run_once(folders: Path) -> None:
    ours = last(recipe(folders, "qwen2.5-vl-3b", 1024))
    trls = last(recipe(folders, "qwen2.5-vl-3b", 1024, engine={"shared_prefix": False}))
    assert trls.flops > 4.5 * ours.flops
    assert trls.peak > ours.peak + 3 * GIB
    assert trls.kernels > 3 * ours.kernels


@pytest.mark.parametrize("name", ["qwen2.5-vl-7b", "qwen3-vl-4b"])
def test_other_models_train(name: str, folders: Path) -> None:
    told = recipe(folders, name, 576, **LORA)
    step = last(told)
    weights = 2 * sum(p.numel() for p in build_empty(told).parameters())
    assert weights < step.peak < weights + 8 * GIB


def test_a_frozen_tower_is_run_once(folders: Path) -> None:
    """With checkpointing, transformers has the patch embedding's output require gradients."""
    step = last(recipe(folders, "qwen2.5-vl-3b", 1024, **LORA))
    assert step.flops < 61e12
    assert step.kernels < 18_000


def test_images_are_sent_once_however_many_rows_show_them(folders: Path) -> None:
    told = recipe(folders, "qwen2.5-vl-3b", 1024, max_completion_length=8, **LORA)
    pixels = 4 * 1024 * 3 * 2 * 14 * 14 * 4
    assert last(told).inputs < 2.5 * pixels


def test_the_host_seldom_waits(folders: Path) -> None:
    assert last(recipe(folders, "qwen2.5-vl-3b", 1024)).syncs <= 35


def test_attention_follows_the_lengths_of_completions(folders: Path) -> None:
    lengths = (1024, 256, 307, 358, 409, 460, 512, 307)
    options = {"max_completion_length": 1024, **LORA}
    even = last(recipe(folders, "qwen2.5-vl-3b", 256, **options))
    uneven = last(recipe(folders, "qwen2.5-vl-3b", 256, **options), lengths=lengths)
    assert uneven.attention_flops < 0.6 * even.attention_flops


SETTINGS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "3B": ("qwen2.5-vl-3b", 1024, {}),
    "3B, small image": ("qwen2.5-vl-3b", 256, {}),
    "3B, long completions": ("qwen2.5-vl-3b", 1024, {"max_completion_length": 1024}),
    "3B, frozen vision": ("qwen2.5-vl-3b", 1024, {"freeze_vision": True}),
    "3B, TRL's path": ("qwen2.5-vl-3b", 576, {"engine": {"shared_prefix": False}}),
    "3B, KL": ("qwen2.5-vl-3b", 576, {"beta": 0.1}),
    "3B, LoRA": ("qwen2.5-vl-3b", 1024, LORA),
    "3B, LoRA, long completions": (
        "qwen2.5-vl-3b", 1024, {**LORA, "max_completion_length": 1024},
    ),
    "3B, LoRA, four prompts": (
        "qwen2.5-vl-3b", 576, {**LORA, "micro_batch_prompts": 4, "prompts_per_step": 4},
    ),
    "3B, LoRA, no checkpointing": (
        "qwen2.5-vl-3b", 576, {**LORA, "trl": {"activation_checkpointing": False}},
    ),
    "7B, LoRA": ("qwen2.5-vl-7b", 1024, LORA),
    "Qwen3-VL-4B, LoRA": ("qwen3-vl-4b", 1024, LORA),
}  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_dry_run_says_what_a_step_takes(
    setting: str, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, tokens, options = SETTINGS[setting]
    told = recipe(folders, name, tokens, max_steps=2, **options)  # then the state is there
    said, taken = estimate(told).training / GIB, last(told).peak / GIB
    with capsys.disabled():
        print(f"\n{setting}: {said:.2f} GiB said, {taken:.2f} taken")  # noqa: T201
    assert 0.95 < said / taken < 1.05


def test_parity_fits_where_training_fits(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "qwen2.5-vl-3b"
    step = measure(recipe(folders, name, 1024))[0]
    with phantom_gpu(floats="hollow", memory=1000 * GIB) as gpu:
        full_size.hollow(monkeypatch)
        family = read_family(folders / name, None)
        parity.check_parity(folders / name, family, "bfloat16", "cuda")
        assert gpu.peak_bytes <= step.peak
