"""Finished completions as JSON lines, and their rewards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

from boxrl.data.files import is_whole, read_jsonl, write_atomic
from boxrl.data.predictions import checked_input_size
from boxrl.errors import DataError
from boxrl.families import FAMILIES, Family
from boxrl.metrics.frame_signs import Written, describe_signs, find_signs
from boxrl.parsing import AnswerTag, parse
from boxrl.parsing.answers import mostly_begun_elsewhere
from boxrl.rewards import Reward
from boxrl.rewards.targets import build_target, check_size
from boxrl.types import Asked, Completion, Target, Task


class Finished(NamedTuple):
    """A completion beside its target, and the image's sizes where they are known."""

    id: str
    completion: Completion
    target: Target
    size_wh: tuple[int, int] | None = None
    input_size_wh: tuple[int, int] | None = None


def read_finished(
    path: Path, family: Family = FAMILIES["plain"], answer_tag: AnswerTag = "required"
) -> list[Finished]:
    """Rows of completions beside their targets.

    `{"id", "completion", "objects", "width"?, "height"?, "n_tokens"?, "input_size_wh"?, "labels"?,
    "task"?}`; the last two say what was asked, as in a samples file.

    Args:
        path: the file.
        family: in whose frame and syntax the completions are; one with a frame of its own needs
            width and height.
        answer_tag: as of `parse`.

    Raises:
        DataError: the first bad line, as `file:line: what, got, expected`; also for no row.
    """
    rows = [
        _parse_row(row, family, answer_tag, f"{path}:{number}") for number, row in read_jsonl(path)
    ]
    if not rows:
        raise DataError(f"{path}: holds no completions")
    return rows


def _parse_row(
    row: Mapping[str, Any], family: Family, answer_tag: AnswerTag, where: str
) -> Finished:
    text = row.get("completion")
    if not isinstance(row.get("id"), str) or not isinstance(text, str):
        raise DataError(f"{where}: a row needs an id and a completion, both strings")
    if "objects" not in row:
        raise DataError(
            f"{where}: no field objects; predictions of boxrl predict are scored by boxrl evaluate"
        )
    size_wh, input_size_wh = _size(row, where), checked_input_size(row, where)
    check_size(family, size_wh, where)
    n_tokens = row.get("n_tokens")
    if n_tokens is not None and not is_whole(n_tokens):
        raise DataError(f"{where}: n_tokens must be an integer >= 0, got {n_tokens!r:.80}")
    asked = _asked(row, where)
    parsed = partial(parse, text, family, size_wh, input_size_wh, answer_tag, asked)
    target = build_target(row.get("objects"), size_wh, where)
    completion = Completion(text, parsed, n_tokens)
    return Finished(row["id"], completion, target, size_wh, input_size_wh)


def _asked(row: Mapping[str, Any], where: str) -> Asked | None:
    labels, task = row.get("labels"), row.get("task", "detection")
    if labels is None:
        return None
    if not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise DataError(f"{where}: labels must be a list of strings, got {labels!r:.80}")
    if task not in get_args(Task):
        known = ", ".join(get_args(Task))
        raise DataError(f"{where}: unknown task {task!r:.40}; tasks: {known}")
    return Asked(tuple(labels), task)


def _size(row: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    sides = (row.get("width"), row.get("height"))
    if sides == (None, None):
        return None
    if not all(is_whole(side, 1) for side in sides):
        raise DataError(
            f"{where}: width {sides[0]!r:.40} and height {sides[1]!r:.40}; expected positive "
            "integers, both or none"
        )
    return row["width"], row["height"]


def write_rewards(
    path: Path, rows: Sequence[Finished], values: Mapping[str, Sequence[float | None]]
) -> None:
    """Lines `{"id", "rewards": {NAME: value}}` in the order of the rows, written atomically."""
    with write_atomic(path) as handle:
        for index, row in enumerate(rows):
            rewards = {name: column[index] for name, column in values.items()}
            handle.write(json.dumps({"id": row.id, "rewards": rewards}) + "\n")


def frame_hints(rows: Iterable[Finished], family: Family) -> list[str]:
    """What points to another frame than the family's, in words; see `metrics.frame_signs`.

    Args:
        rows: completions beside their targets.
        family: in whose frame they were read.
    """
    answers = (
        Written(
            row.completion.parsed.written, row.size_wh, row.input_size_wh,
            row.target.detections.boxes,
        )
        for row in rows
    )  # fmt: skip
    return describe_signs(find_signs(answers, family), family)


def thought_hints(rows: Sequence[Finished]) -> list[str]:
    """A sentence where most completions begin inside a thought, which only their prompt tells.

    Args:
        rows: completions beside their targets.
    """
    told = mostly_begun_elsewhere([row.completion.text for row in rows])
    advice = (
        "write <think> in front of every completion, or format pays nothing, and an answer inside "
        "a thought that was cut is paid as one"
    )
    return [f"{told}; {advice}"] if told else []


def score_finished(
    rows: Sequence[Finished], rewards: Sequence[Reward]
) -> dict[str, list[float | None]]:
    """The rewards of finished completions.

    Args:
        rows: completions that are parsed already.
        rewards: as `build_rewards` gives them.

    Returns:
        Name of the reward -> one value per row, in their order; None where it does not apply.
    """
    return {reward.name: [reward(row.completion, row.target) for row in rows] for reward in rewards}
