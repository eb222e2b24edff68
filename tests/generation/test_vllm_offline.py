"""What vLLM's answers become; vLLM itself is asked by `make test-vllm`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from boxrl.families import FAMILIES
from boxrl.generation.predict import Draw, Sampling
from boxrl.generation.questions import Questions
from boxrl.generation.vllm_offline import OfflineVllm
from boxrl.prompts import build_prompt
from boxrl.types import Sample


@pytest.mark.parametrize(
    ("word", "expected"),
    [("stop", "stop"), ("length", "length"), ("repetition", "length"), ("abort", "error")],
)
def test_only_whole_answers_are_taken_for_such(word: str, expected: str) -> None:
    engine = OfflineVllm.__new__(OfflineVllm)
    engine.questions = Questions(FAMILIES["plain"], build_prompt("standard"), Path())
    output = SimpleNamespace(text="None", token_ids=[1], logprobs=None, finish_reason=word)
    request = SimpleNamespace(outputs=[output], prompt_token_ids=[1, 2])
    draw = Draw("a", Sample("a", "a.png", 10, 10, "detection", ("cat",)))
    row = engine._prediction(draw, request, Sampling())
    assert row.finish_reason == expected
    assert row.completion == ("" if expected == "error" else "None")
