"""The reward functions that TRL's GRPOTrainer calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from boxrl.data.samples import parse_line
from boxrl.errors import UsageError
from boxrl.families import Family
from boxrl.families.image_paths import ImagePath
from boxrl.parsing import AnswerTag
from boxrl.parsing.answers import THOUGHT
from boxrl.rewards import ASKING, ASKING_WHOM, Reward, Spec, build_reward
from boxrl.rewards.adapters import (
    as_said,
    check_said,
    find_image_path,
    parse_once,
    read_target,
)
from boxrl.rewards.format import FORM_ONLY
from boxrl.types import NOTHING, Completion, Detections, Parsed, Sample, Target

Message = dict[str, Any]
Verifier = Callable[[Sequence[tuple[Sample, Detections]]], Sequence[Sequence[float]]]
"""P(yes) of each box of samples, see `generation.verify.verify_boxes`."""

UNREAD = Parsed(NOTHING, "missing", reason="not read")
NO_TARGET = Target(NOTHING)


class TRLReward:
    """One reward as an entry of `reward_funcs`.

    The data set needs a column `sample` that holds a line of a samples file per row. Token
    counts are those of TRL's `completion_ids`. Answers are read once, however many rewards read
    them, and None tells TRL to skip the row.
    """

    def __init__(
        self,
        reward: Reward | Spec,
        family: str | Family | ImagePath | None = None,
        *,
        model: str | Path | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        opened: bool | None = None,
        answer_tag: AnswerTag = "required",
        verifier: Verifier | None = None,
    ) -> None:
        """Wrap a reward for the model that is trained.

        Args:
            reward: built, or a spec.
            family: of the model, with its processor's limits, or its name; of another trainer's
                images, their way to the model. Left out where `model` is named.
            model: the model's folder.
            min_pixels: of the processor, where it was loaded with another than the folder's.
            max_pixels: the same.
            opened: whether the chat template opens the thought, so that completions begin in it.
            answer_tag: `optional` where the prompt asks for no tags, as makers' own prompts do.
            verifier: who looks a second time at boxes; other rewards than `verified` do not ask.

        Raises:
            UsageError: an unknown reward, setting, rule or family, no model, or one that is named
                twice.
        """
        self.reward = reward = build_reward(reward)
        check_said(opened, answer_tag)
        if isinstance(family, ImagePath) and (model, min_pixels, max_pixels) != (None,) * 3:
            raise UsageError(
                "an image's way to the model names the model and its pixel limits; leave model, "
                "min_pixels and max_pixels out"
            )
        asks = reward.name in ASKING
        if asks and verifier is None:
            raise UsageError(ASKING_WHOM)
        self.path = (
            family
            if isinstance(family, ImagePath)
            else find_image_path("trl", model, family, min_pixels, max_pixels)
        )
        self.opened = opened
        self.answer_tag = answer_tag
        self.verifier = verifier if asks else None
        self.__name__ = reward.name.rpartition(":")[2]

    def __call__(
        self,
        completions: Sequence[str | Sequence[Message]],
        sample: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        log_extra: Callable[[str, list[Any]], None] | None = None,
        trainer_state: Any = None,
        **_: Any,
    ) -> list[float | None]:
        """One value per completion; the status of each answer goes to the completions table.

        A reward of form alone reads no answers and logs none.
        """
        progress = training_progress(trainer_state)
        if self.reward.function in FORM_ONLY:
            lengths = map(len, completion_ids)
            return [
                self.reward(
                    Completion(self._text(written), UNREAD, n, progress),
                    NO_TARGET,
                )
                for written, n in zip(completions, lengths, strict=True)
            ]
        targets, answers, statuses = [], [], []
        for written, line, ids in zip(completions, sample, completion_ids, strict=True):
            target, asked, size_wh = read_target(line)
            text = self._text(written)
            parsed = parse_once(text, self.path, size_wh, asked, self.answer_tag)
            answers.append((text, parsed, len(ids), progress))
            targets.append(target)
            statuses.append(parsed.status)
        looks = self._second_looks(sample, [parsed.detections for _, parsed, *_ in answers])
        values = [
            self.reward(Completion(*answer, box_verify=look), target)
            for answer, look, target in zip(answers, looks, targets, strict=True)
        ]
        if log_extra is not None:
            # A column of its own: TRL appends, and two rewards in one column would double it.
            log_extra(f"answer ({self.__name__})", statuses)
        return values

    def _second_looks(
        self, lines: Sequence[str], boxes: Sequence[Detections]
    ) -> Sequence[Sequence[float] | None]:
        """P(yes) of each answer's boxes, all asked at once; None where nobody is to look."""
        if self.verifier is None:
            return [None] * len(boxes)
        return self.verifier(list(zip(map(parse_line, lines), boxes, strict=True)))

    def _text(self, written: str | Sequence[Message]) -> str:
        """What the model wrote, with the tag that the prompt wrote for it."""
        return completion_text(written, self.opened)


def training_progress(state: Any) -> float | None:
    """Share of the training steps that are done, from TRL's trainer state."""
    if state is None or not state.max_steps:
        return None
    return min(float(state.global_step / state.max_steps), 1.0)


def completion_text(completion: str | Sequence[Message], opened: bool | None = False) -> str:
    """What the model wrote, as one text; what tools said is none of it.

    Args:
        completion: plain text, or chat messages; a thought that TRL took out of them by the
            tokenizer's response template stands in front again.
        opened: whether the prompt had opened the thought; None where nobody says.
    """
    if isinstance(completion, str):
        return as_said(completion, opened)
    said = [item for item in completion if item.get("role", "assistant") == "assistant"]
    text = "".join(map(_message_text, said))
    return text if any(map(_thought, said)) else as_said(text, opened)


REASONING = ("reasoning_content", "thinking")
"""Where TRL's response templates put a thought."""


def _thought(message: Message) -> str:
    return next((message[key] for key in REASONING if message.get(key)), "")


def _message_text(message: Message) -> str:
    """Thought and content; a thought behind which nothing stands was cut, and stays open."""
    thought, content = _thought(message), _content_text(message.get("content") or "")
    if not thought:
        return content
    begin, end = THOUGHT
    return f"{begin}{thought}{end}{content}" if content else f"{begin}{thought}"


def _content_text(content: str | Sequence[Message]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part.get("type") == "text")
