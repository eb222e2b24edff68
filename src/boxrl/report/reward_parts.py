"""Every reward of a completion, with the parts that it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from boxrl.config import WeightedReward
from boxrl.report.recipe import recipe_keys
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

    @property
    def meaning(self) -> str:
        """What it pays, in one line; empty for a part."""
        if self.part:
            return ""
        return (REWARDS[self.name].__doc__ or "").partition("\n")[0].replace("`", "")


class Scores(NamedTuple):
    """What a page computes of a recipe's rewards, and what it does not.

    Attributes:
        computed: boxrl's own rewards, those of the recipe first, with its settings.
        left_out: names in the recipe that are none of boxrl's: a page runs no code that a run
            names.
    """

    computed: list[Scored]
    left_out: list[str]


def build_scores(recipe: str) -> Scores:
    """The recipe's rewards with its settings, then the others of boxrl with theirs.

    Args:
        recipe: YAML text of a recipe; empty or unreadable where there is none.
    """
    entries = {_name(entry): entry for entry in _entries(recipe)}
    own = {name: _built(entry) for name, entry in entries.items() if name in REWARDS}
    trained = {name: reward for name, reward in own.items() if reward}
    others = [build_reward(name) for name in REWARDS if name not in trained]
    scores = []
    for reward in [*trained.values(), *others]:
        scores.append(Scored(reward.name, False, reward.name in trained, reward))
        if not reward.settings:
            parts = PARTS.get(reward.name, {})
            scores += [Scored(name, True, False, score) for name, score in parts.items()]
    return Scores(scores, [name for name in entries if name not in REWARDS])


def score_all(
    scores: Sequence[Scored], completion: Completion, target: Target
) -> list[float | None]:
    """One value per score, rounded to 3 decimals."""
    values = [scored.score(completion, target) for scored in scores]
    return [None if value is None else round(float(value), 3) for value in values]


def _entries(recipe: str) -> list[Any]:
    """The entries of a recipe's `rewards`, unchecked."""
    entries = recipe_keys(recipe).get("rewards")
    return entries if isinstance(entries, list) else []


def _name(entry: Any) -> str:
    return str(entry.get("name") if isinstance(entry, Mapping) else entry)


def _built(entry: Any) -> Reward | None:
    try:
        return WeightedReward.parse(entry).reward
    except ValueError:
        return None
