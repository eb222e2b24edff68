"""A frozen vision tower gives what it gave, without gradients, and once per image in use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from boxrl.engines.training import trainer_mixin  # noqa: E402
from boxrl.engines.training.frozen_tower import FrozenTower, find_frozen, run_frozen  # noqa: E402
from boxrl.engines.training.grpo_trainer import BoxGRPOTrainer  # noqa: E402
from boxrl.engines.training.train import _build  # noqa: E402
from boxrl.errors import UsageError  # noqa: E402
from boxrl.generation.model_folders import model_folder  # noqa: E402
from tests.engines.prefix.test_shared_prefix import shared_log_probs, trl_log_probs  # noqa: E402
from tests.support.architectures import ARCHITECTURES  # noqa: E402
from tests.support.random_models import Batch, build_batch, build_model  # noqa: E402
from tests.support.recipes import tiny_recipe  # noqa: E402

LENGTHS = (5, 3, 4, 2)


def tower_of(model: Any) -> str:
    names = dict(model.named_modules())
    return next(name for name in ("model.visual", "model.vision_tower") if name in names)


def counted(frozen: FrozenTower, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of pixel values of each run of the tower, from here on."""
    runs: list[int] = []
    run = frozen._run

    def count(*args: Any, **kwargs: Any) -> Any:
        runs.append(len(args[0]) if args else len(next(iter(_pixels(kwargs)))))
        return run(*args, **kwargs)

    monkeypatch.setattr(frozen, "_run", count)
    return runs


