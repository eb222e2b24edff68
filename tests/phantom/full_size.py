"""Full-size models without weights: folders as boxrl reads them, built hollow on a phantom GPU."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image
from transformers import Qwen2_5_VLConfig, Qwen3VLConfig

from boxrl.config import Recipe
from boxrl.data.samples import write_samples
from boxrl.engines.training import grpo_trainer, train, trainer_mixin
from boxrl.engines.training.failures import training_errors
from boxrl.generation.model_folders import model_folder
from boxrl.types import Object, Sample

from .gpu import GIB, phantom_gpu
from .runs import build, run

SIZES: dict[str, dict[str, Any]] = {
    "qwen2.5-vl-3b": {
        "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
        "num_attention_heads": 16, "num_key_value_heads": 2, "vocab_size": 151936,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6,
                            "mrope_section": [16, 24, 24]},
    },
    "qwen2.5-vl-7b": {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6,
                            "mrope_section": [16, 24, 24]},
    },
    "qwen3-vl-4b": {
        "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "vocab_size": 151936,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e6,
                            "mrope_section": [24, 20, 20], "mrope_interleaved": True},
    },
}  # fmt: skip
"""Of the language models, from their config.json on the hub."""

VISION: dict[str, dict[str, Any]] = {
    "qwen2.5-vl": {
        "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
        "patch_size": 14, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
    },
    "qwen3-vl": {
        "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16,
        "patch_size": 16, "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [5, 11, 17],
    },
}  # fmt: skip


def build_config(name: str) -> Any:
    """The config of a model by name, on the packaged tokenizer's special tokens."""
    kind = name.rpartition("-")[0]
    packaged = json.loads((model_folder("tiny") / "config.json").read_text("utf-8"))
    special = {key: value for key, value in packaged.items() if key.endswith("_token_id")}
    ends = {key: special.get(key, 0) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = {"max_position_embeddings": 128000, "rms_norm_eps": 1e-6, **ends, **SIZES[name]}
    vision = {
        "spatial_merge_size": 2, "temporal_patch_size": 2,
        "out_hidden_size": text["hidden_size"], **VISION[kind],
    }  # fmt: skip
    tied = not name.endswith("7b")
    text["tie_word_embeddings"] = tied
    cls = Qwen2_5_VLConfig if kind == "qwen2.5-vl" else Qwen3VLConfig
    config = cls(text_config=text, vision_config=vision, tie_word_embeddings=tied, **special)
    config.dtype = torch.bfloat16
    config.architectures = [f"{cls.__name__.removesuffix('Config')}ForConditionalGeneration"]
    return config


def save_folder(name: str, folder: Path) -> Path:
    """A model folder without weights."""
    config = build_config(name)
    config.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
                 "generation_config.json"):  # fmt: skip
        shutil.copy(model_folder("tiny") / file, folder)
    processor = json.loads((model_folder("tiny") / "processor_config.json").read_text("utf-8"))
    patch = config.vision_config.patch_size
    for key in ("image_processor", "video_processor"):
        limits = {"shortest_edge": 4 * (2 * patch) ** 2, "longest_edge": 16384 * (2 * patch) ** 2}
        processor[key] |= {"patch_size": patch, "size": limits}
    (folder / "processor_config.json").write_text(json.dumps(processor))
    return folder


def save_scenes(folder: Path, name: str, tokens: tuple[int, int], count: int = 4) -> Path:
    """Grey images of so many tokens by rows and columns, an object in each."""
    side = 2 * build_config(name).vision_config.patch_size
    height, width = tokens[0] * side, tokens[1] * side
    (folder / "images").mkdir(parents=True)
    samples = []
    for number in range(count):
        Image.new("RGB", (width, height), (number, 128, 128)).save(
            folder / "images" / f"{number}.png"
        )
        samples.append(
            Sample(
                id=str(number), image=f"{number}.png", width=width, height=height,
                task="detection", labels=("cat",), objects=(Object((1, 1, 20, 20), "cat"),),
            )
        )  # fmt: skip
    write_samples(folder / "samples.jsonl", samples)
    return folder


