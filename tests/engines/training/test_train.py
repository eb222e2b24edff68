"""What a recipe's options do to a training run, and what comes out of it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402
from trl.trainer import grpo_trainer as of_trl  # noqa: E402

from boxrl.config import Recipe, dump_recipe  # noqa: E402
from boxrl.engines.answers import score_answers  # noqa: E402
from boxrl.engines.loading import load, quiet  # noqa: E402
from boxrl.engines.training import export as export_module  # noqa: E402
from boxrl.engines.training import grpo  # noqa: E402
from boxrl.engines.training.export import export, merge  # noqa: E402
from boxrl.engines.training.train import train, training_samples  # noqa: E402
from boxrl.errors import DataError, UsageError  # noqa: E402
from boxrl.families import read_family  # noqa: E402
from boxrl.generation.model_folders import model_folder  # noqa: E402
from boxrl.runs import Run  # noqa: E402
from tests.support.recipes import tiny_recipe  # noqa: E402


def build_trainer(recipe: Any) -> Any:
    quiet()
    model, processor = load("tiny", "float32", "cpu", 1)
    family = read_family(model_folder("tiny"))
    return grpo.build_trainer(recipe, model, processor, family, *training_samples(recipe))


def test_the_vision_tower_has_its_own_learning_rate(scene_folder: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(
        scene_folder, tmp_path / "run", max_steps=1, vision_learning_rate=1e-5, learning_rate=1e-3
    )
    trainer = build_trainer(recipe)
    trainer.train()
    rates = {
        id(p): group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]
    }
    named = dict(trainer.model.named_parameters())
    assert len(rates) == len(named)
    for name, parameter in named.items():
        assert rates[id(parameter)] == (1e-5 if name.startswith("model.visual.") else 1e-3), name


def test_a_pace_for_a_vision_tower_that_is_not_trained_is_refused(
    scene_folder: Path, tmp_path: Path
) -> None:
    """It was passed over, as where a family names another module than the model has."""
    recipe = tiny_recipe(
        scene_folder, tmp_path / "run", vision_learning_rate=1e-5,
        lora={"r": 2, "target_modules": ["q_proj"]},
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"no weight of a module 'model\.visual', .* is trained"):
        build_trainer(recipe).create_optimizer()


def test_a_frozen_vision_tower_gets_no_adapters(scene_folder: Path, tmp_path: Path) -> None:
    lora = {"r": 2, "alpha": 4}
    for freeze in (True, False):
        recipe = tiny_recipe(
            scene_folder, tmp_path / f"run{freeze}", lora=lora, freeze_vision=freeze
        )
        names = [n for n, p in build_trainer(recipe).model.named_parameters() if p.requires_grad]
        assert names
        assert any(".visual." in name for name in names) is not freeze


def test_options_that_trl_refuses_are_mistakes_of_the_recipe(
    scene_folder: Path, tmp_path: Path
) -> None:
    for trl, words in (
        ({"epsilon_hihg": 0.28}, "unexpected keyword argument 'epsilon_hihg'"),
        ({"generation_batch_size": 6}, "must be divisible by"),
    ):
        recipe = tiny_recipe(scene_folder, tmp_path / "run", trl=trl)
        with pytest.raises(UsageError, match=words):
            build_trainer(recipe)


def test_a_strategy_may_be_no_which_yaml_reads_as_false(scene_folder: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(scene_folder, tmp_path / "run", trl={"save_strategy": False})
    assert build_trainer(recipe).args.save_strategy == "no"


def test_samples_may_come_in_the_order_of_their_file(scene_folder: Path, tmp_path: Path) -> None:
    trl = {"shuffle_dataset": False}
    trainer = build_trainer(tiny_recipe(scene_folder, tmp_path / "run", max_steps=1, trl=trl))
    assert list(dict.fromkeys(trainer._get_train_sampler())) == list(range(12))
    trainer.train()
    assert trainer.state.global_step == 1


def test_a_generation_larger_than_the_data_is_refused(scene_folder: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(scene_folder, tmp_path / "run", trl={"steps_per_generation": 4})
    with pytest.raises(UsageError, match="of 16 prompts and there are 12 samples"):
        build_trainer(recipe)


def test_a_run_without_a_step_is_not_done(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpo, "check_generation", lambda *_: None)
    monkeypatch.setattr("boxrl.engines.training.train.check_steps", lambda *_: None)
    recipe = tiny_recipe(scene_folder, tmp_path / "run", trl={"steps_per_generation": 4})
    with pytest.raises(UsageError, match="no step was made, so nothing was trained"):
        train(recipe)
    assert not (recipe.out / "model").exists()


def test_rewards_read_a_completion_whole_whatever_the_tokenizer_knows_of_its_parts(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL has a response template take thoughts out of it, and with them what `format` pays for."""
    parsed: list[Any] = []
    monkeypatch.setattr(of_trl, "parse_response", lambda *_, **__: parsed.append(1) or {})
    recipe = tiny_recipe(scene_folder, tmp_path / "run", max_steps=1, max_completion_length=4)
    trainer = build_trainer(recipe)
    template = {"defaults": {"role": "assistant"}, "fields": {}}
    trainer.processing_class.tokenizer.response_template = template
    trainer.train()
    assert trainer.state.global_step == 1 and not parsed
    assert trainer.processing_class.tokenizer.response_template is template


