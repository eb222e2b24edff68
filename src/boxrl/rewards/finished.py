"""Finished completions as JSON lines, and their rewards."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from boxrl.data.files import read_jsonl, write_atomic
from boxrl.errors import DataError
from boxrl.families import FAMILIES
from boxrl.parsing import parse
from boxrl.rewards import Reward
from boxrl.rewards.targets import build_target
from boxrl.types import Completion, Target


class Finished(NamedTuple):
    """A completion beside its target."""

    id: str
    completion: Completion
    target: Target


def read_finished(path: Path) -> list[Finished]:
    """Rows `{"id", "completion", "objects", "width"?, "height"?, "n_tokens"?}`.

    Raises:
        DataError: the first bad line, as `file:line: what, got, expected`; also for no row.
    """
    rows = [_parse_row(row, f"{path}:{number}") for number, row in read_jsonl(path)]
    if not rows:
        raise DataError(f"{path}: holds no completions")
    return rows


def _parse_row(row: Mapping[str, Any], where: str) -> Finished:
    text, sides = row.get("completion"), (row.get("width"), row.get("height"))
    if not isinstance(row.get("id"), str) or not isinstance(text, str):
        raise DataError(f"{where}: a row needs an id and a completion, both strings")
    known = sides != (None, None)
    if known and not all(type(side) is int and side > 0 for side in sides):
        raise DataError(
            f"{where}: width {sides[0]!r:.40} and height {sides[1]!r:.40}; expected positive "
            "whole numbers, both or none"
        )
    size_wh = (row["width"], row["height"]) if known else None
    n_tokens = row.get("n_tokens")
    if n_tokens is not None and not (type(n_tokens) is int and n_tokens >= 0):
        raise DataError(f"{where}: n_tokens must be a whole number, got {n_tokens!r:.80}")
    parsed = parse(text, FAMILIES["plain"], size_wh)
    target = build_target(row.get("objects"), size_wh, where)
    return Finished(row["id"], Completion(text, parsed, n_tokens), target)


def write_rewards(
    path: Path, rows: Sequence[Finished], values: Mapping[str, Sequence[float | None]]
) -> None:
    """Lines `{"id", "rewards": {NAME: value}}` in the order of the rows, written atomically."""
    with write_atomic(path) as handle:
        for index, row in enumerate(rows):
            rewards = {name: column[index] for name, column in values.items()}
            handle.write(json.dumps({"id": row.id, "rewards": rewards}) + "\n")


def score_finished(
    rows: Sequence[Finished], rewards: Sequence[Reward]
) -> dict[str, list[float | None]]:
    """One value per reward and row."""
    return {reward.name: [reward(row.completion, row.target) for row in rows] for reward in rewards}
