"""The shipped recipes run their first micro-batches at full size in the memory that they name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from boxrl.config import Recipe, find_recipe, load_recipe  # noqa: E402
from boxrl.engines.training.memory import build_empty, estimate  # noqa: E402

from . import full_size  # noqa: E402
from .full_size import measure  # noqa: E402

pytestmark = pytest.mark.phantom

USABLE = 0.92
"""Of a GPU's memory; the rest goes to CUDA itself and to fragmentation."""
EIGHT = (
    "grpo_ovd_3b", "grpo_ovd_3b_2048", "grpo_ovd_3b_kl", "grpo_ovd_7b", "grpo_rec_3b",
    "grpo_single_class_3b", "sft_coco_3b",
)  # fmt: skip
"""For 8 GPUs of 80 GB, sharded."""


def shipped(name: str, folder: Path, *more: str) -> Recipe:
    """A recipe on a full-size model without weights and images of 1,024 tokens."""
    model = "qwen2.5-vl-7b" if "7b" in name else "qwen2.5-vl-3b"
    full_size.save_folder(model, folder / model)
    full_size.save_scenes(folder / "data", model, (32, 32))
    return load_recipe(
        find_recipe(name),
        [
            f"out={folder / 'run'}", f"model={folder / model}",
            f"data.train={folder / 'data' / 'samples.jsonl'}",
            f"data.images={folder / 'data' / 'images'}", "train.max_steps=1",
            "train.trl.save_strategy=no", "train.prompts_per_step=2", *more,
        ],
    )  # fmt: skip


def test_the_recipe_for_one_gpu_of_24_gb_fits_there(tmp_path: Path) -> None:
    """With two of the sixteen prompts of a step, one after the other as all of them are."""
    told = shipped("grpo_ovd_3b_lora", tmp_path)
    steps = measure(told, memory=int(USABLE * 24e9), check=True)
    assert len(steps) == 2


@pytest.mark.parametrize("name", ["grpo_ovd_7b", "grpo_ovd_3b_2048", "sft_coco_3b"])
def test_a_process_of_eight_fits_even_if_it_held_all_weights(name: str, tmp_path: Path) -> None:
    """DeepSpeed runs on no phantom: only the optimizer's state is taken as shared, by arithmetic.

    Stage 3 shares weights and gradients as well, and holds a part of them gathered.
    """
    recipe = shipped(name, tmp_path)
    # One micro-batch; the optimizer's float32 copies of the weights are there from the start.
    copies = 4 * sum(p.numel() for p in build_empty(recipe).parameters())
    step = measure(recipe, memory=1000 * full_size.GIB)[0]
    assert step.peak - copies + 3 * copies / 8 < USABLE * 80e9


@pytest.mark.parametrize("name", EIGHT)
def test_the_dry_run_of_eight_fits(name: str, tmp_path: Path) -> None:
    recipe = shipped(name, tmp_path, "train.prompts_per_step=16")
    assert estimate(recipe, 8, "zero3").peak < USABLE * 80e9


PAGE = Path(__file__).parents[2] / "docs" / "howto" / "gpu.md"
TRAINED: dict[str, dict[str, Any]] = {
    "QLoRA": {"lora": {"r": 64, "alpha": 128, "quantize": "4bit"}, "freeze_vision": True},
    "LoRA": {"lora": {"r": 64, "alpha": 128}, "freeze_vision": True},
    "everything": {},
}
"""What gpu.md's table trains."""


def test_the_page_s_table_is_what_is_counted(tmp_path: Path) -> None:
    rows = re.findall(r"^\| (Qwen\S+) \| (\w+).*?\| ([\d.]+) \| (\d+) GB", PAGE.read_text(), re.M)
    assert len(rows) == 5
    for number, (model, trained, said, card) in enumerate(rows):
        name, folder = model.lower(), tmp_path / str(number)
        full_size.save_folder(name, folder / name)
        full_size.save_scenes(folder / "data", name, (32, 32))
        recipe = full_size.recipe_of(
            folder / "data", folder / name, folder / "run", prompts_per_step=8,
            max_completion_length=1024, **TRAINED[trained],
        )  # fmt: skip
        peak = estimate(recipe).peak
        assert float(said) == pytest.approx(peak / full_size.GIB, abs=0.06), (model, trained)
        assert peak < USABLE * float(card) * 1e9
