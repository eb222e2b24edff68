"""Prompts of one image stand together, and what they learn is what TRL's path learns."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from boxrl.config import Recipe  # noqa: E402
from boxrl.data.samples import write_samples  # noqa: E402
from boxrl.data.synthetic import World, scenes  # noqa: E402
from boxrl.engines.prefix import shared_prefix  # noqa: E402
from boxrl.engines.training.batches import repeat_first_images  # noqa: E402
from boxrl.engines.training.bundles import BundleSampler, bundled_order  # noqa: E402
from boxrl.engines.training.grpo_trainer import BoxGRPOTrainer  # noqa: E402
from boxrl.errors import UsageError  # noqa: E402
from tests.engines.training.test_grpo_trainer import (  # noqa: E402
    assert_same_update,
    unshuffled,
    update,
)
from tests.engines.training.test_train import build_trainer  # noqa: E402
from tests.support.quick import quick_among  # noqa: E402
from tests.support.recipes import tiny_recipe  # noqa: E402

__all__ = ["unshuffled"]

UNEVEN = [f"{image}.png" for image in range(40) for _ in range(1 + image % 5)]


def order(most: int, room: int, images: list[str] = UNEVEN, seed: int = 0) -> list[int]:
    return bundled_order(images, most, room, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("most", "room"), [(1, 1), (2, 2), (4, 4), (3, 4), (4, 8), (5, 7)])
def test_every_sample_comes_once_in_bundles_of_one_image(most: int, room: int) -> None:
    found = order(most, room)
    assert sorted(found) == list(range(len(UNEVEN)))
    runs = Counter(len(list(run)) for _, run in groupby(UNEVEN[number] for number in found))
    if most > 1:
        assert runs[most] > 5
    assert order(most, room) == found != order(most, room, seed=1)


@pytest.mark.parametrize(("most", "room"), [(2, 2), (4, 4), (4, 8)])
def test_no_micro_batch_cuts_a_bundle_that_would_fit_elsewhere(most: int, room: int) -> None:
    found = order(most, room)
    parts = [{UNEVEN[number] for number in found[k : k + room]} for k in range(0, len(found), room)]
    shown = sum(map(len, parts))
    whole = sum(-(-n // most) for n in Counter(UNEVEN).values())
    assert shown <= 1.05 * whole + 1


def test_bundles_of_an_image_are_drawn_anew() -> None:
    images = ["a.png"] * 6 + ["b.png"] * 6
    pairs = {
        frozenset(found[k : k + 2])
        for seed in range(8)
        for found in [order(2, 2, images, seed)]
        for k in range(0, 12, 2)
    }
    assert len(pairs) > 12
    assert all(len({images[number] for number in pair}) == 1 for pair in pairs)


def test_a_sampler_goes_on_from_the_number_of_the_epoch() -> None:
    sampler = BundleSampler(range(len(UNEVEN)), UNEVEN, 3, 4, seed=7)
    first, second = list(sampler), list(sampler)
    assert first == order(3, 4, seed=7) != second
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert len(sampler) == len(first)


def test_a_resumed_run_keeps_the_order_that_it_began_with(questions: Path, tmp_path: Path) -> None:
    """In micro-batches of another size bundles would stand elsewhere, and an epoch miss samples."""
    options = {"prompts_per_step": 6, "num_generations": 2, "prompts_per_image": 2}
    began = build_trainer(tiny_recipe(questions, tmp_path / "run", **options))
    resumed = build_trainer(
        tiny_recipe(questions, tmp_path / "run", **options, micro_batch_prompts=2)
    )

    def order(trainer: Any) -> list[int]:
        return list(dict.fromkeys(trainer._get_train_sampler()))

    assert order(resumed) != order(began)
    checkpoint = tmp_path / "checkpoint-1"
    checkpoint.mkdir()
    (checkpoint / "trainer_state.json").write_text('{"train_batch_size": 12}')
    (checkpoint / "optimizer.pt").touch()
    resumed.take_up(checkpoint)
    assert order(resumed) == order(began)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"micro_batch_prompts": 2}, r"is 3; expected at most the 2 prompts of a micro-batch"),
        ({"prompts_per_step": 2}, r"is 3; expected at most the 2 prompts of a micro-batch"),
    ],
)
def test_more_prompts_than_a_micro_batch_holds(
    train: dict[str, Any], said: str, scene_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        tiny_recipe(scene_folder, tmp_path, prompts_per_image=3, **train)


def test_more_prompts_than_a_process_has(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"at most the 2 prompts of a micro-batch, 4 of a step on"):
        build_trainer(tiny_recipe(scene_folder, tmp_path / "run", prompts_per_image=3))


def test_trls_path_shares_nothing(scene_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"prompts_per_image needs engine\.shared_prefix"):
        tiny_recipe(scene_folder, tmp_path, prompts_per_image=2, engine={"shared_prefix": False})


# --- the whole trainer --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five scenes, asked for one label of three each."""
    folder = tmp_path_factory.mktemp("questions")
    (folder / "images").mkdir()
    samples = []
    for scene in scenes(World(n_labels=(0, 0, 1)), 5, 3, "bundles"):
        scene.image.save(folder / "images" / scene.sample.image)
        for label in scene.sample.labels:
            own = tuple(item for item in scene.sample.objects if item.label == label)
            key = f"{scene.sample.id}-{label}"
            samples.append(replace(scene.sample, id=key, labels=(label,), objects=own))
    write_samples(folder / "samples.jsonl", samples)
    return folder


