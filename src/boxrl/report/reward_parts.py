"""Every reward of a completion, with the parts that it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import yaml

from boxrl.config import WeightedReward
from boxrl.rewards import REWARDS, Reward, build_reward
from boxrl.rewards.localization import ap, f1, weighted_sum
from boxrl.types import Completion, Target

Scorer = Callable[[Completion, Target], float | None]

PARTS: dict[str, dict[str, Scorer]] = {
    "ap": {"IoU .75": partial(ap, thresholds=(0.75,))},
    "weighted_sum": {
        "position": partial(weighted_sum, alpha=1.0, beta=0.0, gamma=0.0),
        "label": partial(weighted_sum, alpha=0.0, beta=1.0, gamma=0.0),
        "completeness": partial(weighted_sum, alpha=0.0, beta=0.0, gamma=1.0),
    },
    "f1": {
        "IoU .50": partial(f1, thresholds=(0.5,)),
        "IoU .75": partial(f1, thresholds=(0.75,)),
    },
}
"""What the rewards with an inside are made of; each part is the reward with other settings."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One reward, or one part of the reward before it.

    Attributes:
        name: of the reward or the part.
        part: whether it is a part.
        trained: whether the run's recipe trains on it.
        score: its value for a completion and a target; None where it does not apply.
    """

    name: str
    part: bool
    trained: bool
    score: Scorer


def build_scores(recipe: str) -> list[Scored]:
    """The recipe's rewards with its settings, then the others of boxrl with theirs.

    Args:
        recipe: YAML text of a recipe; empty or unreadable where there is none. Rewards that are
            not installed here are left out.
    """
    trained = _recipe_rewards(recipe)
    others = [build_reward(name) for name in REWARDS if name not in trained]
    scores = []
    for reward in [*trained.values(), *others]:
        scores.append(Scored(reward.name, False, reward.name in trained, reward))
        if not reward.settings:
            parts = PARTS.get(reward.name, {})
            scores += [Scored(name, True, False, score) for name, score in parts.items()]
    return scores


def score_all(
    scores: Sequence[Scored], completion: Completion, target: Target
) -> list[float | None]:
    """One value per score, rounded to 3 decimals."""
    values = [scored.score(completion, target) for scored in scores]
    return [None if value is None else round(float(value), 3) for value in values]


def _recipe_rewards(recipe: str) -> dict[str, Reward]:
    try:
        content = yaml.safe_load(recipe)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    specs = content.get("rewards") if isinstance(content, Mapping) else None
    found: dict[str, Reward] = {}
    for spec in specs if isinstance(specs, list) else []:
        reward = _built(spec)
        if reward is not None:
            found[reward.name] = reward
    return found


def _built(spec: Any) -> Reward | None:
    try:
        return WeightedReward.parse(spec).reward
    except ValueError:
        return None
