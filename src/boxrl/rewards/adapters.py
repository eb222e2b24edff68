"""What trainers hand to a reward: a text, and the line of the samples file it answers.

Every adapter takes its targets as a text column that holds `render_sample(sample)`; image size
and task come with it, and nothing has to be said twice.
"""

from __future__ import annotations

import difflib
import inspect
import json
import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast, get_args

from boxrl.data.files import is_number
from boxrl.data.samples import parse_line
from boxrl.errors import DataError, UsageError
from boxrl.families import FAMILIES, Family, build_family, read_family
from boxrl.families.image_paths import TRAINERS, ImagePath, build_image_path
from boxrl.parsing import AnswerTag, parse
from boxrl.parsing.answers import as_read, begun_elsewhere
from boxrl.rewards import Reward, Spec, build_rewards
from boxrl.rewards.localization import progressive_f1
from boxrl.types import Asked, Completion, Parsed, Target

LOG = logging.getLogger(__name__)


def read_target(line: str) -> tuple[Target, Asked, tuple[int, int]]:
    """Target, what was asked, and image size of a line of a samples file.

    Raises:
        DataError: the line is no sample.
    """
    if not isinstance(line, str):
        raise DataError(
            f"a row's target is {line!r:.60}; expected a line of a samples file, as text: "
            "boxrl.data.samples.render_sample(sample) writes one"
        )
    return _read_line(line)


@lru_cache(maxsize=2048)
def _read_line(line: str) -> tuple[Target, Asked, tuple[int, int]]:
    sample = parse_line(line)
    return Target.from_sample(sample), Asked.from_sample(sample), sample.size_wh


@lru_cache(maxsize=2048)
def parse_once(
    text: str,
    path: ImagePath,
    size_wh: tuple[int, int],
    asked: Asked,
    answer_tag: AnswerTag = "required",
) -> Parsed:
    """`parsing.parse`, remembered for the other rewards of the same batch.

    Args:
        text: the completion.
        path: the image's way to the model, in whose frame and syntax it answers.
        size_wh: of the original image, in pixels.
        asked: what it was asked.
        answer_tag: as of `parse`.
    """
    return parse(text, path.family, size_wh, path.input_size_wh(size_wh), answer_tag, asked)


def find_image_path(
    trainer: str,
    model: str | Path | None = None,
    family: str | Family | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
) -> ImagePath:
    """The way of an image to the model, as a trainer's settings describe it.

    Args:
        trainer: key of TRAINERS.
        model: the model's folder, from which its family and its processor's limits are read.
        family: of the model instead, by name with its released limits, or as it is.
        min_pixels: least area of an image in the trainer's settings; its default where None.
        max_pixels: largest area.

    Raises:
        UsageError: neither or both are named, or a wrong one.
    """
    given = resolve_family(trainer, model, family)
    if isinstance(family, Family) and family.has_limits:
        min_pixels = family.min_pixels if min_pixels is None else min_pixels
        max_pixels = family.max_pixels if max_pixels is None else max_pixels
    path = build_image_path(trainer, given, min_pixels, max_pixels)
    facts = TRAINERS[trainer]
    of_the_folder = model is not None and facts.limits is None
    if given.frame == "resized" and None in (min_pixels, max_pixels) and not of_the_folder:
        LOG.warning(
            "%s: boxes of family %s are read as of images of %s to %s pixels, the defaults; if %s "
            "of the training differ, repeat them as min_pixels and max_pixels",
            facts.name, given.name, f"{path.min_pixels:,}", f"{path.max_pixels:,}", facts.where,
        )  # fmt: skip
    return path


def resolve_family(trainer: str, model: str | Path | None, family: str | Family | None) -> Family:
    """The family of the model that is trained.

    Args:
        trainer: key of TRAINERS.
        model: the model's folder.
        family: by name, or as it is.

    Raises:
        UsageError: neither or both are named, or a wrong one.
    """
    if (model is None) == (family is None):
        raise UsageError(
            f"{TRAINERS[trainer].name}: name the model by one of model=FOLDER and family=NAME, "
            "with the training's min_pixels and max_pixels where it sets them; families: "
            f"{', '.join(FAMILIES)}"
        )
    if model is not None:
        return read_family(Path(model))
    return build_family(family) if isinstance(family, str) else cast(Family, family)


