"""`boxrl predict` on a phantom GPU: the CPU's answers, and batches that fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from boxrl.data.predictions import Prediction
from boxrl.engines.generate import Generator
from boxrl.engines.loading import load
from boxrl.families import read_family
from boxrl.generation.model_folders import model_folder
from boxrl.generation.predict import Sampling
from boxrl.generation.questions import Questions
from boxrl.prompts import build_prompt
from boxrl.types import Sample

from .gpu import phantom_gpu


def build(images: Path, device: str) -> Generator:
    model, processor = load("tiny-taught", "float32", device, 1)
    family = read_family(model_folder("tiny-taught"), None)
    return Generator(model, processor, Questions(family, build_prompt("standard"), images))


@pytest.mark.parametrize(
    "options",
    [{"logprobs": True}, {"n": 3, "temperature": 1.0, "logprobs": True}],
    ids=["greedy", "three draws"],
)
def test_answers_are_those_of_the_cpu(
    options: dict[str, Any], scene_folder: Path, samples: list[Sample]
) -> None:
    def answers(device: str) -> list[Prediction]:
        generator = build(scene_folder / "images", device)
        return generator.answer(samples[:2], Sampling(max_new_tokens=40, **options))

    expected = answers("cpu")
    with phantom_gpu(devices=2) as gpu:  # the second stays empty
        found = answers("auto")
        assert gpu.peak(0) and not gpu.peak(1)
    assert [x.completion for x in found] == [x.completion for x in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.box_logprobs == pytest.approx(other.box_logprobs, abs=1e-4)


def test_a_batch_that_does_not_fit_is_halved(scene_folder: Path, samples: list[Sample]) -> None:
    sampling = Sampling(max_new_tokens=8)
    with phantom_gpu() as gpu:
        generator = build(scene_folder / "images", "cuda")
        gpu.reset()
        expected = generator.answer(samples[:4], sampling)
        whole = gpu.peak_bytes
        gpu.memory = whole - 1
        assert generator.answer(samples[:4], sampling) == expected
        gpu.memory = gpu.bytes + 1000
        errors = generator.answer(samples[:2], sampling)
    assert [x.finish_reason for x in errors] == ["error"] * 2
    assert all("out of memory" in (x.error or "") for x in errors)
