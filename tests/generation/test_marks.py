"""Special tokens that mark a thought or a box stay in what a completion says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from boxrl.errors import UsageError
from boxrl.families import FAMILIES
from boxrl.generation.marks import has_marks, is_mark
from boxrl.generation.model_folders import neutral_sampling


@pytest.mark.parametrize(
    ("token", "family", "expected"),
    [
        ("<|channel>", "gemma4", True),  # begins a thought
        ("<channel|>", "gemma4", True),
        ("<unused94>", "gemma", True),  # MedGemma's
        ("<unused7>", "gemma", False),
        ("<|message|>", "internvl", True),  # gpt-oss
        ("</think>", "qwen3-vl", True),
        ("<answer>", "plain", True),
        ("<|box_start|>", "qwen2-vl", True),
        ("<|box_start|>", "qwen2.5-vl", False),  # writes JSON
        ("<999>", "rex-omni", True),  # a coordinate, whatever its number
        ("<loc0512>", "paligemma", True),
        ("<seg012>", "paligemma", False),
        ("<|/det|>", "deepseek-vl2", True),
        ("<|im_end|>", "rex-omni", False),
        ("<|endoftext|>", "qwen2-vl", False),
        ("<eos>", "gemma4", False),
        ("<unk>", "internvl", False),
    ],
)
def test_marks_are_told_from_other_special_tokens(token: str, family: str, expected: bool) -> None:
    assert is_mark(token, FAMILIES[family]) is expected


def test_whether_marks_are_special_is_read_from_the_folder(tmp_path: Path) -> None:
    family = FAMILIES["gemma4"]
    assert not has_marks(tmp_path, family)
    for special in (True, False):
        added = [
            {"id": 1, "content": "<eos>", "special": True},
            {"id": 2, "content": "<|channel>", "special": special},
        ]
        (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
        assert has_marks(tmp_path, family) is special


def test_settings_that_a_server_would_add_are_named_with_what_changes_nothing(
    tmp_path: Path,
) -> None:
    assert neutral_sampling(tmp_path) == {}
    own = {"repetition_penalty": 1.05, "top_k": 1, "top_p": 1.0, "min_p": None, "temperature": 0.1}
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps(own))
    assert neutral_sampling(tmp_path) == {"repetition_penalty": 1.0, "top_k": -1}
    file.write_text("[")
    with pytest.raises(UsageError, match="the model folder is damaged"):
        neutral_sampling(tmp_path)
