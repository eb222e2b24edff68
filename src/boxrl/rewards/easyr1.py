"""The reward function that EasyR1 calls, one completion or a batch at a time.

    worker.reward.reward_function=FILE_OF_THIS_MODULE:compute_score
    worker.reward.reward_function_kwargs={"rewards": "format,f1", "model": "DIR",
        "min_pixels": 262144, "max_pixels": 4194304}

The limits are those of `data.min_pixels` and `data.max_pixels`. The data set's answer column
holds lines of a samples file. EasyR1 tells the length of a response, so rewards of length work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

from boxrl.rewards.adapters import reward_sum

REWARD_NAME = "boxrl"
REWARD_TYPE = "batch"
"""What EasyR1 looks for in the file of a reward function."""

Row = Mapping[str, Any]
"""`response`, `response_length` and `ground_truth`, a line of a samples file."""


@overload
def compute_score(reward_input: Row, **settings: Any) -> dict[str, float]: ...


@overload
def compute_score(reward_input: Sequence[Row], **settings: Any) -> list[dict[str, float]]: ...


def compute_score(
    reward_input: Row | Sequence[Row], **settings: Any
) -> dict[str, float] | list[dict[str, float]]:
    """The rewards of a batch or of one completion, with the arguments that EasyR1 passes.

    Args:
        reward_input: `response`, `response_length` in tokens and `ground_truth` of each.
        settings: `rewards`, `weights`, `model` or `family`, `min_pixels`, `max_pixels`,
            `answer_tag`, `opened`; see `adapters.RewardSum`.

    Returns:
        `overall`: the weighted sum, beside one value per reward; a list where a list came in.

    Raises:
        UsageError: wrong settings.
    """
    if not isinstance(reward_input, Mapping):
        return [compute_score(row, **settings) for row in reward_input]
    total, values = reward_sum("easyr1", settings)(
        reward_input["response"], reward_input["ground_truth"], reward_input["response_length"]
    )
    return {"overall": total, **values}
