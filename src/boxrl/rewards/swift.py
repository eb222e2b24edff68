"""Rewards for ms-swift's GRPO, by a plugin file of two lines.

    from swift.rewards import orms; from boxrl.rewards.swift import build_orms
    orms.update(build_orms("format,f1", model="DIR"))

    swift rlhf --rlhf_type grpo --external_plugins plugin.py --reward_funcs boxrl_format boxrl_f1

Pixel limits are those of the environment variables MIN_PIXELS and MAX_PIXELS. The data set needs
a column `sample` with lines of a samples file; lengths are ms-swift's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from boxrl.errors import UsageError
from boxrl.families import Family
from boxrl.parsing import AnswerTag
from boxrl.rewards import Reward, Spec, build_rewards
from boxrl.rewards.adapters import find_image_path, resolve_family
from boxrl.rewards.trl import TRLReward

RewardFunction = Callable[..., list[float | None]]


def build_orms(
    rewards: Sequence[Spec | Reward] | str,
    family: str | Family | None = None,
    *,
    model: str | Path | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    answer_tag: AnswerTag = "required",
) -> dict[str, Callable[..., RewardFunction]]:
    """Entries for `orms`: `boxrl_NAME` to what ms-swift calls with its arguments to get a reward.

    Args:
        rewards: specs, or names separated by commas.
        family: name of the model's family, or the family itself, where `model` is not named.
        model: the model's folder.
        min_pixels: least area of an image; MIN_PIXELS where None.
        max_pixels: largest area; MAX_PIXELS where None.
        answer_tag: `optional` where the prompt asks for no tags, as makers' own prompts do.

    Raises:
        UsageError: an unknown reward, setting or family, or no model.
    """
    built = build_rewards(rewards.split(",") if isinstance(rewards, str) else rewards)
    if not isinstance(family, Family) and resolve_family("swift", model, family).has_limits:
        min_pixels = _limit("MIN_PIXELS") if min_pixels is None else min_pixels
        max_pixels = _limit("MAX_PIXELS") if max_pixels is None else max_pixels
    path = find_image_path("swift", model, family, min_pixels, max_pixels)
    # ms-swift puts what its template opens an answer with, `<think>` too, in front by itself.
    wrapped = [TRLReward(r, path, opened=False, answer_tag=answer_tag) for r in built]
    return {f"boxrl_{each.reward.name}": _factory(each) for each in wrapped}


def _limit(variable: str) -> int | None:
    """A pixel limit of the environment, as ms-swift reads it; None where there is none."""
    value = os.environ.get(variable)
    if not value:
        return None
    if not value.isdecimal():
        raise UsageError(f"{variable}: expected an integer, got {value!r:.40}")
    return int(value)


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
