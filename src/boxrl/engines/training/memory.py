"""What a training step will need, before a GPU is asked: memory by part, tokens, work.

Parameters are counted on the model's own modules without its weights; what a step keeps follows
from the sizes in config.json. Fragmentation and CUDA's own memory are not in the figures.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from transformers import AutoModelForImageTextToText

from boxrl.config import Recipe
from boxrl.data.samples import read_samples
from boxrl.data.synthetic import World, scenes
from boxrl.engines.build import find_family, recipe_options
from boxrl.engines.loading import model_errors, read_config
from boxrl.engines.prefix.kinds import RECURRENT, SLIDING, layer_kinds
from boxrl.engines.training.paths import path_of_trl
from boxrl.errors import UsageError
from boxrl.families import Family
from boxrl.generation.model_folders import model_folder
from boxrl.prompts import build_prompt, render_messages
from boxrl.types import Sample

GIB = 2**30
SAMPLES_READ = 500
CHARACTERS_PER_TOKEN = 4
CHUNK = 64
"""Tokens that linear attention takes at a time."""
NF4_BYTES = 0.53
"""Bytes of a weight in 4 bits with its doubly quantized scales."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes of one process.

    Attributes:
        memory: by part.
        training: at the peak of forward and backward.
        generating: at the peak of generation.
        facts: tokens and work of a step, in words.
    """

    memory: dict[str, float]
    training: float
    generating: float
    facts: list[str]

    @property
    def peak(self) -> float:
        """The larger one."""
        return max(self.training, self.generating)


@dataclass(frozen=True, slots=True)
class Load:
    """What one process runs through the model.

    Attributes:
        prompt: tokens of the longest prompt seen, its image included.
        patches: of its image.
        completion: tokens of the longest completion.
        groups: prompts in a forward pass.
        group: completions per prompt; 1 for SFT.
        shared: whether the prompt is run once per group.
    """

    prompt: int
    patches: int
    completion: int
    groups: int
    group: int
    shared: bool

    @property
    def tokens(self) -> int:
        """Tokens of a forward pass."""
        if self.shared:
            return self.groups * (self.prompt + self.group * self.completion)
        return self.groups * self.group * (self.prompt + self.completion)

    @property
    def images(self) -> int:
        """Images of a forward pass."""
        return self.groups if self.shared else self.groups * self.group


def estimate(recipe: Recipe, processes: int = 1, strategy: str = "ddp") -> Estimate:
    """The memory of one process and the work of a step.

    Args:
        recipe: what is trained.
        processes: that share the prompts of a step.
        strategy: `ddp`, `zero2`, `zero3` or `fsdp2`: what they share beside that.
    """
    folder = model_folder(recipe.model)
    family = find_family(recipe_options(recipe, recipe.model))
    model = build_empty(folder)
    train = recipe.train
    load = _load(recipe, family, model, processes)
    rows = max(train.prompts_per_step // processes, 1) * load.group
    weight = 2 if _half(recipe, model.config) else 4
    counted = count_parameters(model, recipe, family)
    whole = processes if strategy in ("zero3", "fsdp2") else 1
    states = processes if strategy != "ddp" else 1
    base = NF4_BYTES if train.lora and train.lora.quantize else weight
    # Adapters are in float32 but where DeepSpeed or FSDP want one dtype; see `keep_in_float32`.
    own = 4 if train.lora and strategy == "ddp" else weight
    copies = 2 if train.beta and not train.lora and recipe.method == "grpo" else 1
    default = train.trl.get("activation_checkpointing", recipe.engine.device != "cpu")
    checkpointed = bool(train.trl.get("gradient_checkpointing", default))
    vision_trained = not train.freeze_vision
    activations = language_activations(model.config.get_text_config(), load, weight, checkpointed)
    if vision_trained:
        activations += vision_activations(model.config.vision_config, load, weight, checkpointed)
    memory: dict[str, float] = {
        "weights": copies * counted["base"] * base / whole + counted["adapters"] * own,
        "gradients": counted["trained"] * own / states,
        "optimizer": counted["trained"] * (8 if own == 4 else 12) / states,
        "activations": activations,
        "images": rows * load.patches * patch_values(model.config.vision_config) * 4,
        "KV cache": rows * cache_bytes(model.config.get_text_config(), load, weight),
    }
    if train.trl.get("use_vllm"):
        del memory["KV cache"]  # vLLM keeps its own, inside its share
    kept = memory["weights"] + memory["optimizer"] + memory["images"]
    facts = _facts(counted, load, rows, checkpointed)
    # At the step, when activations are gone, 16-bit gradients become float32.
    step = memory["gradients"] * 4 / own
    training = kept + max(memory["gradients"] + memory["activations"], step)
    # To generate, each process gathers the weights that it holds a part of.
    gathered = counted["base"] * base * (1 - 1 / whole)
    generating = kept + memory.get("KV cache", 0.0) + gathered if recipe.method == "grpo" else 0.0
    return Estimate(memory, training, generating, facts)


def _facts(counted: dict[str, int], load: Load, rows: int, checkpointed: bool) -> list[str]:
    """Tokens and work of a step, in words."""
    passes = rows // max(load.groups * load.group, 1)
    tflop = _step_tflop(counted["language"], load, rows, checkpointed)
    return [
        f"{counted['base'] / 1e6:,.0f} M parameters, {counted['trained'] / 1e6:,.1f} M trained",
        f"longest prompt about {load.prompt:,} tokens, {load.patches:,} patches of its image; "
        f"completions up to {load.completion:,}",
        f"{load.tokens * passes:,} tokens a step through the language model, {tflop:,.1f} TFLOP "
        f"(a GPU that does 200 TFLOP/s needs {tflop / 200:,.2f} s, without generation)",
    ]


def vllm_share(recipe: Recipe) -> float:
    """Share of each GPU, in [0, 1], that a vLLM in the trainer's process takes; 0 without one.

    TRL's `vllm_gpu_memory_utilization`, .3 by default, and `vllm_mode`.
    """
    options = recipe.train.trl
    if not options.get("use_vllm") or options.get("vllm_mode", "colocate") != "colocate":
        return 0.0
    return float(options.get("vllm_gpu_memory_utilization", 0.3))


def visible_memory() -> int | None:
    """Bytes of the first GPU; None where there is none."""
    if not torch.cuda.is_available():
        return None
    total: int = torch.cuda.get_device_properties(0).total_memory
    return total


def build_empty(folder: Any) -> Any:
    """The model's modules without memory for its weights."""
    config = read_config(folder)
    with model_errors(folder), torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