def check_said(opened: object, answer_tag: object) -> None:
    """Refuse what says nothing of the thought or the tags: to Python the text "false" is true.

    Raises:
        UsageError: so it is.
    """
    if not (opened is None or isinstance(opened, bool)):
        raise UsageError(f"opened must be true or false, got {opened!r:.40}")
    if answer_tag not in get_args(AnswerTag):
        expected = " or ".join(get_args(AnswerTag))
        raise UsageError(f"answer_tag is {answer_tag!r:.40}; expected {expected}")


def as_said(text: str, opened: bool | None) -> str:
    """The completion as it is read; told once where nobody says that its prompt opens the thought.

    Args:
        text: what the model wrote.
        opened: whether the prompt had opened the thought; None where nobody says.
    """
    if opened is None and begun_elsewhere(text):
        _tell_of_opened()
    return as_read(text, bool(opened))


@lru_cache(maxsize=1)
def _tell_of_opened() -> None:
    LOG.warning(
        "a completion ends a thought that it does not begin, and so is in no form that format "
        "pays; where the chat template opens the thought, say opened=True: then nothing inside a "
        "thought that never ends is taken for an answer, either"
    )


class RewardSum:
    """Several rewards of one completion as the single number that some trainers want."""

    def __init__(
        self,
        trainer: str,
        rewards: Sequence[Spec | Reward] | str = "format,f1",
        weights: Sequence[float] = (),
        model: str | None = None,
        family: str | Family | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        answer_tag: AnswerTag = "required",
        opened: bool | None = None,
    ) -> None:
        """Build the rewards.

        Args:
            trainer: key of TRAINERS.
            rewards: specs, or names separated by commas.
            weights: one per reward; none at all means 1 each.
            model: see `find_image_path`, as of all that follow.
            family: of the model.
            min_pixels: of the training's images.
            max_pixels: of the training's images.
            answer_tag: `optional` where the prompt asks for no tags, as makers' own prompts do.
            opened: whether the chat template opens the thought, so that completions begin in it.

        Raises:
            UsageError: an unknown reward, setting or family, not one weight per reward, or a reward
                that rises with training, of which these trainers tell a reward nothing.
        """
        specs = rewards.split(",") if isinstance(rewards, str) else list(rewards)
        self.rewards = build_rewards(specs)
        if any(reward.function is progressive_f1 for reward in self.rewards):
            raise UsageError(
                f"reward 'progressive_f1' rises with training, and {TRAINERS[trainer].name} does "
                "not tell a reward how far that is; take f1 at thresholds of your own: "
                '{"name": "f1", "thresholds": [0.5]}'
            )
        self.path = find_image_path(trainer, model, family, min_pixels, max_pixels)
        check_said(opened, answer_tag)
        self.answer_tag, self.opened = answer_tag, opened
        self.weights = list(weights) or [1.0] * len(self.rewards)
        if len(self.weights) != len(self.rewards):
            raise UsageError(
                f"{len(self.weights)} weights for {len(self.rewards)} rewards; expected one each"
            )
        if not all(map(is_number, self.weights)):
            raise UsageError(f"weights {self.weights!r:.60}; expected a list of numbers")

    def __call__(
        self, text: str, line: str, n_tokens: int | None
    ) -> tuple[float, dict[str, float]]:
        """Weighted sum, and every reward by name.

        A reward that does not apply adds nothing and stands as 0: these trainers know no None.
        """
        target, asked, size_wh = read_target(line)
        text = as_said(text, self.opened)
        parsed = partial(parse_once, text, self.path, size_wh, asked, self.answer_tag)
        completion = Completion(text, parsed, n_tokens)
        values = {reward.name: reward(completion, target) or 0.0 for reward in self.rewards}
        pairs = zip(self.weights, values.values(), strict=True)
        return sum(weight * value for weight, value in pairs), values


def reward_sum(trainer: str, settings: Mapping[str, Any]) -> RewardSum:
    """The `RewardSum` of these settings, built at the first call of a trainer that has no other.

    Args:
        trainer: key of TRAINERS.
        settings: the other arguments of `RewardSum`, in any containers a config library makes.

    Raises:
        UsageError: an unknown setting; the message lists the known ones.
    """
    known = list(inspect.signature(RewardSum).parameters)[1:]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"settings: {', '.join(known)}"
            raise UsageError(f"{TRAINERS[trainer].name}: unknown setting {name!r}; {hint}")
    if isinstance(settings.get("family"), Family):
        return RewardSum(trainer, **settings)
    return _build_once(trainer, json.dumps(dict(settings), default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return dict(value) if isinstance(value, Mapping) else list(value)


@lru_cache(maxsize=16)
def _build_once(trainer: str, settings: str) -> RewardSum:
    return RewardSum(trainer, **json.loads(settings))
