"""Rewards of completions: pure functions, and the adapters that trainers call.

A reward is `(completion, target, *, settings) -> float | None`; None = not applicable.
`REWARDS` holds those of boxrl by name, `build_reward` fixes the settings of one of them or of
`my_pkg.my_module:function`, `score` applies several to finished completions.
"""

from __future__ import annotations

import importlib
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from boxrl.boxes import is_size
from boxrl.errors import DataError, UsageError, did_you_mean
from boxrl.families import FAMILIES, Family, build_family
from boxrl.parsing import AnswerTag, parse
from boxrl.rewards.calibrated import calibrated
from boxrl.rewards.format import choice, count, format_tags, native_format, well_formed
from boxrl.rewards.localization import (
    ap,
    ap50,
    dense_f1,
    f1,
    iou,
    od_length,
    progressive_f1,
    weighted_sum,
)
from boxrl.rewards.settings import check_numbers
from boxrl.rewards.shaping import absent_labels, cosine, repetition
from boxrl.rewards.targets import build_targets, check_size
from boxrl.rewards.verified import verified
from boxrl.types import Asked, Completion, Target

RewardFunction = Callable[..., float | None]
PERFECT = '<answer>[{"bbox_2d": [0, 0, 10, 10], "label": "cat"}]</answer>'

