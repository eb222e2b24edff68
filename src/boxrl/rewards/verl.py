"""The reward functions that verl calls.

    reward.custom_reward_function.path=pkg://boxrl.rewards.verl
    reward.custom_reward_function.name=compute_score
    +reward.custom_reward_function.reward_kwargs={rewards: "format,f1", family: qwen2.5-vl}

`reward_model.ground_truth` of the data set holds lines of a samples file. verl tells a reward
function no lengths: `cosine` needs `n_tokens` in `extra_info`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from boxrl.errors import UsageError
from boxrl.rewards.adapters import reward_sum


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    rewards: Any = "format,f1",
    family: str = "qwen2.5-vl",
    weights: Sequence[float] = (),
    **_: Any,
) -> dict[str, float]:
    """The rewards of one completion, with the arguments that verl passes.

    Args:
        data_source: verl's name of the data set; not looked at.
        solution_str: the completion.
        ground_truth: a line of a samples file.
        extra_info: verl's; `n_tokens`, the completion's length, is looked at where it is there.
        rewards: names separated by commas, or specs as in a recipe.
        family: whose frame and syntax the completion is in.
        weights: one per reward; none at all means 1 each.

    Returns:
        `score`: the weighted sum, beside one value per reward.

    Raises:
        UsageError: wrong settings, or `cosine` where the length is not known.
    """
    build = reward_sum(rewards=rewards, family=family, weights=weights)
    n_tokens = (extra_info or {}).get("n_tokens")
    if n_tokens is None and any(reward.name == "cosine" for reward in build.rewards):
        raise UsageError(
            "reward 'cosine' needs the completion's length, which verl does not tell; leave it "
            "out, or put n_tokens into extra_info"
        )
    total, values = build(solution_str, ground_truth, n_tokens)
    return {"score": total, **values}


def compute_score_batch(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[str],
    extra_infos: Sequence[Mapping[str, Any] | None],
    **settings: Any,
) -> list[dict[str, float]]:
    """`compute_score` of every row, for verl's batch reward manager.

    Args:
        data_sources: one per row, as all that follow.
        solution_strs: see `compute_score`.
        ground_truths: see `compute_score`.
        extra_infos: see `compute_score`.
        settings: `rewards`, `family` and `weights`, the same for all.

    Raises:
        UsageError: see `compute_score`.
    """
    rows = zip(data_sources, solution_strs, ground_truths, extra_infos, strict=True)
    return [compute_score(*row, **settings) for row in rows]
