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
from boxrl.rewards.rows import reward_sum


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
    """`{"score": weighted sum, NAME: value, ...}` of one completion.

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
    """`compute_score` of every row, for verl's batch reward manager."""
    rows = zip(data_sources, solution_strs, ground_truths, extra_infos, strict=True)
    return [compute_score(*row, **settings) for row in rows]
