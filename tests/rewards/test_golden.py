"""The published code's rewards of 2,000 completions, and every difference from them by its rule.

The rules are those of docs/rewards.md.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from boxrl.families import FAMILIES
from boxrl.parsing import parse
from boxrl.parsing.answers import find_answer
from boxrl.rewards import score

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "golden" / "rewards.jsonl").read_text().splitlines()
]
NAMES = list(ROWS[0]["reference"])


@pytest.fixture(scope="module")
def differences() -> list[tuple[dict[str, Any], str]]:
    """(row, reward) wherever boxrl and the published code differ by more than 1e-9."""
    values = score([row["completion"] for row in ROWS], [row["objects"] for row in ROWS], NAMES)
    return [
        (row, name)
        for index, row in enumerate(ROWS)
        for name in NAMES
        if abs((values[name][index] or 0.0) - row["reference"][name]) > 1e-9
    ]


def rule(text: str, name: str) -> str:
    """The rule of docs/rewards.md that explains a difference."""
    found = find_answer(text)
    if name == "format":
        return "one thought, one answer" if text.count("<answer>") > 1 else "none"
    if not found.tagged:
        return found.reason
    status = parse(text, FAMILIES["plain"], None).status
    if status == "malformed":
        return "no repair by guessing" if name == "repetition" else "none"
    if status == "partial":
        return "cut JSON is read item by item"
    if status == "empty":
        return "[] means None"
    return "the fence is optional" if "```json" not in found.answer else "none"


def test_valid_and_crowded_rows_equal_the_reference(
    differences: list[tuple[dict[str, Any], str]],
) -> None:
    assert sum(row["kind"] in ("valid", "crowded") for row in ROWS) == 1419
    assert [row["id"] for row, _ in differences if row["kind"] in ("valid", "crowded")] == []


def test_every_other_difference_is_one_of_the_rules(
    differences: list[tuple[dict[str, Any], str]],
) -> None:
    found = Counter((rule(row["completion"], name), name) for row, name in differences)
    assert found == {
        ("no answer tag", "weighted_sum"): 50,
        ("no answer tag", "repetition"): 28,
        ("[] means None", "weighted_sum"): 54,
        ("one thought, one answer", "format"): 21,
        ("the fence is optional", "ap"): 24,
        ("the fence is optional", "ap50"): 24,
        ("the fence is optional", "od_length"): 24,
        ("the fence is optional", "weighted_sum"): 26,
        ("cut JSON is read item by item", "ap"): 42,
        ("cut JSON is read item by item", "ap50"): 42,
        ("cut JSON is read item by item", "od_length"): 42,
        ("cut JSON is read item by item", "weighted_sum"): 44,
        ("cut JSON is read item by item", "repetition"): 6,
        ("no repair by guessing", "repetition"): 34,
    }
