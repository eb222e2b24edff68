"""Generation with transformers: samples in, predictions.jsonl out, resumable."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from boxrl.data.predictions import Prediction, PredictionsFile
from boxrl.data.samples import image_path
from boxrl.engines.models import banned_token_ids
from boxrl.errors import DataError
from boxrl.families import Family
from boxrl.progress import progress_bar
from boxrl.prompts import Prompt, render_messages
from boxrl.types import Sample


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn; temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 1024
    seed: int = 0
    batch_size: int = 32

    def settings(self) -> dict[str, Any]:
        """What a prediction depends on: all but the batch size."""
        return {key: value for key, value in asdict(self).items() if key != "batch_size"}


class Generator:
    """A loaded model that answers samples."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        family: Family,
        prompt: Prompt,
        images: Path,
        control: str | None = None,
    ) -> None:
        self.model = model
        self.processor = processor
        self.family = family
        self.prompt = prompt
        self.images = images
        self.control = control
        self.banned = banned_token_ids(processor, family)
        eos = model.generation_config.eos_token_id
        self.eos = torch.tensor(eos if isinstance(eos, list) else [eos], device=model.device)

    @torch.no_grad()
    def answer(self, samples: Sequence[Sample], sampling: Sampling) -> list[Prediction]:
        """One completion per sample, in order, generated as one left-padded batch."""
        inputs = self._encode(samples)
        # A batch's randomness follows from what is in it, so that a resumed run repeats it.
        torch.manual_seed(zlib.crc32(f"{sampling.seed}/{samples[0].id}".encode()))
        drawn = sampling.temperature > 0
        output = self.model.generate(
            **inputs,
            max_new_tokens=sampling.max_new_tokens,
            do_sample=drawn,
            **({"temperature": sampling.temperature, "top_p": sampling.top_p} if drawn else {}),
            top_k=0 if drawn else None,
            suppress_tokens=self.banned or None,
        )
        completions = output[:, inputs["input_ids"].shape[1] :]
        return [
            self._prediction(sample, ids) for sample, ids in zip(samples, completions, strict=True)
        ]

    def _encode(self, samples: Sequence[Sample]) -> Any:
        conversations = []
        for sample in samples:
            image = load_image(image_path(self.images, sample), sample)
            if self.control == "blank_image":
                image = Image.new("RGB", image.size, (128, 128, 128))
            messages = render_messages(sample, self.prompt)
            messages[0]["content"][0]["image"] = image
            conversations.append(messages)
        inputs = self.processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            processor_kwargs={"padding": True, "return_tensors": "pt"},
        )
        return inputs.to(self.model.device)

    def _prediction(self, sample: Sample, ids: torch.Tensor) -> Prediction:
        ended = torch.isin(ids, self.eos)
        stopped = bool(ended.any())
        length = int(ended.int().argmax()) + 1 if stopped else len(ids)
        return Prediction(
            id=sample.id,
            completion=self.processor.tokenizer.decode(ids[:length], skip_special_tokens=True),
            n_tokens=length,
            finish_reason="stop" if stopped else "length",
            input_size_wh=self.family.input_size_wh(sample.size_wh),
        )


def load_image(path: Path, sample: Sample) -> Image.Image:
    """The sample's image as RGB.

    Raises:
        DataError: it cannot be decoded, or its size is not the one the sample states.
    """
    try:
        with Image.open(path) as image:
            loaded = image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"sample {sample.id!r}: {path} is no readable image ({error})") from error
    if loaded.size != sample.size_wh:
        raise DataError(
            f"sample {sample.id!r}: {path} has {loaded.size[0]} x {loaded.size[1]} pixels, the "
            f"sample says {sample.width} x {sample.height}; boxes would land in the wrong frame. "
            "Run boxrl data lint"
        )
    return loaded


def predict(
    generator: Generator,
    samples: Sequence[Sample],
    out: Path,
    sampling: Sampling,
    facts: dict[str, Any],
    description: str = "predict",
) -> None:
    """Answer every sample that `out` does not hold yet; rows reach the disk batch by batch.

    Args:
        generator: the loaded model.
        samples: what to answer.
        out: predictions.jsonl; settings go into the .meta.json beside it.
        sampling: how completions are drawn.
        facts: what else the predictions depend on: model, samples, versions.
        description: shown beside the progress bar.
    """
    settings = facts | {
        "family": generator.family.name,
        "min_pixels": generator.family.min_pixels,
        "max_pixels": generator.family.max_pixels,
        "prompt": generator.prompt.name,
        "sampling": sampling.settings(),
    }
    file = PredictionsFile(out, settings)
    done = len(file.done)
    with progress_bar(description, len(samples), done) as bar:
        for batch in _batches(samples, file, sampling.batch_size):
            file.append(generator.answer(batch, sampling))
            bar.advance(len(batch))


def _batches(
    samples: Sequence[Sample], file: PredictionsFile, size: int
) -> Iterator[Sequence[Sample]]:
    missing = [sample for sample in samples if sample.id not in file.done]
    for start in range(0, len(missing), size):
        yield missing[start : start + size]
