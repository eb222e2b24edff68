"""boxrl: train and evaluate vision-language models that answer with bounding boxes.

Data -> prompts -> SFT and GRPO with exact box rewards -> generation -> evaluation under a stated
protocol -> reports. Everything outside `boxrl.engines` works without torch.

    import boxrl

    detector = boxrl.load("tiny-taught")          # a model
    answer = detector.ask(image, "red circle")    # its boxes; a notebook shows them
    boxrl.score([answer.completion], [targets], ["f1"])
    boxrl.evaluate("val.jsonl", "predictions.jsonl")
    boxrl.train("recipe.yaml", out="runs/first")

These names are loaded when they are first used, so that importing boxrl costs nothing.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as type checkers read it; importing typing would take half of the time
if TYPE_CHECKING:
    from typing import Any

    from boxrl.api.answers import Answer
    from boxrl.api.detector import Detector, load
    from boxrl.api.drawing import draw
    from boxrl.api.training import train
    from boxrl.data.samples import read_samples
    from boxrl.evaluate.calling import evaluate_files as evaluate
    from boxrl.parsing import parse
    from boxrl.rewards import score
    from boxrl.types import Detections, Sample

__version__ = "0.1.0"

__all__ = [
    "Answer", "Detections", "Detector", "Sample", "draw", "evaluate", "load", "parse",
    "read_samples", "score", "train",
]  # fmt: skip

_HOMES = {
    "Answer": "api.answers", "Detections": "types", "Detector": "api.detector", "Sample": "types",
    "draw": "api.drawing", "load": "api.detector", "parse": "parsing",
    "read_samples": "data.samples", "score": "rewards", "train": "api.training",
}  # fmt: skip
"""The module of each name; `evaluate` is a package that can be called."""


def __getattr__(name: str) -> Any:
    if name == "evaluate":
        return importlib.import_module("boxrl.evaluate")
    if name not in _HOMES:
        raise AttributeError(f"module 'boxrl' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"boxrl.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__", "__doc__", *globals()})