def count_parameters(model: Any, recipe: Recipe, family: Family) -> dict[str, int]:
    """How many numbers the model holds, and how many of them are trained.

    Args:
        model: may lie on the meta device; only its shapes are looked at.
        recipe: says whether adapters are trained, and the vision tower.
        family: names the vision tower.

    Returns:
        Parameters of the `base`, of its `language` model, of `adapters`, and those `trained`.
    """
    lora = recipe.train.lora
    base = language = adapters = trained = 0
    for name, parameter in model.named_parameters():
        vision = name.startswith(f"{family.vision_module}.")
        base += parameter.numel()
        language += 0 if vision else parameter.numel()
        if not lora and not (vision and recipe.train.freeze_vision):
            trained += parameter.numel()
    if lora:
        for name, module in model.named_modules():
            frozen = recipe.train.freeze_vision and name.startswith(f"{family.vision_module}.")
            if isinstance(module, torch.nn.Linear) and name != "lm_head" and not frozen:
                adapters += lora.r * (module.in_features + module.out_features)
        trained = adapters
    return {"base": base, "language": language, "adapters": adapters, "trained": trained}


def language_activations(text: Any, load: Load, item: int, checkpointed: bool) -> float:
    """Bytes that the language model keeps for the backward pass.

    A layer keeps its normalized inputs (6 x hidden), four products of its MLP, and what its
    attention keeps; with checkpointing every layer keeps its input, and one layer at a time the
    rest.

    Args:
        text: the language model's config.
        load: rows and tokens of a forward pass.
        item: bytes of a number.
        checkpointed: whether activations are computed again in the backward pass.
    """
    common = load.tokens * (6 * text.hidden_size + 4 * text.intermediate_size)
    layers = [
        common + (_state_numbers if kind in RECURRENT else _key_numbers)(text, load)
        for kind in layer_kinds(text)
    ]
    inputs = load.tokens * text.hidden_size
    kept = len(layers) * inputs + max(layers) if checkpointed else sum(layers)
    return float(item * (kept + 2 * inputs))


def _key_numbers(text: Any, load: Load) -> int:
    """Queries and outputs, keys and values; keys and values once more for each completion."""
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    queries, keys = text.num_attention_heads * head, text.num_key_value_heads * head
    seen = load.groups * load.group * (load.prompt + load.completion) if load.shared else 0
    return load.tokens * (2 * queries + 2 * keys) + seen * 2 * keys


def _state_numbers(text: Any, load: Load) -> int:
    """What a layer with a state keeps: its projections and, chunk by chunk, what it is made of.

    fla's kernels compute a chunk again in the backward pass; torch keeps its matrices.
    """
    if not hasattr(text, "linear_num_value_heads"):
        return 4 * load.tokens * text.hidden_size  # a short convolution
    heads = text.linear_num_value_heads
    keys, values = text.linear_key_head_dim, text.linear_value_head_dim
    projected = 2 * text.linear_num_key_heads * keys + heads * values
    per_token = 3 * projected + 4 * heads * values
    if importlib.util.find_spec("fla"):
        return load.tokens * per_token
    rows = load.groups if load.shared else 0
    chunked = rows * _whole_chunks(load.prompt) + load.groups * load.group * _whole_chunks(
        load.completion + (0 if load.shared else load.prompt)
    )
    return load.tokens * per_token + chunked * heads * (6 * CHUNK + 10 * max(keys, values))