def test_a_process_that_would_hold_a_part_of_a_group_is_refused(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trl = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1}
    build = grpo.build_config

    def of_two_processes(*args: Any) -> Any:
        config = build(*args)
        config.steps_per_generation = 1  # as TRL has it where another process holds the rest
        return config

    monkeypatch.setattr(grpo, "build_config", of_two_processes)
    told = "a process holds 2 completions, no whole groups of 4; make per_device"
    options = {"prompts_per_step": 2, "num_generations": 4}
    trl["generation_batch_size"] = 4
    with pytest.raises(UsageError, match=told):
        build_trainer(tiny_recipe(scene_folder, tmp_path / "run", trl=trl, **options))
    build_trainer(
        tiny_recipe(
            scene_folder, tmp_path / "trl", engine={"shared_prefix": False}, trl=trl, **options
        )
    )


def test_flex_attention_is_refused_where_it_cannot_train(
    scene_folder: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(scene_folder, tmp_path / "run", engine={"attention": "flex"})
    with pytest.raises(UsageError, match=r"engine\.attention: flex trains on a GPU only"):
        build_trainer(recipe)


def test_image_tokens_stay_banned_whatever_generation_is_told(
    scene_folder: Path, tmp_path: Path
) -> None:
    trl = {"generation_kwargs": {"min_new_tokens": 3, "suppress_tokens": [0]}}
    told = build_trainer(tiny_recipe(scene_folder, tmp_path / "run", trl=trl)).args
    _, processor = load("tiny", "float32", "cpu", 1)
    image = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert told.generation_kwargs["min_new_tokens"] == 3
    assert image in told.generation_kwargs["suppress_tokens"]


def test_prompts_that_cannot_be_dealt_to_the_processes_are_refused(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(scene_folder, tmp_path / "run", prompts_per_step=4)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert grpo.split_step(recipe) == (2, 1)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UsageError, match="multiple of micro_batch_prompts x processes = 1 x 3"):
        grpo.split_step(recipe)


def test_lora_ends_as_a_whole_model_and_checkpoints_can_be_exported(
    scene_folder: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(
        scene_folder, tmp_path / "run", max_steps=2, save_steps=1, lora={"r": 2, "alpha": 4}
    )
    with Run(recipe.out, dump_recipe(recipe), {"name": "tiny"}, False):
        folder = train(recipe)
    base = load_file(model_folder("tiny") / "model.safetensors")
    final = load_file(folder / "model.safetensors")
    assert final.keys() == base.keys()
    assert any(not torch.equal(final[name], base[name]) for name in base)

    export(recipe.out, tmp_path / "final")
    exported = load_file(tmp_path / "final" / "model.safetensors")
    assert all(torch.equal(exported[name], final[name]) for name in final)
    export(recipe.out, tmp_path / "last", "last")
    last = load_file(tmp_path / "last" / "model.safetensors")
    assert all(torch.equal(last[name], final[name]) for name in final)
    merge(model_folder("tiny"), recipe.out / "checkpoints" / "checkpoint-1", tmp_path / "first")
    first = load_file(tmp_path / "first" / "model.safetensors")
    assert any(not torch.equal(first[name], final[name]) for name in final)

    with pytest.raises(UsageError, match="is not empty"):
        export(recipe.out, tmp_path / "final")
    with pytest.raises(UsageError, match="has no best checkpoint"):
        export(recipe.out, tmp_path / "best", "best")
    with pytest.raises(UsageError, match="neither a run folder nor a checkpoint"):
        export(tmp_path, tmp_path / "other")


def test_adapters_of_tied_embeddings_are_refused_before_the_first_step(
    scene_folder: Path, tmp_path: Path
) -> None:
    targets = ["q_proj", "embed_tokens"]
    lora = {"r": 2, "alpha": 4, "target_modules": targets}
    for method in ("grpo", "sft"):
        recipe = tiny_recipe(scene_folder, tmp_path / method, method=method, lora=lora)
        with pytest.raises(UsageError, match=r"target_modules: .*embed_tokens is input.*\(tied\)"):
            train(recipe)


@pytest.mark.filterwarnings("ignore::UserWarning")  # peft warns of it, and goes on
def test_what_a_merged_adapter_answers_is_what_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As peft itself writes an adapter of tied embeddings, and where another model is written."""
    from peft import LoraConfig, get_peft_model

    def adapter(name: str, *targets: str) -> Path:
        model, _ = load("tiny", "float32", "cpu", 1)
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules=list(targets)))
        torch.manual_seed(0)
        for key, parameter in adapted.named_parameters():
            if "lora_" in key:
                torch.nn.init.normal_(parameter, std=0.1)
        adapted.save_pretrained(tmp_path / name)
        return tmp_path / name

    base = model_folder("tiny")
    tied = adapter("tied", "q_proj", "embed_tokens")
    with pytest.raises(UsageError, match="merged into its base model it is another model"):
        merge(base, tied, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    plain = adapter("plain", "q_proj", "v_proj")
    merge(base, plain, tmp_path / "good")
    monkeypatch.setattr(export_module, "save", lambda *_: shutil.copytree(base, tmp_path / "bad"))
    with pytest.raises(UsageError, match="another model than was trained"):
        merge(base, plain, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_weights_can_be_read_by_whom_the_umask_lets(scene_folder: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        for lora in (None, {"r": 2, "alpha": 4}):
            out = tmp_path / f"run{lora is None}"
            recipe = tiny_recipe(scene_folder, out, lora=lora, save_steps=1)
            with Run(recipe.out, dump_recipe(recipe), {"name": "tiny"}, False):
                train(recipe)
            written = [path for path in recipe.out.rglob("*") if path.is_file()]
            assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o640}
    finally:
        os.umask(before)


def test_the_best_checkpoint_on_held_out_samples_is_kept(
    scene_folder: Path, tmp_path: Path
) -> None:
    scores = iter([0.1, 0.7, 0.3, 0.2])
    asked = []

    def score(samples: Any, answers: Any, questions: Any) -> dict[str, Any]:
        asked.append((len(samples), set(answers)))
        metrics = score_answers(samples, answers, questions)
        assert 0 <= metrics["mAP"] <= 1
        return metrics | {"mAP": next(scores)}

    recipe = tiny_recipe(
        scene_folder, tmp_path / "run", max_steps=4, save_steps=1, keep_checkpoints=1,
        prompts_per_step=2, learning_rate=1e-4,
    )  # fmt: skip
    content = recipe.model_dump(exclude_none=True)
    content["data"]["test"] = recipe.data.train
    content["train"]["validate_samples"] = 3
    recipe = Recipe.model_validate(content)
    with Run(recipe.out, dump_recipe(recipe), {"name": "tiny"}, False):
        train(recipe, score=score)
    rows = [json.loads(x) for x in (recipe.out / "validation.jsonl").read_text().splitlines()]
    assert [(row["step"], row["mAP"]) for row in rows] == [(1, 0.1), (2, 0.7), (3, 0.3), (4, 0.2)]
    assert [n for n, _ in asked] == [3] * 4 and len(asked[0][1]) == 3
    kept = {path.name for path in (recipe.out / "checkpoints").glob("checkpoint-*")}
    assert kept == {"checkpoint-2", "checkpoint-4"}
    assert export(recipe.out, tmp_path / "best", "best").weights.name == "checkpoint-2"


def synthetic_recipe(out: Path) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "drawn",
            "method": "grpo",
            "out": out,
            "rewards": ["f1"],
            "data": {"synthetic": {"train": 3, "test": 2}},
        }
    )


def test_further_processes_wait_for_the_scenes_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, others = synthetic_recipe(tmp_path / "run"), []
    with monkeypatch.context() as patch:
        patch.setenv("RANK", "1")
        waiting = threading.Thread(target=lambda: others.append(training_samples(recipe)))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert not recipe.out.exists()
    drawn = training_samples(recipe)
    waiting.join(30)
    assert others == [drawn]


def test_a_run_folder_that_machines_do_not_share_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("boxrl.engines.training.train.PATIENCE_S", 0)
    with pytest.raises(DataError, match="put the run folder on a disk that all machines share"):
        training_samples(synthetic_recipe(tmp_path / "run"))