LORA = {"r": 4, "alpha": 8}
CHECKPOINTING = {
    "gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False},
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "all in one pass": {"prompts_per_step": 6},
    "two passes": {"prompts_per_step": 6, "micro_batch_prompts": 3},
    "two iterations, reference copy": {
        "prompts_per_step": 6, "micro_batch_prompts": 3, "beta": 0.04, "trl": {"num_iterations": 2},
    },
    "LoRA with checkpointing, reference by adapter-off": {
        "prompts_per_step": 6, "micro_batch_prompts": 3, "beta": 0.04, "lora": LORA,
        "trl": {"num_iterations": 2, **CHECKPOINTING},
    },
    "a bundle that is cut": {"prompts_per_step": 4, "micro_batch_prompts": 4},
    "micro-batches of two prompts": {
        "prompts_per_step": 6,
        "trl": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 3},
    },
    "frozen vision": {"prompts_per_step": 6, "freeze_vision": True},
    "Qwen3-VL": {"kind": "qwen3-vl", "prompts_per_step": 6, "beta": 0.04, "lora": LORA,
                 "trl": {"num_iterations": 2, **CHECKPOINTING}},
    "InternVL": {"kind": "internvl", "prompts_per_step": 6, "beta": 0.04, "lora": LORA,
                 "trl": {"num_iterations": 2, **CHECKPOINTING}},
    "Qwen3.5, which shares no images": {"kind": "qwen3.5", "prompts_per_step": 6},
}  # fmt: skip


@pytest.fixture
def trees(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often trees of so many prompts were packed."""
    seen: Counter[int] = Counter()
    found = shared_prefix.find_trees

    def counted(*args: Any) -> Any:
        trees = found(*args)
        seen.update(len(tree.groups) for tree in trees)
        return trees

    monkeypatch.setattr(shared_prefix, "find_trees", counted)
    return seen


@pytest.mark.usefixtures("unshuffled")
@pytest.mark.parametrize(
    "setting",
    quick_among(SETTINGS, "two iterations, reference copy"),
)
def test_the_weights_after_two_steps_are_those_of_trl(
    setting: str, questions: Path, tmp_path: Path, trees: Counter[int]
) -> None:
    options = {"bundles": 3, **SETTINGS[setting]}
    expected = update(questions, tmp_path / "trl", False, **options)
    assert not trees
    assert_same_update(update(questions, tmp_path / "ours", True, **options), expected)
    assert bool(trees[3] or trees[2]) is not setting.startswith("Qwen3.5")


def test_groups_stay_whole_where_micro_batches_hold_parts_of_them() -> None:
    """Three groups of 4 rows in micro-batches of 6, each row with the number of its group."""
    trainer = SimpleNamespace(
        num_generations=4, prompts_per_image=2, args=SimpleNamespace(steps_per_generation=2)
    )
    numbers = torch.arange(3).repeat_interleave(4)
    images = [torch.full((1,), int(own)) for own in numbers]
    batch = {"prompt_ids": numbers, "pixel_values": images, "num_images": [1] * 12}
    for seed in range(8):
        torch.manual_seed(seed)
        shuffled = BoxGRPOTrainer._shuffle_groups(trainer, batch)
        shown = repeat_first_images(shuffled)["pixel_values"]
        assert torch.cat(shown).tolist() == shuffled["prompt_ids"].tolist()


def told(recipe: Recipe) -> dict[str, str]:
    trainer = build_trainer(recipe)
    trainer.train()
    return {name: said for name, said in trainer.notices.items() if name == "image_trees"}


def test_text_that_stands_before_the_image_is_told(
    questions: Path, tmp_path: Path, trees: Counter[int]
) -> None:
    """As the packaged model's template has it."""
    recipe = tiny_recipe(
        questions, tmp_path / "run", prompts_per_image=3, prompts_per_step=3, max_steps=1
    )
    assert "their text stands before the image" in told(recipe)["image_trees"]
    assert set(trees) == {1}


def test_images_of_one_question_each_are_told(scene_folder: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(scene_folder, tmp_path / "run", prompts_per_image=2, max_steps=1)
    assert "no image has several prompts" in told(recipe)["image_trees"]
