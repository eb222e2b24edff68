"""GRPO with a real vLLM in the trainer's process. `make test-vllm`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .test_vllm import ENVIRONMENT, PYTHON, START_S

pytestmark = pytest.mark.vllm

SCRIPT = Path(__file__).with_name("grpo_colocated.py")


@pytest.fixture(scope="module")
def figures(scene_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two steps of GRPO; see grpo_colocated.py."""
    if not PYTHON:
        pytest.skip("VLLM_PYTHON names no interpreter with vLLM; make test-vllm builds one")
    out = tmp_path_factory.mktemp("grpo")
    result = subprocess.run(
        [PYTHON, str(SCRIPT), str(scene_folder), str(out)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=START_S,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads((out / "both.json").read_text())


def test_before_the_first_step_both_engines_answer_alike(figures: Any) -> None:
    assert figures["before"]["vllm"] == figures["before"]["transformers"]


def test_answers_follow_the_weights(figures: Any) -> None:
    # The vision tower is trained, too: what vLLM made of an image before must not be used again.
    assert figures["after"]["vllm"] == figures["after"]["transformers"]
    assert figures["after"]["vllm"] != figures["before"]["vllm"]


def test_log_probabilities_are_those_of_the_shared_prefix(figures: Any) -> None:
    assert len(figures["log_prob_difference"]) == 2
    assert max(figures["log_prob_difference"]) < 1e-3


def test_image_tokens_are_never_sampled(figures: Any) -> None:
    assert figures["image_tokens"]["free"] >= 3
    assert figures["image_tokens"]["banned"] == 0
