"""The reward functions that verl calls.

    reward.custom_reward_function.path=pkg://boxrl.rewards.verl
    reward.custom_reward_function.name=compute_score
    +reward.custom_reward_function.reward_kwargs={rewards: "format,f1", model: DIR}

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
    *,
    reward_router_address: Any = None,
    reward_model_tokenizer: Any = None,
    **settings: Any,
) -> dict[str, float]:
    """The rewards of one completion, with the arguments that verl passes.

    Args:
        data_source: verl's name of the data set; not looked at.
        solution_str: the completion.
        ground_truth: a line of a samples file.
        extra_info: verl's; `n_tokens`, the completion's length, is looked at where it is there.
        reward_router_address: verl's, where it runs a reward model; not looked at.
        reward_model_tokenizer: the same.
        settings: `rewards`, `weights`, `model` or `family`, `min_pixels`, `max_pixels`,
            `answer_tag`, `opened`; see `adapters.RewardSum`. The limits are those that stand
            beside the images of the data.

    Returns:
        `score`: the weighted sum, beside one value per reward.

    Raises:
        UsageError: wrong settings, or `cosine` where the length is not known.
    """
    build = reward_sum("verl", settings)
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
        settings: those of `compute_score`, the same for all.

    Raises:
        UsageError: see `compute_score`.
    """
    rows = zip(data_sources, solution_strs, ground_truths, extra_infos, strict=True)
    return [compute_score(*row, **settings) for row in rows]
