"""Synthetic scenes, answers to them, and their evaluation."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
from msgspec import structs

from boxrl.data.predictions import Prediction
from boxrl.data.synthetic import World, scenes
from boxrl.evaluate import Evaluation, evaluate
from boxrl.families import FAMILIES
from boxrl.prompts import render_target
from boxrl.types import Object, Sample

PLAIN, QWEN = FAMILIES["plain"], FAMILIES["qwen2.5-vl"]
A, B, C = [0.0, 0.0, 50.0, 50.0], [50.0, 50.0, 90.0, 90.0], [60.0, 0.0, 90.0, 30.0]
SCENES = [scene.sample for scene in scenes(World(), 80, seed=1, split="evaluate")]


def answer(*boxes: tuple[list[float], str]) -> str:
    items = [{"bbox_2d": box, "label": label} for box, label in boxes]
    return f"<think>x</think><answer>{json.dumps(items)}</answer>"


def sample(key: str, *boxes: tuple[list[float], str], **fields: Any) -> Sample:
    objects = tuple(Object(tuple(box), label) for box, label in boxes)
    settings = {"image": f"{key}.jpg", "task": "detection", "labels": ("cat", "dog"), **fields}
    return Sample(key, width=100, height=100, objects=objects, **settings)


def prediction(key: str, completion: str, **fields: Any) -> Prediction:
    return Prediction(key, completion, **{"n_tokens": 10, "finish_reason": "stop", **fields})


def run(pairs: list[tuple[Sample, Prediction]], **settings: Any) -> Evaluation:
    samples, predictions = zip(*pairs, strict=True)
    return evaluate(samples, {p.id: p for p in predictions}, PLAIN, resamples=50, **settings)


def spoil(samples: list[Sample], share: float, seed: int) -> dict[str, Prediction]:
    """Gold answers of which a share lacks its boxes or has them moved."""
    rng = np.random.default_rng(seed)
    found = {}
    for item in samples:
        if rng.random() < share:
            moved = [
                structs.replace(o, bbox=(o.bbox[0], o.bbox[1], o.bbox[2] - 8, o.bbox[3] - 8))
                for o in item.objects
                if rng.random() < 0.8
            ]
            found[item.id] = prediction(
                item.id, render_target(replace(item, objects=tuple(moved)), QWEN)
            )
        else:
            found[item.id] = prediction(item.id, render_target(item, QWEN))
    return found
