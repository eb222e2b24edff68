"""Qwen3.5, whose layers mostly look back at a state, through every verb that runs a model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
trl = pytest.importorskip("trl")

from safetensors.torch import load_file  # noqa: E402

from boxrl.cli import main  # noqa: E402
from boxrl.config import dump_recipe, load_recipe  # noqa: E402
from boxrl.data.predictions import read_predictions  # noqa: E402
from boxrl.engines.loading import load  # noqa: E402
from boxrl.engines.training import grpo  # noqa: E402
from boxrl.engines.training.export import export  # noqa: E402
from boxrl.engines.training.train import train, training_samples  # noqa: E402
from boxrl.families import read_family  # noqa: E402
from boxrl.runs import Run  # noqa: E402
from tests.engines.training.test_vllm_sync import PlayedVllm  # noqa: E402
from tests.support.random_models import save_folder  # noqa: E402
from tests.support.recipes import tiny_recipe  # noqa: E402


@pytest.fixture(scope="module", params=["qwen3.5", "qwen3.5-moe"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder("qwen3.5", tmp_path_factory.mktemp("dense"))


def predict(folder: Path, scenes: Path, out: Path, *options: str) -> list[str]:
    call = ["predict", "--model", str(folder), "--samples", str(scenes / "samples.jsonl")]
    call += ["--images", str(scenes / "images"), "--device", "cpu", "--max-new-tokens", "12"]
    assert main([*call, "--out", str(out), "--limit", "3", *options]) == 0
    return [row.completion for row in read_predictions(out).values()]


def test_prompts_are_answered_several_times(
    folder: Path, scene_folder: Path, tmp_path: Path
) -> None:
    sampled = predict(
        folder, scene_folder, tmp_path / "s.jsonl", "--n", "3", "--temperature", "1.0"
    )
    assert len(set(sampled)) == 9


@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_it_trains_and_what_was_trained_is_exported(
    method: str, folder: Path, scene_folder: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(
        scene_folder, tmp_path / "run", method=method, model=str(folder), save_steps=1,
        rewards=["repetition"],  # what a random model can earn
    )  # fmt: skip
    with Run(recipe.out, dump_recipe(recipe), {"name": "tiny"}, False):
        model = train(recipe)
    assert (model / "model.safetensors").stat().st_mode & 0o777 == 0o644 & ~mask()
    base, final = (load_file(x / "model.safetensors") for x in (folder, model))
    assert final.keys() == base.keys()
    linear = [name for name in base if "linear_attn" in name]
    assert linear and any(not torch.equal(final[name], base[name]) for name in linear)
    export(recipe.out, tmp_path / "out", "last")
    last = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(last[name], final[name]) for name in final)
    assert predict(tmp_path / "out", scene_folder, tmp_path / "p.jsonl")


def mask() -> int:
    """What new files of this process are kept from."""
    now = os.umask(0o022)
    os.umask(now)
    return now


def test_vllm_answers_the_very_prompts_that_are_learned_from(
    dense: Path, scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trl.trainer.grpo_trainer, "VLLMGeneration", PlayedVllm)
    recipe = tiny_recipe(
        scene_folder, tmp_path / "run", model=str(dense), max_steps=1, trl={"use_vllm": True}
    )
    family = read_family(dense)
    model, processor = load(str(dense), "float32", "cpu", 1, family=family)
    trainer = grpo.build_trainer(recipe, model, processor, family, *training_samples(recipe))
    trainer.train()
    assert trainer.vllm_generation.events == ["weights", "forget images", "generate"]
    assert trainer.shared_prefix


def test_a_dry_run_counts_its_memory(
    folder: Path, scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(scene_folder, tmp_path / "run", model=str(folder))
    file = tmp_path / "recipe.yaml"
    file.write_text(dump_recipe(recipe))
    load_recipe(file)
    assert main(["train", str(file), "--dry-run"]) == 0
    assert "KV cache" in capsys.readouterr().out


def test_experts_that_are_balanced_over_rows_take_the_path_of_trl(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moe = save_folder("qwen3.5-moe", tmp_path / "moe")

    def said(name: str, **trl: Any) -> list[dict[str, str]]:
        recipe = tiny_recipe(scene_folder, tmp_path / name, model=str(moe), trl=trl)
        with Run(recipe.out, dump_recipe(recipe), {"name": "tiny"}, False):
            train(recipe)
        lines = (recipe.out / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line).get("warnings", {}) for line in lines]

    first, second = said("balanced")
    assert "TRL's path" in first["trl_path"] and not second
    assert "TRL's path" in " ".join(capsys.readouterr().err.split())
    assert said("shared", router_aux_loss_coef=0.0) == [{}, {}]