def _whole_chunks(tokens: int) -> int:
    return -(-tokens // CHUNK) * CHUNK


def vision_activations(vision: Any, load: Load, item: int, checkpointed: bool) -> float:
    """Bytes that the vision tower keeps for the backward pass.

    Args:
        vision: the tower's config; the others as of `language_activations`.
        load: images and patches of a forward pass.
        item: bytes of a number.
        checkpointed: whether activations are computed again in the backward pass.
    """
    layers = getattr(vision, "depth", None) or vision.num_hidden_layers
    tokens = load.images * load.patches
    layer = tokens * (12 * vision.hidden_size + 4 * vision.intermediate_size)
    kept = layers * tokens * vision.hidden_size + layer if checkpointed else layers * layer
    return float(item * kept)


def cache_bytes(text: Any, load: Load, item: int) -> int:
    """Bytes of the keys, values and states of one row at its longest.

    Args:
        text: the language model's config.
        load: tokens of a prompt and of a completion.
        item: bytes of a number.
    """
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    length, total = load.prompt + load.completion, 0
    for kind in layer_kinds(text):
        seen = min(length, text.sliding_window) if kind == SLIDING else length
        if kind not in RECURRENT:
            total += seen * 2 * text.num_key_value_heads * head * item
        elif hasattr(text, "linear_num_value_heads"):
            state = text.linear_key_head_dim * text.linear_value_head_dim
            total += text.linear_num_value_heads * state * 4  # float32
    return total


def patch_values(vision: Any) -> int:
    """Numbers of one patch of an image."""
    side = vision.patch_size if isinstance(vision.patch_size, int) else vision.patch_size[0]
    frames = getattr(vision, "temporal_patch_size", 1)
    values: int = 3 * frames * side**2
    return values


def _load(recipe: Recipe, family: Family, model: Any, processes: int) -> Load:
    train = recipe.train
    text, samples = _text_tokens(recipe, family)
    image, patches = max(_image_tokens(sample, family, model.config) for sample in samples)
    groups = train.micro_batch_prompts or max(train.prompts_per_step // processes, 1)
    grpo = recipe.method == "grpo"
    balance = train.trl.get("router_aux_loss_coef")
    return Load(
        prompt=text + image,
        patches=patches,
        completion=train.max_completion_length if grpo else 200,
        groups=groups,
        group=train.num_generations if grpo else 1,
        shared=grpo and bool(recipe.engine.shared_prefix) and path_of_trl(model, balance) is None,
    )


def _text_tokens(recipe: Recipe, family: Family) -> tuple[int, list[Sample]]:
    """Tokens of the longest question, about, and the samples that were looked at."""
    if recipe.data.train is not None:
        samples = read_samples(recipe.data.train)[:SAMPLES_READ]
    else:
        samples = [s.sample for s in islice(scenes(World(), 8, recipe.seed, "train"), 8)]
    prompt = build_prompt(recipe.prompt)
    lengths = [
        sum(
            len(part.get("text", ""))
            for message in render_messages(sample, prompt, family)
            for part in message["content"]
        )
        for sample in samples
    ]
    return max(lengths) // CHARACTERS_PER_TOKEN + 20, samples


def _image_tokens(sample: Sample, family: Family, config: Any) -> tuple[int, int]:
    """Tokens of the sample's image in the language model, and its patches in the tower."""
    tokens = family.count_image_tokens(sample.size_wh)
    if tokens is None:
        tokens = getattr(config, "image_seq_length", None)
    if tokens is None:
        raise UsageError(
            f"how many tokens family {family.name} makes of an image is not known, so the memory "
            "of a step is not; train a few steps and look at nvidia-smi"
        )
    merge = getattr(config.vision_config, "spatial_merge_size", 2)
    return tokens, tokens * merge**2


def _half(recipe: Recipe, config: Any) -> bool:
    if recipe.engine.dtype != "auto":
        return recipe.engine.dtype == "bfloat16"
    return recipe.engine.device != "cpu" and config.dtype in (torch.bfloat16, torch.float16)


def _step_tflop(parameters: int, load: Load, rows: int, checkpointed: bool) -> float:
    """2 per parameter and token forwards, twice that backwards, once more where recomputed."""
    passes = rows / max(load.groups * load.group, 1)
    return (8 if checkpointed else 6) * parameters * load.tokens * passes / 1e12