Spec = str | Mapping[str, Any]
"""A name, or `{"name": ..., **settings}`."""


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward function with its settings; call it with a completion and a target.

    Attributes:
        name: as in the spec.
        function: the pure function.
        settings: keyword arguments that differ from the defaults.
    """

    name: str
    function: RewardFunction
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, completion: Completion, target: Target) -> float | None:
        """The value, or None where the reward does not apply to this target.

        Raises:
            UsageError: a function of one's own pays something that is no number.
        """
        paid = self.function(completion, target, **self.settings)
        return paid if paid is None else _as_number(self.name, paid)


def _as_number(name: str, paid: Any) -> float:
    """What a function paid, from numpy and torch too; to TRL, NaN would say that it paid nothing.

    Raises:
        UsageError: it is no finite number.
    """
    if type(paid) is float and math.isfinite(paid):
        return paid
    try:
        number = paid.item() if hasattr(paid, "item") else paid
    except ValueError:  # an array of several
        number = None
    if not isinstance(number, Real) or not math.isfinite(number):
        raise UsageError(
            f"reward {name!r} paid {paid!r:.40}; expected a finite number, or None where it does "
            "not apply"
        )
    return float(number)


def build_reward(spec: Spec | Reward) -> Reward:
    """The reward of a name or of `{"name": ..., **settings}`.

    Raises:
        UsageError: unknown name, setting or choice; the message lists what there is.
    """
    if isinstance(spec, Reward):
        return spec
    settings = {} if isinstance(spec, str) else dict(spec)
    name = spec if isinstance(spec, str) else settings.pop("name", None)
    if not isinstance(name, str):
        raise UsageError(f"reward {spec!r:.80} has no name; rewards: {', '.join(REWARDS)}")
    function = _import_reward(name) if ":" in name else (REWARDS | ASKING).get(name)
    if function is None:
        raise _unknown([name])
    _check_settings(name, function, settings)
    reward = Reward(name, function, settings)
    if name in REWARDS:
        _try(reward)
    return reward


def build_rewards(specs: Sequence[Spec | Reward]) -> list[Reward]:
    """The rewards of several specs.

    Raises:
        UsageError: as `build_reward`, naming all that are unknown; also for none at all, for a
            duplicate name, and for one that asks another model.
    """
    known = {*REWARDS, *ASKING}
    unknown = [s for s in specs if isinstance(s, str) and ":" not in s and s not in known]
    if unknown:
        raise _unknown(unknown)
    rewards = [build_reward(spec) for spec in specs]
    if any(reward.name in ASKING for reward in rewards):
        raise UsageError(ASKING_WHOM)
    names = [reward.name for reward in rewards]
    if len(set(names)) < len(names):
        raise UsageError(f"duplicate reward in {', '.join(names)}; names must differ")
    if not rewards:
        raise UsageError(f"no reward is named; rewards: {', '.join(REWARDS)}")
    return rewards


def look_for_modules(folder: Path, specs: Iterable[Any]) -> None:
    """Let `my_module:function` among specs name a module in `folder`, behind those installed.

    Only a command whose user named these specs may call it: such a module is run.

    Args:
        folder: where the modules lie.
        specs: rewards, unchecked; where none of them names a module, nothing is done.
    """
    names = (spec.get("name") if isinstance(spec, Mapping) else spec for spec in specs)
    if any(isinstance(name, str) and ":" in name for name in names):
        sys.path.append(str(folder))


def _unknown(names: Sequence[str]) -> UsageError:
    what = f"unknown reward{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"
    return UsageError(
        f"{what}; rewards: {', '.join(REWARDS)}, or my_pkg.my_module:function"
        f"{did_you_mean(REWARDS, *names)}"
    )


def _import_reward(path: str) -> RewardFunction:
    module_name, _, attribute = path.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"reward {path!r} cannot be imported ({error}); expected my_pkg.my_module:function, "
            "in this folder, installed or on PYTHONPATH"
        ) from error
    if not callable(function):
        raise UsageError(f"reward {path!r} is a {type(function).__name__}, not a function")
    return function  # type: ignore[no-any-return]


def _check_settings(name: str, function: RewardFunction, settings: Mapping[str, Any]) -> None:
    parameters = inspect.signature(function).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    try:
        hints = get_type_hints(function)
    except NameError:  # annotations of one's own that only a type checker resolves
        hints = {}
    for key, value in settings.items():
        if key not in known and not open_ended:
            takes = f"it takes: {', '.join(known)}" if known else "it takes none"
            raise UsageError(
                f"reward {name!r} has no argument {key!r}; {takes}{did_you_mean(known, key)}"
            )
        hint = hints.get(key)
        if get_origin(hint) is Literal and value not in get_args(hint):
            choices = ", ".join(map(repr, get_args(hint)))
            raise UsageError(f"reward {name!r}: {key} is {value!r}; expected one of {choices}")


def _try(reward: Reward) -> None:
    """Find settings that cannot work before a training does."""
    parsed = parse(PERFECT, FAMILIES["plain"], None)
    target = Target(parsed.detections)
    endless = Completion("", parse("", FAMILIES["plain"], None), n_tokens=sys.maxsize)
    try:
        check_numbers(reward.settings)
        for completion in (Completion(PERFECT, parsed, n_tokens=1), endless):
            reward(completion, target)
    except (UsageError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise UsageError(
            f"reward {reward.name!r} cannot work with {dict(reward.settings)}: {error}"
        ) from error


def score(
    completions: Sequence[str],
    objects: Sequence[Sequence[Mapping[str, Any]]],
    rewards: Sequence[Spec | Reward],
    *,
    n_tokens: Sequence[int | None] | None = None,
    sizes: Sequence[tuple[int, int] | None] | None = None,
    family: str | Family = "plain",
    input_sizes: Sequence[tuple[int, int] | None] | None = None,
    asked: Sequence[Asked | None] | None = None,
    answer_tag: AnswerTag = "required",
) -> dict[str, list[float | None]]:
    """Rewards of finished completions, which answer in original pixels unless `family` says else.

    Args:
        completions: n texts.
        objects: per completion its target, `{"bbox": [x1, y1, x2, y2], "label": str}` each;
            boxes in crowd objects (`"iscrowd": true`) of their label count neither way.
        rewards: names, `{"name": ..., **settings}`, or built rewards; names must differ.
        n_tokens: per completion its length in tokens, which `cosine` needs.
        sizes: per completion (width, height) of its image; boxes are clipped to it. Families
            with a frame of their own need it.
        family: in whose frame and syntax the completions are; a name or the family itself.
        input_sizes: per completion (width, height) of the image as the model saw it, where
            that is not what the family's own rule gives.
        asked: per completion what was asked, where answers may leave out the only label.
        answer_tag: `optional` where the prompt asked for no tags, as makers' own prompts do.

    Returns:
        Per reward name n values; None = not applicable.

    Raises:
        UsageError: unknown rewards, settings or family, or what is given are no sequences, or ones
            of different lengths.
        DataError: a completion that is no text, a length that is no number of tokens, a target
            with a broken box, or no size where the family needs it; names the row.

    >>> answer = '<answer>[{"bbox_2d": [0, 0, 10, 10], "label": "cat"}]</answer>'
    >>> score([answer], [[{"bbox": [0, 0, 10, 20], "label": "cat"}]], ["iou", "format"])
    {'iou': [0.5], 'format': [0.0]}
    """
    built = build_rewards(rewards)
    completions = _in_order(completions, "completions")
    n = len(completions)
    objects = _in_order(objects, "objects", n)
    lengths = _counts(_in_order(n_tokens, "n_tokens", n))
    sizes = _pairs(_in_order(sizes, "sizes", n), "sizes")
    input_sizes = _pairs(_in_order(input_sizes, "input_sizes", n), "input_sizes")
    asked = _in_order(asked, "asked", n)
    family = build_family(family) if isinstance(family, str) else family
    targets = build_targets(objects, sizes)
    out: dict[str, list[float | None]] = {reward.name: [] for reward in built}
    steps = [(reward, out[reward.name].append) for reward in built]
    for row, text in enumerate(completions):
        if not isinstance(text, str):
            raise DataError(
                f"completions[{row}]: expected the text of an answer, got {type(text).__name__}"
            )
        check_size(family, sizes[row], f"sizes[{row}]")
        parsed = partial(
            parse, text, family, sizes[row], input_sizes[row], answer_tag, asked=asked[row]
        )
        completion = Completion(text, parsed, lengths[row])
        for reward, keep in steps:
            keep(reward(completion, targets[row]))
    return out


def _in_order(values: Sequence[Any] | None, what: str, n: int | None = None) -> list[Any]:
    """The values by their places, n times None where there are none.

    A column of a table that was sorted or filtered is asked for its rows by their old numbers.

    Raises:
        UsageError: they have no order, or are not one per completion.
    """
    if values is None and n is not None:
        return [None] * n
    if isinstance(values, str | Mapping | Set) or not isinstance(values, Iterable):
        raise UsageError(f"{what}: expected a list, one per row, got {type(values).__name__}")
    found = list(values)
    if n is not None and len(found) != n:
        raise UsageError(f"{len(found)} {what} for {n} completions; expected one each")
    return found


def _counts(values: Sequence[Any]) -> list[int | None]:
    """Numbers of tokens, which a table with gaps holds as floats."""
    for row, value in enumerate(values):
        count = float(value) if isinstance(value, Real) else -1.0
        if value is not None and not (count.is_integer() and count >= 0):
            raise DataError(
                f"n_tokens[{row}]: expected a number of tokens, 0 or more, or None, got "
                f"{value!r:.40}"
            )
    return [None if value is None else int(value) for value in values]


def _pairs(values: Sequence[Any], what: str) -> list[tuple[int, int] | None]:
    """Sizes as tuples, from rows of an array, too."""
    pairs: list[tuple[int, int] | None] = []
    for row, size in enumerate(values):
        if size is not None and not is_size(size):
            raise DataError(f"{what}[{row}]: expected (width, height) in pixels, got {size!r:.40}")
        pairs.append(None if size is None else (size[0], size[1]))
    return pairs


REWARDS: dict[str, RewardFunction] = {
    "format": format_tags,
    "ap": ap,
    "ap50": ap50,
    "od_length": od_length,
    "weighted_sum": weighted_sum,
    "iou": iou,
    "f1": f1,
    "progressive_f1": progressive_f1,
    "dense_f1": dense_f1,
    "cosine": cosine,
    "repetition": repetition,
    "absent_labels": absent_labels,
    "calibrated": calibrated,
    "choice": choice,
    "count": count,
    "native_format": native_format,
    "well_formed": well_formed,
}
"""Every reward by name that an answer and its target decide."""

ASKING: dict[str, RewardFunction] = {"verified": verified}
"""Rewards that another model decides, by name."""

ASKING_WHOM = (
    "reward 'verified' asks another model about each box, and here none is named; boxrl train "
    "takes it, with verifier: {model: FOLDER} in the recipe"
)

RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(REWARDS, (0.0, 1.0)),
    "cosine": (-0.5, 1.0),
    "repetition": (-1.0, 0.0),
    "absent_labels": (-1.0, 0.0),
}
"""Lowest and highest value of every reward with default settings."""
