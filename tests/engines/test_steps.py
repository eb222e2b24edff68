"""Steps that fit the data, and recipes by which nothing would be trained."""

from __future__ import annotations

from typing import Any

import pytest

from boxrl.config import Recipe
from boxrl.engines.steps import check_generation, check_steps, plan_steps
from boxrl.errors import UsageError


def recipe(method: str = "grpo", **train: Any) -> Recipe:
    data = {"synthetic": {"train": 9}}
    return Recipe.model_validate({"name": "a", "method": method, "data": data, "train": train})


def test_a_step_that_no_samples_fill_is_refused() -> None:
    with pytest.raises(UsageError, match="8 and there are 5 samples, so no step could be filled"):
        check_steps(recipe(), 5)
    check_steps(recipe(), 8)
    check_steps(recipe("sft"), 5)  # a short step is trained


def test_a_generation_that_no_samples_fill_is_refused() -> None:
    with pytest.raises(UsageError, match="of 16 prompts and there are 12 samples, so none could"):
        check_generation(16, 12)
    check_generation(12, 12)
    for said in ({"steps_per_generation": 2}, {"generation_batch_size": 128}):
        with pytest.raises(UsageError, match="of 16 prompts and there are 12 samples"):
            check_steps(recipe(trl=said), 12)
        check_steps(recipe(trl=said), 16)


def test_prompts_must_be_dealt_to_the_processes() -> None:
    check_steps(recipe(), 99, 4)
    with pytest.raises(UsageError, match="micro_batch_prompts x processes = 2 x 3"):
        check_steps(recipe(), 99, 3)


@pytest.mark.parametrize(
    ("epochs", "samples", "gpus", "micro", "expected"),
    [
        (10, 5, 1, 1, (10, 5, 3)),
        (10, 45, 1, 4, (57, 8, 15)),
        (10, 9000, 1, 4, (1000, 8, 50)),
        (10, 45, 8, 4, (15, 32, 4)),
        (3, 45, 1, 4, (17, 8, 5)),
    ],
)
def test_steps_go_several_times_through_few_samples_and_once_through_many(
    epochs: int, samples: int, gpus: int, micro: int, expected: tuple[int, ...]
) -> None:
    plan = plan_steps(epochs, samples, gpus, micro)
    assert plan[:3] == expected
    assert plan.prompts_per_step % (micro * gpus) == 0
    assert plan.prompts_per_step <= samples


def test_fewer_samples_than_gpus_are_told() -> None:
    with pytest.raises(UsageError, match="3 samples cannot be dealt to 8"):
        plan_steps(10, 3, 8, 1)
