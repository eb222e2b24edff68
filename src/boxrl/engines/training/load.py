"""The longest prompts and completions of a recipe's data, as one process runs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from boxrl.config import Recipe, is_hub_id
from boxrl.data.files import is_whole
from boxrl.data.samples import read_samples
from boxrl.data.synthetic import World, scenes
from boxrl.engines.loading import model_errors
from boxrl.engines.training.paths import path_of_sft, path_of_trl
from boxrl.errors import UsageError
from boxrl.families import Family
from boxrl.generation.hub import find_cached
from boxrl.generation.model_folders import PACKAGED
from boxrl.prompts import build_prompt, render_messages, render_target
from boxrl.types import Sample

SAMPLES_READ = 500
CHARACTERS_PER_TOKEN = 2
"""Where no tokenizer is there to count: digits are a token each, words several letters."""
TEMPLATE_TOKENS = 20
"""What a chat template adds to a question."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one process runs through the model.

    Attributes:
        text: tokens of the longest question seen.
        image: tokens of the largest image.
        grid: rows and columns of its patches; None where an image is shown as tiles.
        completion: tokens of the longest completion.
        groups: prompts in a forward pass.
        group: completions per prompt; 1 for SFT.
        shared: whether the prompt is run once per group, and samples of SFT are packed.
    """

    text: int
    image: int
    grid: tuple[int, int] | None
    completion: int
    groups: int
    group: int
    shared: bool

    @property
    def prompt(self) -> int:
        """Tokens of the prompt."""
        return self.text + self.image

    @property
    def tokens(self) -> int:
        """Tokens of a forward pass."""
        if self.shared:
            return self.groups * (self.prompt + self.group * self.completion)
        return self.groups * self.group * (self.prompt + self.completion)


def build_load(
    recipe: Recipe, family: Family, model: Any, samples: list[Sample] | None, processes: int
) -> Load:
    """What a process runs in a micro-batch.

    Args:
        recipe: prompt, data and sizes of a step.
        family: the model's, with its pixel limits.
        model: its modules; weights are not looked at.
        samples: looked at; the first of the recipe's where None.
        processes: that share the prompts of a step.
    """
    train, config = recipe.train, model.config
    samples = samples or read_some(recipe)
    tokens = token_counter(recipe.model)
    prompt = build_prompt(recipe.prompt)
    grpo = recipe.method == "grpo"
    images = [(count_image_tokens(sample, family, config), sample.size_wh) for sample in samples]
    image, size_wh = max(images)
    text = TEMPLATE_TOKENS + max(
        sum(
            tokens(part.get("text", ""))
            for message in render_messages(sample, prompt, family)
            for part in message["content"]
        )
        for sample in samples
    )
    longest = train.max_completion_length
    if not grpo:
        longest = max(tokens(render_target(sample, family)) for sample in samples)
        if is_whole(cut := train.trl.get("max_length")):
            longest = max(min(longest, cut - text - image), 1)
    path = path_of_trl if grpo else path_of_sft
    return Load(
        text=text,
        image=image,
        grid=_grid(size_wh, family, config),
        completion=longest,
        groups=train.micro_batch_prompts or max(train.prompts_per_step // processes, 1),
        group=train.num_generations if grpo else 1,
        shared=bool(recipe.engine.shared_prefix) and path(model, train.trl) is None,
    )  # fmt: skip


def read_some(recipe: Recipe) -> list[Sample]:
    """The recipe's first samples."""
    if recipe.data.train is not None:
        return read_samples(recipe.data.train)[:SAMPLES_READ]
    return [scene.sample for scene in islice(scenes(World(), 8, recipe.seed, "train"), 8)]


def count_image_tokens(sample: Sample, family: Family, config: Any) -> int:
    """Tokens of the sample's image in the language model.

    Args:
        sample: its image's size is looked at.
        family: with its pixel limits.
        config: of the model, which says it where the family does not.

    Raises:
        UsageError: neither says it.
    """
    tokens: int | None = family.count_image_tokens(sample.size_wh)
    if tokens is None:
        tokens = getattr(config, "image_seq_length", None)
    if tokens is None:
        raise UsageError(
            f"how many tokens family {family.name} makes of an image is not known, so the memory "
            "of a step is not; train a few steps and look at nvidia-smi"
        )
    return tokens


def _grid(size_wh: tuple[int, int], family: Family, config: Any) -> tuple[int, int] | None:
    if not (family.has_limits or family.resizing == "fill"):
        return None
    side = family.factor // getattr(config.vision_config, "spatial_merge_size", 1)
    width, height = family.input_size_wh(size_wh)
    return height // side, width // side


def token_counter(model: str) -> Callable[[str], int]:
    """How many tokens a text has, by the model's own tokenizer where it is there.

    Args:
        model: packaged name, folder, id of the hub, or the name of a published model.
    """
    cached = find_cached(model, weights=False) if is_hub_id(model) else None
    file = (cached or PACKAGED.get(model, Path(model))) / "tokenizer.json"
    if not file.is_file():
        return lambda text: -(-len(text) // CHARACTERS_PER_TOKEN)
    with model_errors(file.parent):
        tokenizer = Tokenizer.from_file(str(file))
    return lambda text: len(tokenizer.encode(text).ids)
