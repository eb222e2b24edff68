"""GRPO with vLLM's part played: what it is handed, and what becomes of what it hands back."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("trl")
import trl.trainer.grpo_trainer as trl_grpo
from trl import GRPOConfig

import boxrl.engines.training.grpo_trainer as ours
from boxrl.engines.loading import banned_token_ids, load, load_processor
from boxrl.engines.training import grpo
from boxrl.engines.training.train import train, training_samples
from boxrl.engines.training.vllm_sync import require_vllm
from boxrl.errors import MissingExtra, UsageError
from boxrl.families import read_family
from boxrl.families.folder import write_limits
from boxrl.generation.model_folders import model_folder
from tests.support.recipes import tiny_recipe

ANSWER = "<think>0 red circle</think>\n<answer>None</answer>"


class PlayedVllm:
    """TRL's VLLMGeneration with an engine that answers everything alike.

    As vLLM does, it expands the first image token of a prompt, to `patches` tokens or to as many
    as the trainer's own processor makes.
    """

    mode = "colocate"
    patches: int | None = None
    image_processor: Any = None

    def __init__(self, processing_class: Any, **options: Any) -> None:
        self.processor = processing_class
        self.options = options
        self.events: list[str] = []
        self.requests: list[dict[str, Any]] = []
        reset = SimpleNamespace(reset_encoder_cache=lambda: self.events.append("forget images"))
        self.llm = SimpleNamespace(llm_engine=reset)
        self.accelerator = options["accelerator"]

    def sync_weights(self) -> None:
        self.events.append("weights")

    def generate(self, prompts: Any, images: Any, num_generations: int, profiler: Any) -> Any:
        self.events.append("generate")
        self.requests.append({"prompts": prompts, "images": images})
        ids = self.processor.tokenizer(ANSWER)["input_ids"]
        ids = [*ids, self.processor.tokenizer.eos_token_id]
        seen = [self._expand(row, image[0]) for row, image in zip(prompts, images, strict=True)]
        logprobs = [[[-0.5]] * len(ids)] * len(prompts)
        return seen, [list(ids) for _ in prompts], logprobs, None

    def _expand(self, row: list[int], image: Any) -> list[int]:
        token = self.processor.image_token_id
        grid = (self.image_processor or self.processor.image_processor)([image])
        grid = grid["image_grid_thw"][0]
        merged = int(grid.prod()) // self.processor.image_processor.merge_size**2
        at = row.index(token)
        return row[:at] + [token] * (self.patches or merged) + row[at + 1 :]


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> type[PlayedVllm]:
    monkeypatch.setattr(trl_grpo, "VLLMGeneration", PlayedVllm)
    return PlayedVllm


def build(scenes: Path, out: Path, **trl: Any) -> Any:
    recipe = tiny_recipe(scenes, out, trl={"use_vllm": True, **trl})
    model, processor = load("tiny", "float32", "cpu", 1)
    family = read_family(model_folder("tiny"))
    return grpo.build_trainer(recipe, model, processor, family, *training_samples(recipe))


def test_vllm_gets_one_placeholder_and_one_image_a_row(
    played: type[PlayedVllm], scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unused(*_: Any, **__: Any) -> None:
        raise AssertionError("transformers generates")

    monkeypatch.setattr(ours, "generate_groups", unused)
    trainer = build(scene_folder, tmp_path)
    trainer.train()
    engine = trainer.vllm_generation
    assert len(engine.requests) == 2
    for request in engine.requests:
        assert len(request["prompts"]) == 16
        for row, images in zip(request["prompts"], request["images"], strict=True):
            assert row.count(trainer.processing_class.image_token_id) == 1
            assert len(images) == 1
    rows = (tmp_path / "completions.jsonl").read_text().splitlines()
    assert len(rows) == 4
    assert all("<answer>None</answer>" in row for row in rows)


def test_new_weights_drop_the_images_that_old_ones_encoded(
    played: type[PlayedVllm], scene_folder: Path, tmp_path: Path
) -> None:
    trainer = build(scene_folder, tmp_path)
    trainer.train()
    step = ["weights", "forget images", "generate"]
    assert trainer.vllm_generation.events == step * 2


def wide_tiny(folder: Path) -> Path:
    """The tiny model with pixel limits wide enough to be narrowed."""
    shutil.copytree(model_folder("tiny"), folder)
    write_limits(folder, {"shortest_edge": 12_544, "longest_edge": 50_176})
    return folder


def test_vllm_gets_images_in_the_recipes_pixel_limits(
    played: type[PlayedVllm], scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = wide_tiny(tmp_path / "model")
    own = load_processor(folder)
    monkeypatch.setattr(played, "image_processor", own.image_processor, raising=False)
    for limits, size in (({}, (224, 224)), ({"max_pixels": 28_224}, (168, 168))):
        family = read_family(folder, **limits)
        recipe = tiny_recipe(scene_folder, tmp_path / f"run{size[0]}", trl={"use_vllm": True})
        model, processor = load(folder, "float32", "cpu", 1, family=family)
        trainer = grpo.build_trainer(recipe, model, processor, family, *training_samples(recipe))
        trainer.train()  # refuses a prompt in which vLLM sees another size than the trainer
        requests = trainer.vllm_generation.requests
        assert {image.size for r in requests for row in r["images"] for image in row} == {size}


def test_limits_wider_than_those_that_vllm_keeps_to_are_refused(
    played: type[PlayedVllm], scene_folder: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(scene_folder, tmp_path, trl={"use_vllm": True})
    family = read_family(model_folder("tiny"), max_pixels=50_176)
    model, processor = load("tiny", "float32", "cpu", 1, family=family)
    with pytest.raises(UsageError, match="limits in the model folder, 12,544 to 12,740"):
        grpo.build_trainer(recipe, model, processor, family, *training_samples(recipe))


def test_a_server_too_is_told_to_drop_them(
    played: type[PlayedVllm], scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(played, "mode", "server")
    posted: list[str] = []
    answer = SimpleNamespace(raise_for_status=lambda: None)
    session = SimpleNamespace(post=lambda url: posted.append(url) or answer)
    info = {"model_config": {"logprobs_mode": "processed_logprobs"}}
    client = SimpleNamespace(
        base_url="http://host:8000", session=session, get_server_info=lambda: info
    )
    monkeypatch.setattr(played, "vllm_client", client, raising=False)
    trainer = build(scene_folder, tmp_path, vllm_mode="server")
    trainer.vllm_generation.sync_weights()
    assert posted == ["http://host:8000/reset_encoder_cache"]


def test_another_prompt_than_the_trainers_ends_the_run(
    played: type[PlayedVllm], scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(played, "patches", 5)
    trainer = build(scene_folder, tmp_path)
    with pytest.raises(UsageError, match=r"use_vllm: vLLM answers a prompt of \d+ tokens where"):
        trainer.train()


def test_options_of_the_recipe_reach_vllm(
    played: type[PlayedVllm], scene_folder: Path, tmp_path: Path
) -> None:
    own = {"logit_bias": {7: 1.5}, "seed": 3}
    trainer = build(
        scene_folder,
        tmp_path,
        vllm_max_model_length=512,
        vllm_gpu_memory_utilization=0.2,
        vllm_tensor_parallel_size=1,
        generation_kwargs=own,
    )
    options = trainer.vllm_generation.options
    assert options["mode"] == "colocate"
    assert options["max_model_length"] == 512
    assert options["gpu_memory_utilization"] == 0.2
    assert options["max_completion_length"] == 32
    banned = banned_token_ids(trainer.processing_class, trainer.family)
    assert len(banned) == 4
    bias = {7: 1.5} | dict.fromkeys(banned, -100.0)
    assert options["generation_kwargs"] == {"logit_bias": bias, "seed": 3}


def test_the_ban_adds_to_what_is_suppressed_already() -> None:
    assert grpo.ban({"suppress_tokens": [1]}, [5, 6], vllm=False) == {"suppress_tokens": [1, 5, 6]}
    assert grpo.ban({"seed": 3}, [], vllm=True) == {"seed": 3}


@pytest.mark.parametrize("name", ["gradient_checkpointing", "activation_checkpointing"])
def test_either_name_of_checkpointing_has_the_last_word(
    name: str, scene_folder: Path, tmp_path: Path
) -> None:
    model = SimpleNamespace(device=SimpleNamespace(type="cpu"))
    recipe = tiny_recipe(scene_folder, tmp_path, trl={name: True})
    assert grpo.build_config(recipe, model, []).gradient_checkpointing
    recipe = tiny_recipe(scene_folder, tmp_path)
    assert not grpo.build_config(recipe, model, []).gradient_checkpointing


def test_checkpointing_is_told_under_the_name_that_transformers_has() -> None:
    # With vLLM stands transformers 5.19 at most, which has the old name alone.
    older = lambda **options: SimpleNamespace(n_gpu=1, given=options)  # noqa: E731
    given = {"gradient_checkpointing": False, "activation_checkpointing_kwargs": {"a": 1}}
    assert grpo.checked_config(older, given).given == {
        "gradient_checkpointing": False,
        "gradient_checkpointing_kwargs": {"a": 1},
    }
    assert hasattr(GRPOConfig, "gradient_checkpointing")


def test_a_cpu_is_refused_before_anything_is_loaded(scene_folder: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(scene_folder, tmp_path, trl={"use_vllm": True})
    with pytest.raises(UsageError, match="on a CUDA device only, got a CPU"):
        train(recipe)


def test_a_missing_vllm_is_named_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r'pip install "boxrl\[vllm\]"'):
        require_vllm("auto")
