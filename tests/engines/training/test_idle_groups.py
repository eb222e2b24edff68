"""Groups that earned alike cost no backward pass, and everything stays as TRL has it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from boxrl.engines.prefix.shared_prefix import enable  # noqa: E402
from boxrl.engines.training import grpo, idle_groups  # noqa: E402
from boxrl.engines.training.batches import split_rows  # noqa: E402
from boxrl.engines.training.idle_groups import (  # noqa: E402
    earned_alike,
    log_probs_of_learning,
    rows_at_rest,
)
from tests.engines.training.test_grpo_trainer import (  # noqa: E402
    assert_same_update,
    unshuffled,
    update,
)
from tests.engines.training.test_train import build_trainer  # noqa: E402
from tests.support.quick import quick_among  # noqa: E402
from tests.support.random_models import KINDS, adapt, build_batch, build_model  # noqa: E402
from tests.support.recipes import tiny_recipe  # noqa: E402

__all__ = ["unshuffled"]

NAN = math.nan
UNEVEN = (9, 4, 1, 7, 9, 2)


@pytest.mark.parametrize(
    ("rewards", "alike"),
    [
        ([0.5, 0.5, 0.5, 0.25, 0.5, 0.5], [True, False]),
        ([0.1, 0.1, 0.1, 0.0, 0.0, 0.0], [True, True]),
        ([NAN, 0.2, 0.2, NAN, 0.2, 0.3], [True, False]),  # nothing is said of one
        ([NAN, NAN, NAN, 1.0, NAN, NAN], [True, True]),
        ([0.1, 0.1, 0.1 + 1e-7, 1.0, 1.0, 1.0], [False, True]),
    ],
)
def test_groups_that_earned_alike(rewards: list[float], alike: list[bool]) -> None:
    found = earned_alike(torch.tensor(rewards, dtype=torch.float64), 3)
    assert found.tolist() == [alike[0]] * 3 + [alike[1]] * 3


def test_trl_takes_rounding_for_a_difference() -> None:
    rewards = torch.full((8,), 0.7)
    centred = rewards - rewards.view(-1, 8).mean(1).repeat_interleave(8)
    assert centred.any()  # the reason why rewards are looked at, and not advantages
    assert earned_alike(rewards, 8).all()


def test_rows_at_rest_by_row_and_by_token() -> None:
    assert rows_at_rest(torch.tensor([0.0, 1.0, -0.0])) == {0, 2}
    assert rows_at_rest(torch.tensor([[0.0, 0.0], [0.0, 1e-9]])) == {0}


def score(model: Any, batch: Any, size: int, idle: set[int]) -> tuple[Any, Any]:
    rows = split_rows(batch.inputs, batch.n_completion)
    groups = [list(range(k, k + size)) for k in range(0, len(batch.input_ids), size)]
    logps, entropies = log_probs_of_learning(model, rows, groups, idle, False)
    assert entropies is not None
    return logps, entropies


def slopes(model: Any, logps: Any, rows: list[int]) -> dict[str, Any]:
    """Gradients of what depends on some rows alone, every token weighted differently."""
    model.zero_grad()
    weights = torch.zeros_like(logps)
    weights[rows] = torch.linspace(-1, 1, weights[rows].numel()).view_as(weights[rows])
    (logps * weights).sum().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    assert one.keys() == other.keys()
    error = sum(float((one[n] - other[n]).square().sum()) for n in one)
    return (error / sum(float(x.square().sum()) for x in other.values())) ** 0.5


@pytest.mark.parametrize("kind", [*KINDS, "qwen3.5", "gemma3"])
@pytest.mark.parametrize("idle", [{2, 3}, {0, 1, 4, 5}, {1, 2, 3}])
def test_figures_and_gradients_are_those_of_all_groups(kind: str, idle: set[int]) -> None:
    batch, model = build_batch(kind, 3, 2, UNEVEN), build_model(kind)
    enable(model)
    expected = score(model, batch, 2, set())
    learning = [row for row in range(6) if row not in idle]
    wanted = slopes(model, expected[0], learning)
    found = score(model, batch, 2, idle)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() < 1e-5
    assert difference(slopes(model, found[0], learning), wanted) < 1e-5


@pytest.mark.parametrize("kind", ["qwen2.5-vl", "qwen3.5"])
def test_so_are_they_where_activations_are_computed_again(kind: str) -> None:
    """Backwards, behind the groups at rest."""
    batch, model = build_batch(kind, 3, 2, UNEVEN), adapt(build_model(kind))
    enable(model)
    learning = [0, 1, 4, 5]
    wanted = slopes(model, score(model, batch, 2, set())[0], learning)
    found = slopes(model, score(model, batch, 2, {2, 3})[0], learning)
    assert difference(found, wanted) < 1e-5


def test_a_group_with_something_to_learn_is_missed() -> None:
    # The control of the test above.
    batch, model = build_batch("qwen2.5-vl", 3, 2, UNEVEN), build_model("qwen2.5-vl")
    enable(model)
    wanted = slopes(model, score(model, batch, 2, set())[0], [0, 1, 2])
    found = slopes(model, score(model, batch, 2, {2, 3})[0], [0, 1, 2])
    assert difference(found, wanted) > 0.1


def test_idle_groups_are_run_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    log_probs = idle_groups.log_probs

    def counted(model: Any, rows: Any, groups: Any) -> Any:
        runs.append((len(rows.prompt_ids), torch.is_grad_enabled()))
        return log_probs(model, rows, groups)

    monkeypatch.setattr(idle_groups, "log_probs", counted)
    batch, model = build_batch("qwen2.5-vl", 3, 2, UNEVEN), build_model("qwen2.5-vl")
    enable(model)
    score(model, batch, 2, {2, 3})
    assert runs == [(4, True), (2, False)]


def test_where_nothing_is_learned_every_weight_has_a_gradient_of_0() -> None:
    """So that momentum moves it on, as under TRL."""
    batch, model = build_batch("qwen2.5-vl", 2, 2, UNEVEN), build_model("qwen2.5-vl")
    enable(model)
    found = slopes(model, score(model, batch, 2, {0, 1, 2, 3})[0], [0])
    assert found.keys() == dict(model.named_parameters()).keys()
    assert not any(gradient.any() for gradient in found.values())


def test_processes_that_wait_for_each_other_run_one_group_backwards() -> None:
    batch, model = build_batch("qwen2.5-vl", 2, 2, UNEVEN), build_model("qwen2.5-vl")
    enable(model)
    rows = split_rows(batch.inputs, batch.n_completion)
    for learning, moves in (([0], True), ([2], False)):
        logps, _ = log_probs_of_learning(model, rows, [[0, 1], [2, 3]], {0, 1, 2, 3}, True)
        assert any(x.any() for x in slopes(model, logps, learning).values()) is moves


# --- the whole trainer --------------------------------------------------------------------------


def every_other_group(completions: Any, **_: Any) -> list[float]:
    """Groups of four earn alike, or by their letters, in turn."""
    texts = [completion[0]["content"] for completion in completions]
    return [
        0.7 if row // 4 % 2 else (len(set(text)) + row % 3) / 10 for row, text in enumerate(texts)
    ]


def alike(completions: Any, **_: Any) -> list[float]:
    return [0.7] * len(completions)


def tenths(completions: Any, **_: Any) -> list[float]:
    """Groups of six earn alike, each something else."""
    return [0.1 + 0.2 * (row // 6) for row in range(len(completions))]


SETTINGS: dict[str, dict[str, Any]] = {
    "all in one pass": {},
    "one prompt a pass": {"micro_batch_prompts": 1},
    "two iterations": {"micro_batch_prompts": 2, "trl": {"num_iterations": 2}},
    "LoRA": {"micro_batch_prompts": 1, "lora": {"r": 4, "alpha": 8}},
    "momentum": {"micro_batch_prompts": 1, "trl": {"optim": "adamw_torch", "adam_epsilon": 1e-3}},
    "batch scale": {"trl": {"scale_rewards": "batch"}},
    **{loss: {"trl": {"loss_type": loss}} for loss in ("grpo", "bnpo", "dr_grpo", "cispo", "sapo")},
    "high entropy alone": {"trl": {"top_entropy_quantile": 0.5}},
    "frozen vision": {"freeze_vision": True, "micro_batch_prompts": 2},
}


@pytest.mark.usefixtures("unshuffled")
@pytest.mark.parametrize(
    "setting",
    quick_among(SETTINGS, "two iterations", "LoRA", "dr_grpo"),
)
def test_two_steps_are_those_of_trl(
    setting: str, scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpo, "TRLReward", lambda *_, **__: every_other_group)
    expected = update(scene_folder, tmp_path / "trl", False, **SETTINGS[setting])
    rested = []
    score = idle_groups._score
    monkeypatch.setattr(
        idle_groups, "_score", lambda *args: rested.append(torch.is_grad_enabled()) or score(*args)
    )
    assert_same_update(update(scene_folder, tmp_path / "ours", True, **SETTINGS[setting]), expected)
    assert False in rested


@pytest.mark.parametrize(
    ("train", "why"),
    [({"beta": 0.1}, "train.beta"), ({"trl": {"entropy_coef": 0.01}}, "an entropy bonus")],
)
def test_where_it_is_not_exact_all_groups_are_trained_on(
    train: dict[str, Any], why: str, scene_folder: Path, tmp_path: Path
) -> None:
    trainer = build_trainer(tiny_recipe(scene_folder, tmp_path / "run", **train))
    assert not trainer._rests
    assert why in trainer.notices["idle_groups"]


@pytest.mark.parametrize(
    ("reward", "size", "how"), [(alike, 8, "sum_then_normalize"), (tenths, 6, "normalize_then_sum")]
)
def test_the_logged_share_counts_groups_that_rounding_hides(
    reward: Any, size: int, how: str, scene_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Normalized, what is left by rounding is as large as any advantage."""
    monkeypatch.setattr(grpo, "TRLReward", lambda *_, **__: reward)
    recipe = tiny_recipe(
        scene_folder, tmp_path / "run", num_generations=size, prompts_per_step=2,
        trl={"multi_objective_aggregation": how},
    )  # fmt: skip
    trainer = build_trainer(recipe)
    trainer.train()
    logged = [row for row in trainer.state.log_history if "frac_reward_zero_std" in row]
    assert [row["frac_reward_zero_std"] for row in logged] == [1.0, 1.0]
    assert all(row["grad_norm"] == 0 and row["entropy"] > 0 for row in logged)
