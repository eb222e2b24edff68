"""What trainers hand to a reward: a text, and the line of the samples file it answers.

Every adapter takes its targets as a text column that holds `render_sample(sample)`; image size
and task come with it, and nothing has to be said twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from boxrl.data.samples import parse_sample
from boxrl.errors import UsageError
from boxrl.families import Family, build_family
from boxrl.guard.files import parse_json_object
from boxrl.parsing import parse
from boxrl.rewards import Reward, Spec, build_rewards
from boxrl.types import Asked, Completion, Parsed, Target


@lru_cache(maxsize=2048)
def read_target(line: str) -> tuple[Target, Asked, tuple[int, int]]:
    """Target, what was asked, and image size of a line of a samples file.

    Raises:
        DataError: the line is no sample.
    """
    sample = parse_sample(parse_json_object(line, "sample"), "sample")
    return Target.of(sample), Asked.of(sample), sample.size_wh


@lru_cache(maxsize=2048)
def parse_once(text: str, family: Family, size_wh: tuple[int, int], asked: Asked) -> Parsed:
    """`parsing.parse`, remembered for the other rewards of the same batch.

    Args:
        text: the completion.
        family: in whose frame and syntax it answers.
        size_wh: of the original image, in pixels.
        asked: what it was asked.
    """
    return parse(text, family, size_wh, asked=asked)


class RewardSum:
    """Several rewards of one completion as the single number that some trainers want."""

    def __init__(
        self, rewards: Sequence[Spec | Reward] | str, family: str | Family, weights: Sequence[float]
    ) -> None:
        """Build the rewards.

        Args:
            rewards: specs, or names separated by commas.
            family: name of the model's family, or the family itself.
            weights: one per reward; none at all means 1 each.

        Raises:
            UsageError: an unknown reward, setting or family, or not one weight per reward.
        """
        specs = rewards.split(",") if isinstance(rewards, str) else list(rewards)
        self.rewards = build_rewards(specs)
        self.family = build_family(family) if isinstance(family, str) else family
        self.weights = list(weights) or [1.0] * len(self.rewards)
        if len(self.weights) != len(self.rewards):
            raise UsageError(
                f"{len(self.weights)} weights for {len(self.rewards)} rewards; expected one each"
            )

    def __call__(
        self, text: str, line: str, n_tokens: int | None
    ) -> tuple[float, dict[str, float]]:
        """Weighted sum, and every reward by name.

        A reward that does not apply adds nothing and stands as 0: these trainers know no None.
        """
        target, asked, size_wh = read_target(line)
        parsed = partial(parse_once, text, self.family, size_wh, asked)
        completion = Completion(text, parsed, n_tokens)
        values = {reward.name: reward(completion, target) or 0.0 for reward in self.rewards}
        pairs = zip(self.weights, values.values(), strict=True)
        return sum(weight * value for weight, value in pairs), values


def reward_sum(**settings: Any) -> RewardSum:
    """The `RewardSum` of these settings, built at the first call of a trainer that has no other.

    Args:
        settings: arguments of `RewardSum`, in any containers a config library makes.
    """
    return _build_once(json.dumps(settings, default=_plain))


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value)


@lru_cache(maxsize=16)
def _build_once(settings: str) -> RewardSum:
    return RewardSum(**json.loads(settings))
