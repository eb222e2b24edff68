"""Whole optimizer steps: what shared prefixes change is the time, not the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from trl.trainer import grpo_trainer as trl_grpo  # noqa: E402

from boxrl.engines.loading import load, quiet  # noqa: E402
from boxrl.engines.prefix import shared_prefix  # noqa: E402
from boxrl.engines.training import grpo  # noqa: E402
from boxrl.engines.training import grpo_trainer as ours  # noqa: E402
from boxrl.engines.training.frozen_tower import run_frozen  # noqa: E402
from boxrl.engines.training.train import training_samples  # noqa: E402
from boxrl.families import read_family  # noqa: E402
from boxrl.generation.model_folders import model_folder  # noqa: E402
from tests.support.quick import quick_among  # noqa: E402
from tests.support.random_models import (  # noqa: E402
    IMAGE_FIRST,
    TOKENS,
    build_plain_model,
    build_processor,
)
from tests.support.recipes import tiny_recipe  # noqa: E402

EVERYTHING: dict[str, Any] = {
    "beta": 0.2,
    "micro_batch_prompts": 2,
    "lora": {"r": 4, "alpha": 8},
    "trl": {
        "num_iterations": 2,
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
    },
}
LORA = {"r": 4, "alpha": 8}
SETTINGS: dict[str, dict[str, Any]] = {
    "one group a micro-batch": {"micro_batch_prompts": 1},
    "two groups a micro-batch": {"micro_batch_prompts": 2},
    "all groups in one": {},
    "half a group a micro-batch": {
        "trl": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 8}
    },
    "two iterations": {"micro_batch_prompts": 2, "trl": {"num_iterations": 2}},
    "a generation for two steps": {
        "micro_batch_prompts": 2,
        "trl": {"steps_per_generation": 4, "gradient_accumulation_steps": 2},
    },
    "reference copy": {"beta": 0.2, "micro_batch_prompts": 2, "trl": {"num_iterations": 2}},
    "LoRA, reference by adapter-off": {"beta": 0.2, "micro_batch_prompts": 2, "lora": LORA},
    "gradient checkpointing": {"trl": {"gradient_checkpointing": True}},
    "truncated completions masked": {
        "max_completion_length": 20,
        "trl": {"mask_truncated_completions": True},
    },
    "frozen vision": {"freeze_vision": True},
    "GSPO": {"trl": {"importance_sampling_level": "sequence", "num_iterations": 2}},
    "Qwen3-VL": {"kind": "qwen3-vl"},
    "Qwen3-VL with everything": {"kind": "qwen3-vl", **EVERYTHING},
    "Qwen3.5": {"kind": "qwen3.5"},
    "Qwen3.5 with everything": {"kind": "qwen3.5", **EVERYTHING},
    "InternVL, tiles": {"kind": "internvl"},
    "InternVL with everything": {"kind": "internvl", **EVERYTHING},
    "Dr. GRPO": {"trl": {"loss_type": "dr_grpo", "scale_rewards": "none"}},
}


def letters(completions: Any, **_: Any) -> list[float]:
    """What a random model can earn, unlike anything for boxes."""
    return [len(set(completion[0]["content"])) / 10 for completion in completions]


def update(scenes: Path, out: Path, shared: bool | str, **train: Any) -> dict[str, Any]:
    """Change of every trained parameter over two steps of plain gradient descent."""
    trl = {"optim": "sgd", "gradient_checkpointing": False, **train.pop("trl", {})}
    kind, bundles = train.pop("kind", None), train.pop("bundles", 1)
    recipe = tiny_recipe(scenes, out, engine={"shared_prefix": shared}, trl=trl, **train)
    quiet()
    model, processor = load("tiny", "float32", "cpu", 1)
    family = read_family(model_folder("tiny"))
    if kind:
        tokens = {name: getattr(model.config, name) for name in TOKENS}
        model = build_plain_model(kind, 0, model.config.text_config.vocab_size, tokens)
        processor = build_processor(kind)
    if bundles > 1:
        processor.chat_template = IMAGE_FIRST
    if recipe.train.freeze_vision:
        if shared:
            run_frozen(model, family.vision_module)
        else:
            model.get_submodule(family.vision_module).requires_grad_(False)
    trainer = grpo.build_trainer(recipe, model, processor, family, *training_samples(recipe))
    trainer.prompts_per_image = bundles  # of TRL's path as well, whose order is to be the same
    if kind or bundles > 1:
        trainer.reward_funcs = [letters] * len(trainer.reward_funcs)
    named = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in named.items()}
    trainer.train()
    return {name: p.detach() - before[name] for name, p in named.items()}


@pytest.fixture
def unshuffled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two paths shuffle rows and groups; without either, both see the same micro-batches."""
    monkeypatch.setattr(trl_grpo, "shuffle_sequence_dict", lambda batch: batch)
    monkeypatch.setattr(ours, "shuffle_groups", lambda batch, size: batch)


def assert_same_update(got: dict[str, Any], expected: dict[str, Any]) -> None:
    assert got.keys() == expected.keys()
    total = sum(change.square().sum() for change in expected.values()).sqrt()
    error = sum((got[n] - expected[n]).square().sum() for n in expected).sqrt()
    assert total > 1e-4
    assert error / total < 1e-4


@pytest.mark.usefixtures("unshuffled")
@pytest.mark.parametrize(
    "setting",
    quick_among(
        SETTINGS, "half a group a micro-batch", "reference copy", "Qwen3-VL with everything",
        "Qwen3.5 with everything", "InternVL with everything", "Dr. GRPO",
    ),
)  # fmt: skip
def test_the_weights_after_two_steps_are_those_of_trl(
    setting: str, scene_folder: Path, tmp_path: Path
) -> None:
    expected = update(scene_folder, tmp_path / "trl", False, **SETTINGS[setting])
    got = update(scene_folder, tmp_path / "ours", True, **SETTINGS[setting])
    assert_same_update(got, expected)


@pytest.mark.usefixtures("unshuffled")
def test_so_are_they_where_a_difference_gives_way_to_the_path_of_trl(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flat(model: Any, prompt: Any, types: Any, grid: Any) -> Any:
        return torch.arange(len(prompt))[None].expand(3, -1)

    monkeypatch.setattr(shared_prefix, "rope_positions", flat)
    setting = SETTINGS["two iterations"]
    expected = update(scene_folder, tmp_path / "trl", False, **setting)
    assert_same_update(update(scene_folder, tmp_path / "ours", "if_exact", **setting), expected)