def _pixels(kwargs: dict[str, Any]) -> list[Any]:
    return [kwargs[name] for name in ("hidden_states", "pixel_values") if name in kwargs]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_log_probs_are_those_of_the_tower(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = build_model(kind), build_batch(kind, 2, 2, LENGTHS)
    expected, _ = trl_log_probs(model, batch)
    frozen = run_frozen(model, tower_of(model))
    runs = counted(frozen, monkeypatch)
    real = batch.completion_mask
    for _ in range(2):
        with frozen.keeping():
            found, _ = trl_log_probs(model, batch)
        assert (found - expected)[real].abs().max() < 1e-5
    with torch.no_grad():
        found, _ = trl_log_probs(model, batch)
    assert (found - expected)[real].abs().max() < 1e-5
    assert len(runs) in (2, 3)  # towers that take more than pixels and a grid keep nothing
    assert not any(p.requires_grad for p in model.get_submodule(tower_of(model)).parameters())


@pytest.mark.parametrize("kind", ["qwen2.5-vl", "qwen3-vl", "internvl", "gemma3"])
def test_an_image_is_run_once_while_it_is_in_use(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = build_model(kind), build_batch(kind, 2, 2, LENGTHS)
    frozen = run_frozen(model, tower_of(model))
    runs = counted(frozen, monkeypatch)
    rows = len(batch.images["pixel_values"])
    with frozen.keeping():
        trl_log_probs(model, batch)
        trl_log_probs(model, batch)
        assert runs == [rows // 2]  # two rows show each image
        frozen.forget()
        trl_log_probs(model, batch)
    assert runs == [rows // 2] * 2
    trl_log_probs(model, batch)
    assert runs == [rows // 2] * 2 + [rows]


@pytest.mark.parametrize("kind", ["qwen2.5-vl", "internvl"])
def test_images_that_differ_anywhere_are_not_taken_for_each_other(kind: str) -> None:
    model, batch = build_model(kind), build_batch(kind, 1, 1, (4,))
    frozen = run_frozen(model, tower_of(model))
    pixels = batch.images["pixel_values"]
    swapped = pixels.clone()
    swapped.view(-1)[[0, -1]] = swapped.view(-1)[[-1, 0]]
    one = pixels.clone()
    one.view(-1)[len(one) // 2] += 1e-3
    swapped_rows = pixels.flip(0)
    for other in (swapped, one, swapped_rows):
        if torch.equal(other, pixels):
            continue
        changed = Batch(
            batch.input_ids, batch.attention_mask, 4, {**batch.images, "pixel_values": other}
        )
        expected, _ = trl_log_probs(model, changed)
        with frozen.keeping():
            trl_log_probs(model, batch)
            found, _ = trl_log_probs(model, changed)
        assert torch.allclose(found, expected, atol=1e-6)
        assert len(frozen._kept) > 1


def test_blank_images_of_one_area_are_told_by_their_shapes() -> None:
    model = build_model("qwen2.5-vl")
    frozen = run_frozen(model, tower_of(model))
    grids = [torch.tensor([[1, *shape]]) for shape in ((4, 8), (8, 4))]
    pixels = torch.ones(32, 3 * 2 * model.config.vision_config.patch_size**2)
    with frozen.keeping():
        kept = [frozen(pixels, grid_thw=grid).pooler_output for grid in grids]
    for grid, found in zip(grids, kept, strict=True):
        assert torch.equal(found, frozen(pixels, grid_thw=grid).pooler_output)
    assert not torch.equal(*kept)


def test_checkpointing_neither_repeats_nor_differentiates_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The output of the tower's first layer is made to require gradients."""
    model = build_model("qwen2.5-vl").train()
    frozen = run_frozen(model, "model.visual")
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    calls = []
    for block in model.model.visual.blocks:
        block.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    logps, _ = trl_log_probs(model, build_batch("qwen2.5-vl", 1, 2, LENGTHS))
    logps.sum().backward()
    assert calls == [False] * len(model.model.visual.blocks)
    assert find_frozen(model) is frozen


def test_the_trainer_keeps_features_while_it_learns_from_their_images(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(
        scene_folder, tmp_path / "run", freeze_vision=True, lora={"r": 2, "alpha": 4}, beta=0.1,
        micro_batch_prompts=2, trl={"num_iterations": 2},
    )  # fmt: skip
    trainer = _build(recipe, model_folder(recipe.model), None)
    frozen = find_frozen(trainer.model)
    assert frozen is not None
    runs = counted(frozen, monkeypatch)
    # The first micro-batch is compared with a tower that keeps nothing.
    monkeypatch.setattr(BoxGRPOTrainer, "_check_first", lambda *_: None)
    trainer.train()
    assert len(runs) == 1  # one generation; old, reference and training passes took what is kept
    assert not frozen._keeps and len(frozen._kept) == 4


def test_what_is_kept_is_lost_with_the_generation(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(scene_folder, tmp_path / "run", freeze_vision=True)
    trainer = _build(recipe, model_folder(recipe.model), None)
    frozen = find_frozen(trainer.model)
    assert frozen is not None
    runs = counted(frozen, monkeypatch)
    # The first micro-batch is compared with a tower that keeps nothing.
    monkeypatch.setattr(BoxGRPOTrainer, "_check_first", lambda *_: None)
    trainer.train()
    assert len(runs) == 2 and len(frozen._kept) == 4  # images of the last of two generations


def test_nothing_is_kept_where_training_gives_way_to_the_path_of_trl(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(
        scene_folder, tmp_path / "run", freeze_vision=True, max_steps=1,
        engine={"shared_prefix": "if_exact"},
    )  # fmt: skip
    trainer = _build(recipe, model_folder(recipe.model), None)
    frozen = find_frozen(trainer.model)
    assert frozen is not None
    monkeypatch.setattr(trainer_mixin, "describe_difference", lambda _: "they differ")
    trainer.train()
    assert trainer._inexact and trainer._tower is None
    assert not frozen._keeps and not frozen._kept


def test_a_family_that_names_another_module_is_refused() -> None:
    with pytest.raises(UsageError, match=r"freeze_vision: the model has no module 'vpm'"):
        run_frozen(build_model("qwen2.5-vl"), "vpm")
    with pytest.raises(UsageError, match="no module ''"):
        run_frozen(build_model("qwen2.5-vl"), "")


def test_packed_rows_take_what_padded_ones_left(monkeypatch: pytest.MonkeyPatch) -> None:
    from boxrl.engines.prefix.shared_prefix import enable

    model, batch = build_model("qwen3-vl"), build_batch("qwen3-vl", 2, 2, LENGTHS)
    expected, _ = trl_log_probs(model, batch)
    frozen = run_frozen(model, "model.visual")
    runs = counted(frozen, monkeypatch)
    enable(model)
    with frozen.keeping():
        trl_log_probs(model, batch)
        found, _ = shared_log_probs(model, batch, 2)
    assert len(runs) == 1
    assert (found - expected)[batch.completion_mask].abs().max() < 1e-5
