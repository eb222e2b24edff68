"""Samples as the datasets that TRL's trainers take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Image

from boxrl.data.samples import image_path, render_sample
from boxrl.families import Family
from boxrl.prompts import Prompt, render_target, render_text
from boxrl.types import Sample


def build_dataset(
    samples: Sequence[Sample],
    images: Path,
    prompt: Prompt,
    gold: Family | None = None,
) -> Dataset:
    """Columns `prompt`, `image`, `sample`, and `completion` where gold answers are wanted.

    Images stay on disk and are decoded when a batch needs them. `sample` is the sample's JSON
    line: the rewards read their targets from it.

    Args:
        samples: what to train on.
        images: folder that the samples' image paths start at.
        prompt: how the question is put.
        gold: the family in whose frame gold completions are rendered (SFT); None for RL.

    Raises:
        DataError: an image is missing.
    """
    rows: list[dict[str, Any]] = []
    for sample in samples:
        row: dict[str, Any] = {
            # Plain text: TRL puts the image in front, as render_messages does.
            "prompt": [{"role": "user", "content": render_text(sample, prompt)}],
            "image": str(image_path(images, sample)),
            "sample": render_sample(sample),
        }
        if gold is not None:
            text = render_target(sample, gold)
            row["completion"] = [{"role": "assistant", "content": text}]
        rows.append(row)
    return Dataset.from_list(rows).cast_column("image", Image(mode="RGB"))
