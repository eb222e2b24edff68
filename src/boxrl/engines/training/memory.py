"""What a training step will need, before a GPU is asked: memory by part, tokens, work.

A micro-batch of the longest prompts and completions runs through the model's own modules without
numbers, and what lives at its peak is counted (`hollow`); what it does not hold is added. Kernels'
workspaces, fragmentation and CUDA's own memory are not in the figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText

from boxrl.config import Recipe
from boxrl.engines.build import recipe_options
from boxrl.engines.known_models import find_config, find_known_family
from boxrl.engines.loading import model_errors, quiet
from boxrl.engines.prefix.kinds import FULL, RECURRENT, SLIDING, layer_kinds
from boxrl.engines.steps import prompts_generated
from boxrl.engines.torchvision_repair import repair_torchvision
from boxrl.engines.training.load import Load, build_load
from boxrl.engines.training.micro_batch import (
    Counted,
    Work,
    build_rows,
    count,
    image_bytes,
    measure,
    measure_prefill,
    prepare,
)
from boxrl.errors import UsageError
from boxrl.types import Sample

GIB = 2**30
NF4_BYTES = 0.53
"""Bytes of a weight in 4 bits with its doubly quantized scales."""
KEPT = ("weights", "optimizer", "images", "average", "verifier")
"""Parts of the memory that are held all the time."""
SHARES_WEIGHTS = frozenset({"zero3", "fsdp2"})
SHARES_STATE = SHARES_WEIGHTS | {"zero2"}
LIVE, BUCKET = 1_000_000_000, 500_000_000
"""Weights that DeepSpeed's stage 3 holds gathered at once, and gradients in a bucket of stage 2."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes of one process.

    Attributes:
        memory: by part.
        training: at the peak of forward and backward.
        stepping: while the optimizer steps.
        generating: at the peak of generation.
        facts: tokens and work of a step, in words.
    """

    memory: dict[str, float]
    training: float
    stepping: float
    generating: float
    facts: list[str]

    @property
    def kept(self) -> float:
        """What is held all the time: weights, the optimizer's state, images."""
        return sum(self.memory.get(name, 0) for name in KEPT)

    @property
    def peak(self) -> float:
        """The largest one."""
        return max(self.training, self.stepping, self.generating)


