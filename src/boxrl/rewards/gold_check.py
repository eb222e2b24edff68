"""Does everything agree, before a GPU is rented? Gold answers through prompt, parser and rewards.

Every sample's gold completion is rendered in the model family's frame and syntax, parsed back and
scored. If data, prompt, parser and rewards agree, boxes come back within half a step of the
frame and every reward gives its maximum. No model is needed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from boxrl.data.lint.prompts import PromptDefect, lint_rendered
from boxrl.data.samples import why_unanswerable
from boxrl.families import Family
from boxrl.parsing import parse
from boxrl.prompts import Prompt, render_target
from boxrl.rewards import ASKING, OF_TASK, RANGES, Reward
from boxrl.rewards.calibrated import calibrated
from boxrl.rewards.format import FORM_ONLY, format_tags, native_format
from boxrl.types import Asked, Completion, Detections, Sample, Target, fold_label

TOLERANCE = 1e-9


class Problem(NamedTuple):
    """A sample whose gold answer does not earn what it should: its id and what is wrong.

    Of all samples where the id is empty.
    """

    id: str
    message: str


@dataclass(slots=True)
class Validation:
    """The outcome.

    Attributes:
        samples: how many were looked at, by task.
        problems: in order of samples.
        prompt_defects: of the prompt, filled with the first sample of each task.
        lowest: reward -> the lowest value of a gold answer; None where it never applied.
        ceiling: reward -> the mean of what gold answers earn against the exact boxes. Below the
            maximum it is the price of rounding to the family's grid, which no model can earn back.
    """

    samples: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    prompt_defects: list[PromptDefect] = field(default_factory=list)
    lowest: dict[str, float | None] = field(default_factory=dict)
    ceiling: dict[str, float | None] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        """Whether training may start."""
        return not self.problems


def validate(
    samples: Iterable[Sample],
    family: Family,
    prompt: Prompt,
    rewards: Sequence[Reward],
    advance: Callable[[int], None] = lambda count: None,
) -> Validation:
    """Put every sample's gold answer through parser and rewards.

    Args:
        samples: to be trained on.
        family: of the model.
        prompt: looked at by the prompt lint.
        rewards: of the recipe; the maximum of those from outside boxrl is not known and not asked.
        advance: called with the number of samples just done.
    """
    outcome = Validation()
    earned: dict[str, list[float]] = defaultdict(list)
    reachable: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        if not family.takes(sample.size_wh):
            refused = f"the model's image processor refuses {sample.width} x {sample.height} pixels"
            outcome.problems.append(Problem(sample.id, refused))
            advance(1)
            continue
        if why := why_unanswerable(sample):
            outcome.problems.append(Problem(sample.id, why))
            advance(1)
            continue
        if sample.task not in outcome.samples:
            outcome.prompt_defects += lint_rendered(sample, prompt, family)
        outcome.samples[sample.task] += 1
        text = render_target(sample, family, prompt=prompt)
        parsed = parse(
            text, family, sample.size_wh, None, prompt.answer_tag, Asked.from_sample(sample)
        )
        completion = Completion(text, parsed, n_tokens=0, progress=0.0)
        exact = Target.from_sample(sample)
        if prompt.form == "compact":
            exact = replace(exact, detections=exact.detections.by_label())
        mistakes = (
            [] if exact.answer else list(_box_mistakes(exact, parsed.detections, family, sample))
        )
        if not mistakes:
            boxes = _as_written(exact, parsed.detections)
            written = Target(boxes, exact.answer, exact.ignored)
            mistakes = list(_reward_mistakes(rewards, completion, written, prompt, earned))
            for reward in rewards:
                value = reward(completion, exact)
                if value is not None:
                    reachable[reward.name].append(value)
        outcome.problems += [Problem(sample.id, message) for message in mistakes]
        advance(1)
    for reward in rewards:
        values, exact_values = earned[reward.name], reachable[reward.name]
        outcome.lowest[reward.name] = min(values, default=None)
        mean = sum(exact_values) / len(exact_values) if exact_values else None
        outcome.ceiling[reward.name] = mean
    return outcome


def find_idle(rewards: Sequence[Reward], outcome: Validation) -> Iterator[Problem]:
    """A problem where no reward looks at what the samples ask: GRPO would learn form alone.

    Args:
        rewards: that were validated.
        outcome: of `validate`.
    """
    of_content = [reward for reward in rewards if reward.function not in FORM_ONLY]
    applied = any(outcome.lowest[reward.name] is not None for reward in of_content)
    asking = any(reward.name in ASKING for reward in of_content)
    if not of_content or applied or asking or outcome.problems or not outcome.samples:
        return
    names = " and ".join(reward.name for reward in of_content)
    tasks = " and ".join(outcome.samples)
    take = ", ".join(dict.fromkeys(OF_TASK[task] for task in outcome.samples))
    yield Problem(
        "",
        f"{names} applies to none of the {tasks} samples, and form would be all that is "
        f"learnt; a reward for them: {take}",
    )


def _box_mistakes(exact: Target, read: Detections, family: Family, sample: Sample) -> Iterator[str]:
    """Whether the boxes that were read back are those that were written."""
    gold = exact.detections
    if len(read) != len(gold):
        yield f"{len(gold)} boxes were written, {len(read)} read back"
        return
    for wanted, found in zip(gold.labels, read.labels, strict=True):
        if fold_label(wanted) != fold_label(found):
            yield f"label {wanted!r} was read back as {found!r}"
    if not len(gold):
        return
    exact_steps = family.to_steps(gold.boxes, sample.size_wh)
    moved = np.abs(family.to_steps(read.boxes, sample.size_wh) - exact_steps)
    sides = exact_steps[:, 2:] - exact_steps[:, :2]
    allowed = np.maximum(0.5, 1 - np.tile(sides, 2) / 2)  # the law of `Family.render_boxes`
    if (moved > allowed + TOLERANCE).any():
        yield f"boxes came back {moved.max():.2f} steps of {family.name}'s frame away"


def _as_written(exact: Target, read: Detections) -> Detections:
    """The target with its boxes rounded as the answer writes them."""
    return Detections(read.boxes, exact.detections.labels) if not exact.answer else read


def _reward_mistakes(
    rewards: Sequence[Reward],
    completion: Completion,
    target: Target,
    prompt: Prompt,
    earned: dict[str, list[float]],
) -> Iterator[str]:
    """Rewards that do not give a perfect answer their maximum."""
    for reward in rewards:
        value = reward(completion, target)
        if value is None:
            continue
        earned[reward.name].append(value)
        known = RANGES.get(reward.name)
        if known is not None and value < known[1] - TOLERANCE:
            hint = ""
            if reward.name == "repetition":
                hint = "; two of its boxes are written alike"
            elif reward.function in (format_tags, native_format):
                asks = "no tags: take native_format" if prompt.answer_tag == "optional" else "tags"
                hint = f"; prompt {prompt.name} asks for {asks}"
            elif reward.function is calibrated and prompt.form != "scored":
                hint = f"; prompt {prompt.name} asks for no scores: take scored"
            yield f"reward {reward.name} gives the gold answer {value:.4f}, not {known[1]:g}{hint}"