def hollow(patch: pytest.MonkeyPatch, lengths: tuple[int, ...] | None = None) -> None:
    """Models are built where they would be loaded, completions drawn without them, all different.

    Args:
        patch: undoes it.
        lengths: tokens of completions, cycled over the rows; the longest allowed by default.
    """

    def load(
        cls: Any,
        folder: Any,
        *_: Any,
        dtype: Any = None,
        device_map: Any = None,
        output_loading_info: bool = False,
        **__: Any,
    ) -> Any:
        device = device_map[""] if isinstance(device_map, dict) else "cuda"
        config = transformers.AutoConfig.from_pretrained(folder)
        if dtype in (None, "auto"):
            dtype = config.dtype
        elif isinstance(dtype, str):
            dtype = getattr(torch, dtype)
        with torch.device(device):
            model = cls._from_config(config, dtype=dtype)
        model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
        model.name_or_path = str(folder)
        found: dict[str, list[str]] = {"missing_keys": [], "unexpected_keys": []}
        return (model, found) if output_loading_info else model

    def draw(prompts: Any, generation_config: Any) -> Any:
        longest = generation_config.max_new_tokens
        end = generation_config.eos_token_id
        drawn = torch.full((len(prompts), longest), end[0] if isinstance(end, list) else end)
        for row in range(len(prompts)):
            drawn[row, : lengths[row % len(lengths)] if lengths else longest] = 20 + row
        return torch.cat([prompts, drawn.to(prompts.device)], 1)

    patch.setattr(transformers.PreTrainedModel, "from_pretrained", classmethod(load))
    patch.setattr(
        grpo_trainer,
        "generate_groups",
        lambda model, inputs, size, generation_config: draw(inputs["input_ids"], generation_config),
    )
    patch.setattr(
        transformers.GenerationMixin,
        "generate",
        lambda model, input_ids, generation_config, **_: draw(input_ids, generation_config),
    )


def recipe_of(folder: Path, model: Path, out: Path, **options: Any) -> Recipe:
    """One micro-batch a step on the scenes of `folder`; `options` override the train section."""
    engine = options.pop("engine", {})
    trl = {"save_strategy": "no", **options.pop("trl", {})}  # nothing to save
    return Recipe.model_validate(
        {
            "name": "full-size", "method": "grpo", "out": out, "model": str(model),
            "data": {"train": folder / "samples.jsonl", "images": folder / "images"},
            "rewards": ["format", "f1"],
            "train": {
                "max_steps": 1, "learning_rate": 1e-6, "prompts_per_step": 1,
                "micro_batch_prompts": 1, "num_generations": 8, "max_completion_length": 200,
                "trl": trl, **options,
            },
            "engine": {"threads": 1, **engine},
        }
    )  # fmt: skip


@dataclass(frozen=True)
class Step:
    """What one optimizer step took on the device.

    Attributes:
        peak: bytes, whatever was held before included.
        inputs: bytes of the peak before the forward pass above what was held: images and ids.
        flops, attention_flops: of forward and backward pass, as the other counts.
        kernels: launched.
        syncs: how often the host waited.
    """

    peak: int
    inputs: int
    flops: float
    attention_flops: float
    kernels: int
    syncs: int


def measure(
    recipe: Recipe,
    lengths: tuple[int, ...] | None = None,
    memory: int = 1000 * GIB,
    check: bool = False,
) -> list[Step]:
    """Train the recipe's steps on a phantom GPU with hollow numbers.

    Args:
        recipe: of a folder without weights.
        lengths: see `hollow`.
        memory: bytes of the GPU.
        check: the first micro-batch is compared with TRL's path, which takes as long again.

    Raises:
        UsageError: the memory does not suffice; see `train`.
    """
    found = []
    recipe.out.mkdir(parents=True)
    with (
        pytest.MonkeyPatch.context() as patch,
        phantom_gpu(floats="hollow", memory=memory) as gpu,
        training_errors(recipe, lambda: len(found)),
    ):
        hollow(patch, lengths)
        # Nothing is left to the phantom's memory: activations are computed again by default.
        patch.setattr(train, "_settle", lambda recipe: (recipe, ""))
        if not check:
            patch.setattr(trainer_mixin.BoxTrainer, "_check_first", lambda *_: None)
        trainer = build(recipe)
        step, loss = trainer.training_step, trainer.compute_loss
        before: list[int] = []

        def compute_loss(*args: Any, **kwargs: Any) -> Any:
            before.append(gpu.peak_bytes)
            gpu.reset()  # after generation, which is a stand-in here
            return loss(*args, **kwargs)

        def training_step(*args: Any, **kwargs: Any) -> Any:
            gpu.reset()
            held = gpu.bytes
            result = step(*args, **kwargs)
            first = before.pop()
            peak, inputs = max(first, gpu.peak_bytes), first - held
            syncs = sum(gpu.syncs.values())
            found.append(Step(peak, inputs, gpu.flops, gpu.attention_flops, gpu.kernels, syncs))
            return result

        trainer.training_step, trainer.compute_loss = training_step, compute_loss
        run(trainer, recipe)
    return found
