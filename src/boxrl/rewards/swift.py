"""Rewards for ms-swift's GRPO, by a plugin file of two lines.

    from swift.rewards import orms; from boxrl.rewards.swift import build_orms
    orms.update(build_orms("format,f1", family="qwen2.5-vl"))

    swift rlhf --rlhf_type grpo --external_plugins plugin.py --reward_funcs boxrl_format boxrl_f1


The data set needs a column `sample` with lines of a samples file; lengths are ms-swift's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from boxrl.families import Family, build_family
from boxrl.rewards import Reward, Spec, build_rewards
from boxrl.rewards.trl import TRLReward

RewardFunction = Callable[..., list[float | None]]


def build_orms(
    rewards: Sequence[Spec | Reward] | str, family: str | Family
) -> dict[str, Callable[..., RewardFunction]]:
    """Entries for `orms`: `boxrl_NAME` to what ms-swift calls with its arguments to get a reward.

    Args:
        rewards: specs, or names separated by commas.
        family: name of the model's family, or the family itself.

    Raises:
        UsageError: an unknown reward, setting or family.
    """
    built = build_rewards(rewards.split(",") if isinstance(rewards, str) else rewards)
    frame = build_family(family) if isinstance(family, str) else family
    return {f"boxrl_{reward.name}": _factory(TRLReward(reward, frame)) for reward in built}


def _factory(reward: TRLReward) -> Callable[..., RewardFunction]:
    def boxrl_reward(
        completions: Sequence[str],
        sample: Sequence[str],
        response_token_ids: Sequence[Sequence[int]],
        **columns: Any,
    ) -> list[float | None]:
        ids = [flat_ids(row) for row in response_token_ids]
        return reward(completions, sample, ids, **columns)

    # ms-swift names a reward after its function, and anything else after its class.
    boxrl_reward.__name__ = f"boxrl_{reward.__name__}"
    return lambda args=None, **_: boxrl_reward


def flat_ids(ids: Sequence[Any]) -> list[int]:
    """Token ids of one response, which ms-swift nests by turn where there were several."""
    return list(chain.from_iterable(ids)) if ids and isinstance(ids[0], Sequence) else list(ids)