def estimate(
    recipe: Recipe, processes: int = 1, strategy: str = "ddp", samples: list[Sample] | None = None
) -> Estimate:
    """The memory of one process and the work of a step.

    Args:
        recipe: what is trained; its model may be the name of a published one.
        processes: that share the prompts of a step.
        strategy: `ddp`, `zero2`, `zero3` or `fsdp2`: what they share beside that.
        samples: the largest ones of the data; those of the recipe where None.

    Raises:
        UsageError: neither a model folder nor a known name, or a model that cannot be run.
    """
    family = find_known_family(recipe_options(recipe, recipe.model))
    model = build_empty(recipe)
    load = build_load(recipe, family, model, samples, processes)
    prompts = max(recipe.train.prompts_per_step // processes, 1)
    drawn = prompts_generated(recipe, load.groups * processes) // processes or prompts
    half, options = in_half(recipe), recipe.train.trl
    shares = processes > 1 and strategy in SHARES_STATE
    with counting_errors(recipe.model):
        prefill = 0
        if recipe.method == "grpo" and not options.get("use_vllm"):
            prefill = measure_prefill(model, load, drawn, half=half)
        prepared = prepare(model, recipe, family, shared=load.shared)
        counted = count(prepared)
        work = measure(
            prepared, load, build_rows(model.config, load),
            half=half, again=prompts > load.groups, keep_gradients=not shares,
            smoothing=options.get("label_smoothing_factor", 0.0) if recipe.method == "sft" else 0.0,
        )  # fmt: skip
    memory = held(recipe, counted, processes, strategy)
    if recipe.verifier is not None and recipe.verifier.is_local:
        beside = build_empty(recipe.model_copy(update={"model": recipe.verifier.model}))
        memory["verifier"] = float(count(beside).weights)
    own = image_bytes(model.config, load)
    memory["images"] = drawn * own
    memory["activations"] = work.peak - counted.weights - load.groups * own
    if not shares:
        memory["activations"] -= counted.gradients
    if lora_bits(recipe):
        memory["activations"] += counted.largest  # a layer's weights, as they are computed with
    kept = sum(memory.get(name, 0) for name in KEPT)
    training = kept + memory["gradients"] + memory["activations"] + memory.get("gathered", 0)
    stepping = kept + max(memory["gradients"], 0 if shares else gradient_copies(counted))
    generating = 0.0
    if recipe.method == "grpo":
        cache = 0.0
        if not options.get("use_vllm"):  # vLLM keeps its own, inside its share
            item = 2 if half else model.dtype.itemsize
            cache = cache_bytes(model.config.get_text_config(), load, drawn, item)
            memory["KV cache"] = cache
        generating = kept + max(cache, prefill)
        if processes > 1 and strategy in SHARES_WEIGHTS:  # each process gathers all weights
            generating += counted.weights * (1 - 1 / processes)
    facts = _facts(counted, load, prompts, work)
    if "optim" in options:
        facts.append(
            f"the optimizer is counted as AdamW in float32; train.trl.optim {options['optim']} may "
            "keep less (in 8 bits a quarter) or more"
        )
    return Estimate(memory, training, stepping, generating, facts)


@contextmanager
def counting_errors(model: str) -> Iterator[None]:
    """A model may do with its numbers what shapes alone do not allow.

    Args:
        model: its name.

    Raises:
        UsageError: instead of anything else.
    """
    try:
        yield
    except Exception as error:
        said = " ".join(str(error).split())
        raise UsageError(
            f"{model}: its steps cannot be counted without a GPU ({said:.200}); train a few with "
            "train.max_steps=2 and look at the GPU's memory"
        ) from error


def held(recipe: Recipe, counted: Counted, processes: int, strategy: str) -> dict[str, float]:
    """Bytes of weights, gradients and the optimizer's state of one process.

    Args:
        recipe: says whether a frozen copy is kept, and in how many bits the base is.
        counted: of the prepared model.
        processes: that train.
        strategy: see `estimate`.
    """
    weights = float(counted.weights)
    if lora_bits(recipe):
        weights -= counted.linear * (1 - NF4_BYTES / 2)
    if recipe.method == "grpo" and recipe.train.beta and not recipe.train.lora:
        weights += counted.weights
    gradients, state = float(counted.gradients), optimizer_bytes(counted)
    found = {}
    if recipe.train.average_last:
        found["average"] = 4.0 * sum(counted.trained.values())
    if processes > 1 and strategy in SHARES_STATE:
        gradients, state = gradients / processes, state / processes
        trained = sum(counted.trained.values())
        found["gathered"] = 2.0 * (
            min(LIVE, counted.weights // 2)
            if strategy in SHARES_WEIGHTS
            else 2 * min(BUCKET, trained)
        )
        if strategy in SHARES_WEIGHTS:
            weights /= processes
    elif processes > 1:
        gradients *= 2  # buckets that the processes add up
    return {"weights": weights, "gradients": gradients, "optimizer": state, **found}


def optimizer_bytes(counted: Counted) -> float:
    """AdamW's two numbers per trained weight in float32; of 16-bit weights a float32 copy, too."""
    return float(
        sum((8 if kind == torch.float32 else 12) * n for kind, n in counted.trained.items())
    )


def gradient_copies(counted: Counted) -> float:
    """Gradients in float32, as the optimizer takes those of 16-bit weights."""
    return float(sum(4 * n for kind, n in counted.trained.items() if kind != torch.float32))


def least(recipe: Recipe, processes: int, strategy: str) -> float:
    """Bytes that a process needs whatever its micro-batch is; quick to know.

    Arguments as `estimate`.
    """
    family = find_known_family(recipe_options(recipe, recipe.model))
    counted = count(prepare(build_empty(recipe), recipe, family, shared=False))
    found = held(recipe, counted, processes, strategy)
    return sum(found.values()) - found.get("gathered", 0)


def lora_bits(recipe: Recipe) -> str | None:
    """In how many bits the base model is kept; None where it is as stored."""
    lora = recipe.train.lora
    return lora.quantize if lora else None


def in_half(recipe: Recipe) -> bool:
    """Whether the trainer computes under autocast to bfloat16."""
    engine = recipe.engine
    return bool(recipe.train.trl.get("bf16", engine.device != "cpu" and engine.dtype != "float32"))


def _facts(counted: Counted, load: Load, prompts: int, work: Work) -> list[str]:
    """Tokens and work of a step, in words."""
    passes = prompts // load.groups
    tflop = work.flops * passes / 1e12
    return [
        f"{counted.parameters / 1e6:,.0f} M parameters, "
        f"{sum(counted.trained.values()) / 1e6:,.1f} M trained",
        f"longest prompt about {load.prompt:,} tokens, {load.image:,} of them its image; "
        f"completions up to {load.completion:,}",
        f"{load.tokens * passes:,} tokens a step through the language model, {tflop:,.1f} TFLOP "
        f"(a GPU that does 200 TFLOP/s needs {tflop / 200:,.2f} s, without generation), "
        f"{work.kernels * passes:,} kernels",
    ]


def vllm_share(recipe: Recipe) -> float:
    """Share of each GPU, in [0, 1], that a vLLM in the trainer's process takes; 0 without one.

    TRL's `vllm_gpu_memory_utilization`, .3 by default, and `vllm_mode`.
    """
    options = recipe.train.trl
    if not options.get("use_vllm") or options.get("vllm_mode", "colocate") != "colocate":
        return 0.0
    return float(options.get("vllm_gpu_memory_utilization", 0.3))


def needed_with_vllm(recipe: Recipe, found: Estimate, available: float) -> float:
    """Bytes of one GPU that a process needs together with a vLLM in it.

    A vLLM with TRL's `vllm_enable_sleep_mode` gives its memory back while the process trains.

    Args:
        recipe: see `vllm_share`.
        found: what the process needs by itself.
        available: bytes of the GPU.
    """
    share = vllm_share(recipe) * available
    if not recipe.train.trl.get("vllm_enable_sleep_mode"):
        return found.peak + share
    return max(found.training, found.stepping, found.generating + share)


def visible_memory() -> int | None:
    """Bytes of the first GPU; None where there is none."""
    if not torch.cuda.is_available():
        return None
    total: int = torch.cuda.get_device_properties(0).total_memory
    return total


def build_empty(recipe: Recipe) -> Any:
    """The model's modules in the precision of the recipe, without memory for their weights."""
    quiet()
    config = find_config(recipe.model)
    engine = recipe.engine
    dtype = torch.float32
    if engine.dtype == "bfloat16" or (engine.dtype == "auto" and engine.device != "cpu"):
        stored = config.dtype in (torch.bfloat16, torch.float16)
        dtype = torch.bfloat16 if stored or engine.dtype == "bfloat16" else torch.float32
    repair_torchvision()
    with model_errors(Path(recipe.model)), torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config, dtype=dtype)


def cache_bytes(text: Any, load: Load, prompts: int, item: int) -> int:
    """Bytes of the keys, values and states of a generation at its longest.

    A prompt's keys stand once for its completions where all layers see all tokens.

    Args:
        text: the language model's config.
        load: tokens of a prompt and of a completion, and completions per prompt.
        prompts: that are generated for at once.
        item: bytes of a number.
    """
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    kinds = layer_kinds(text)
    once = load.shared and set(kinds) <= RECURRENT | {FULL}
    length, total = load.prompt + load.completion, 0
    rows = prompts * load.group
    for kind in kinds:
        seen = rows * (min(length, text.sliding_window) if kind == SLIDING else length)
        if once:
            seen = prompts * load.prompt + rows * load.completion
        if kind not in RECURRENT:
            total += seen * 2 * text.num_key_value_heads * head * item
        elif hasattr(text, "linear_num_value_heads"):
            state = text.linear_key_head_dim * text.linear_value_head_dim
            total += rows * text.linear_num_value_heads * state * 4  # float32
    return total
