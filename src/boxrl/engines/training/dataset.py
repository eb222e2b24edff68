"""Samples as the datasets that TRL's trainers take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from boxrl.data.images import check_sample
from boxrl.data.samples import image_path, render_sample
from boxrl.families import Family
from boxrl.generation.chat_template import Thinking
from boxrl.prompts import Prompt, render_messages, render_target
from boxrl.types import Sample


def build_dataset(
    samples: Sequence[Sample],
    images: Path,
    prompt: Prompt,
    family: Family,
    gold: bool = False,
    thinking: Thinking | None = None,
    ending: str = "",
) -> Dataset:
    """Columns `prompt`, `image`, `sample`, and `completion` where gold answers are wanted.

    `image` is a path: `decode_once` opens it when a batch needs it. `sample` is the sample's JSON
    line: the rewards read their targets from it.

    Args:
        samples: what to train on.
        images: folder that the samples' image paths start at.
        prompt: how the question is put.
        family: in whose frame and syntax it is put and answered.
        gold: with gold completions, for SFT.
        thinking: how the chat template treats the thought, for gold completions.
        ending: what stands behind every gold completion.

    Raises:
        DataError: an image is missing, or a sample is none that the model's processor takes.
    """
    thinking = thinking or Thinking()
    rows: list[dict[str, Any]] = []
    for sample in samples:
        check_sample(sample, family)
        row: dict[str, Any] = {
            "prompt": [_plain(m) for m in render_messages(sample, prompt, family)],
            "image": str(image_path(images, sample)),
            "sample": render_sample(sample),
        }
        if gold:
            text = render_target(sample, family, prompt=prompt, opened=thinking.opened)
            row["completion"] = [{"role": "assistant", "content": text + ending}]
        if gold and thinking.template_arguments:
            row["chat_template_kwargs"] = thinking.template_arguments
        rows.append(row)
    return Dataset.from_list(rows)


def _plain(message: dict[str, Any]) -> dict[str, str]:
    """A message with text only; TRL puts the image in front again, as `render_messages` does."""
    text = "".join(part["text"] for part in message["content"] if part["type"] == "text")
    return {"role": message["role"], "content": text}
