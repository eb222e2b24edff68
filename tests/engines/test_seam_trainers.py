"""What TRL asks boxrl's trainers, and what they make of it."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from trl import GRPOTrainer  # noqa: E402

from boxrl.engines.seam import GRPO, OVERRIDDEN, SFT, TRAINER, replaced  # noqa: E402
from boxrl.engines.training.grpo_trainer import BoxGRPOTrainer  # noqa: E402
from boxrl.engines.training.train import train_run  # noqa: E402
from tests.support.recipes import tiny_recipe  # noqa: E402
from tests.support.seams import of  # noqa: E402
from tests.support.trl_sft import loss_of_trl  # noqa: E402

STEPS, PROMPTS, GROUP, WIDTH = 2, 2, 4, 16


class Calls(dict[str, list[tuple[dict[str, Any], Any]]]):
    """By name (arguments, result) of each call; `trainer` is the last that was asked."""

    trainer: Any
    recipe: Any


@pytest.fixture(scope="module")
def calls(scene_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Calls:
    """What TRL asks boxrl's trainer in two steps of two micro-batches, and in a resumed third."""
    found = Calls()
    recipe = tiny_recipe(
        scene_folder, tmp_path_factory.mktemp("seam") / "run", max_steps=STEPS, save_steps=1,
        prompts_per_step=PROMPTS, micro_batch_prompts=1, num_generations=GROUP,
        max_completion_length=WIDTH,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name in [*(name.name for name in OVERRIDDEN), "_log_metric", "_shuffle_groups"]:
            patch.setattr(BoxGRPOTrainer, name, recorded(found, name))
        train_run(recipe)
        longer = recipe.train.model_copy(update={"max_steps": STEPS + 1})
        train_run(recipe.model_copy(update={"train": longer}), resume=True)
    found.recipe = recipe
    return found


def recorded(found: Calls, name: str) -> Any:
    """The trainer's method, noting down arguments and results."""
    original = getattr(BoxGRPOTrainer, name)
    signature = inspect.signature(original)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        given = dict(signature.bind(self, *args, **kwargs).arguments)
        found.trainer = given.pop("self")
        found.setdefault(name, []).append((given, result))
        return result

    return method


@of(f"{GRPO}._generate_and_score_completions")
def test_completions_are_asked_for_once_a_step_by_whole_groups(calls: Calls) -> None:
    asked = calls["_generate_and_score_completions"]
    assert len(asked) == STEPS + 1
    for given, batch in asked:
        samples = [row["sample"] for row in given["inputs"]]
        assert len(samples) == PROMPTS * GROUP
        assert all(len(set(samples[k : k + GROUP])) == 1 for k in range(0, len(samples), GROUP))
        for name in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask"):
            assert len(batch[name]) == len(samples)
        assert batch["advantages"].shape == (len(samples),)


@of(f"{GRPO}._prepare_inputs", "trl.trainer.grpo_trainer.shuffle_sequence_dict")
def test_inputs_are_prepared_once_a_micro_batch_and_shuffled_once_a_step(calls: Calls) -> None:
    assert len(calls["_prepare_inputs"]) == PROMPTS * (STEPS + 1)
    assert {len(chunk["prompt_ids"]) for _, chunk in calls["_prepare_inputs"]} == {GROUP}
    assert len(calls["_shuffle_groups"]) == STEPS + 1
    given = calls["_shuffle_groups"][0][0]["batch"]
    assert isinstance(given["pixel_values"], list)  # split by row
    from trl.trainer.grpo_trainer import shuffle_sequence_dict

    rows = {"x": torch.arange(9), "y": list(range(9)), "n": torch.tensor(1), "z": None}
    shuffled = shuffle_sequence_dict(rows)
    assert shuffled["x"].tolist() == shuffled["y"] != rows["y"]
    assert shuffled["n"] == 1 and shuffled["z"] is None


@of(f"{GRPO}._get_per_token_logps_and_entropies")
def test_log_probabilities_are_asked_for_by_micro_batch(calls: Calls) -> None:
    asked = calls["_get_per_token_logps_and_entropies"]
    assert len(asked) >= PROMPTS * (STEPS + 1)
    for given, (logps, entropies, aux) in asked:
        n = given["logits_to_keep"]
        assert given["input_ids"].shape == given["attention_mask"].shape
        assert logps.shape == (len(given["input_ids"]), n) and (logps <= 0).all()
        assert entropies is None or entropies.shape == logps.shape
        assert aux is None
        assert {"pixel_values", "image_grid_thw", "num_images"} <= given["images"].keys()


@of(f"{GRPO}._compute_loss", f"{GRPO}._metrics")
def test_the_loss_is_computed_of_a_micro_batch(calls: Calls) -> None:
    batches = [given["inputs"] for given, _ in calls["_compute_loss"]]
    assert [len(batch["advantages"]) for batch in batches] == [GROUP] * PROMPTS * (STEPS + 1)
    assert set(calls.trainer._metrics) == {"train", "eval"}


@of(f"{GRPO}._tokenize_prompts", f"{GRPO}._generate_single_turn")
def test_one_turn_is_generated_from_token_ids(calls: Calls) -> None:
    (given, (ids, *_)), *_ = calls["_tokenize_prompts"]
    assert given["prompts"][0][0]["role"] in ("system", "user")
    (turn, (completions, logprobs)), *_ = calls["_generate_single_turn"]
    assert turn["prompt_ids"] == ids and len(turn["images"]) == len(ids) == PROMPTS * GROUP
    assert {len(row) for row in turn["images"]} == {1}
    assert len(completions) == len(ids) and max(map(len, completions)) <= WIDTH
    assert logprobs is None


@of(f"{GRPO}._calculate_rewards", f"{GRPO}._log_metric")
def test_rewards_are_computed_of_chats_and_figures_are_logged(calls: Calls) -> None:
    for given, rewards in calls["_calculate_rewards"]:
        assert isinstance(given["completions"][0][0]["content"], str)
        assert "sample" in given["inputs"][0]
        assert rewards.shape == (PROMPTS * GROUP, 2)
    assert "readable" in {given["name"] for given, _ in calls["_log_metric"]}
    row = (calls.recipe.out / "metrics.jsonl").read_text()
    assert '"readable"' in row


@of(f"{GRPO}._get_train_sampler")
def test_the_sampler_repeats_each_prompt(calls: Calls) -> None:
    sampler = calls["_get_train_sampler"][0][1]
    order = list(sampler)
    assert len(set(order[:GROUP])) == 1 and order[0] != order[GROUP]
    sampler.set_epoch(1)
    later = list(sampler)
    sampler.set_epoch(1)
    assert later == list(sampler)


@of(f"{GRPO}._load_optimizer_and_scheduler", f"{TRAINER}._load_from_checkpoint")
def test_a_resumed_run_loads_weights_and_then_the_optimizer(calls: Calls) -> None:
    last = str(calls.recipe.out / "checkpoints" / f"checkpoint-{STEPS}")
    assert [given for given, _ in calls["_load_from_checkpoint"]] == [
        {"resume_from_checkpoint": last}
    ]
    assert [given["checkpoint"] for given, _ in calls["_load_optimizer_and_scheduler"]][-1] == last


@of(f"{TRAINER}._save_checkpoint", f"{TRAINER}._save")
def test_checkpoints_are_written_where_they_are_looked_for(calls: Calls) -> None:
    assert len(calls["_save_checkpoint"]) >= STEPS + 1
    folder = calls.recipe.out / "checkpoints" / f"checkpoint-{STEPS}"
    assert {"optimizer.pt", "trainer_state.json", "model.safetensors"} <= {
        path.name for path in folder.iterdir()
    }
    assert str(folder) in [given["output_dir"] for given, _ in calls["_save"]]


@of(f"{TRAINER}.create_optimizer", f"{TRAINER}.log")
def test_one_optimizer_is_made_and_every_step_logged(calls: Calls) -> None:
    assert all(isinstance(made, torch.optim.Optimizer) for _, made in calls["create_optimizer"])
    losses = [given["logs"] for given, _ in calls["log"] if "loss" in given["logs"]]
    assert len(losses) == STEPS + 1


@of(f"{GRPO}._step", f"{GRPO}._buffered_inputs")
def test_micro_batches_are_counted_and_kept(calls: Calls) -> None:
    trainer = calls.trainer
    assert trainer._step == PROMPTS  # since the resume
    assert len(trainer._buffered_inputs) == trainer.args.steps_per_generation


# --- vLLM -------------------------------------------------------------------------------------


@of(f"{GRPO}.vllm_importance_sampling_correction")
def test_a_ratio_that_comes_with_the_forward_pass_weighs_the_loss(calls: Calls) -> None:
    trainer, score = calls.trainer, calls.trainer._get_per_token_logps_and_entropies
    batch = {**trainer._buffered_inputs[0], "advantages": torch.ones(GROUP)}

    def scored(*args: Any, **options: Any) -> Any:
        batch["importance_sampling_ratio"] = torch.zeros_like(batch["completion_mask"])
        return score(*args, **options)

    with (
        replaced(trainer, "use_vllm", True),
        replaced(trainer, "_get_per_token_logps_and_entropies", scored),
    ):
        assert GRPOTrainer._compute_loss(trainer, trainer.model, batch) == 0
        with replaced(trainer, "vllm_importance_sampling_correction", False):
            assert GRPOTrainer._compute_loss(trainer, trainer.model, batch) != 0


@of(f"{SFT}.compute_loss")
def test_sft_hands_its_batch_to_the_model_and_counts_the_ones_of_its_mask() -> None:
    given: dict[str, Any] = {}
    labels = torch.tensor([[-100, 5, -100, 7]])

    def model(**inputs: Any) -> Any:
        given.update(inputs)
        scores = torch.tensor([[0.0, -1.0, 0.0, -2.0]])
        return SimpleNamespace(
            log_probs=scores, entropy=-scores, is_top1=scores < -1, label_mask=labels != -100
        )

    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool).expand(1, 1, 1, 9)
    batch = {"input_ids": labels, "attention_mask": mask, "shared_prefix": "a layout"}
    loss, figures = loss_of_trl(model, batch, None)
    assert loss.item() == 1.5
    assert figures == {"entropy": 1.5, "mean_token_accuracy": 0.5, "num_tokens": 9}
    assert given == {**batch, "use_cache": False, "fused_lm_head": True}
