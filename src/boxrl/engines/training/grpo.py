"""GRPO on box rewards: TRL's trainer with boxrl's prompts, rewards and log."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed
from trl import GRPOConfig

from boxrl.config import Recipe, dump_recipe
from boxrl.engines.build import find_thinking, recipe_options
from boxrl.engines.loading import banned_token_ids
from boxrl.engines.prefix.kernels import refuse_attention
from boxrl.engines.steps import check_generation
from boxrl.engines.training.dataset import build_dataset
from boxrl.engines.training.grpo_trainer import BoxGRPOTrainer
from boxrl.engines.training.lora import refuse_ends
from boxrl.engines.training.second_look import build_verifier
from boxrl.errors import UsageError
from boxrl.families import Family
from boxrl.prompts import build_prompt
from boxrl.rewards.trl import TRLReward
from boxrl.runs import Launch
from boxrl.types import Sample


def build_trainer(
    recipe: Recipe,
    model: Any,
    processor: Any,
    family: Family,
    samples: Sequence[Sample],
    images: Path,
) -> BoxGRPOTrainer:
    """The trainer of a GRPO recipe; checkpoints go to the recipe's run folder.

    Args:
        recipe: rewards, sizes of a step, the run folder.
        model: loaded, on its device.
        processor: the model's.
        family: the frame in which it answers.
        samples: what is asked.
        images: folder that the samples' image paths start at.

    Raises:
        UsageError: the machine does not run the attention that is asked for, the samples do not
            fill a generation, or a process would hold a part of a group.
    """
    config = build_config(recipe, model, banned_token_ids(processor, family))
    check_generation(config.generation_batch_size // config.num_generations, len(samples))
    prompt = build_prompt(recipe.prompt)
    thinking = find_thinking(recipe_options(recipe, recipe.model), prompt)
    verifier = build_verifier(recipe, images)
    return BoxGRPOTrainer(
        **common_arguments(recipe, model, processor, family, config),
        reward_funcs=[
            TRLReward(
                entry.reward,
                family,
                opened=thinking.opened,
                answer_tag=prompt.answer_tag,
                verifier=verifier,
            )
            for entry in recipe.rewards
        ],
        train_dataset=build_dataset(samples, images, prompt, family),
        completions_path=recipe.out / "completions.jsonl",
        opened=thinking.opened,
        answer_tag=prompt.answer_tag,
    )


def common_arguments(
    recipe: Recipe, model: Any, processor: Any, family: Family, config: Any
) -> dict[str, Any]:
    """What both trainers are built with; arguments as `build_trainer`, and TRL's config.

    Raises:
        UsageError: the recipe's adapters cannot be trained or merged, or the machine does not run
            the attention that is asked for.
    """
    half = config.bf16 or config.fp16 or model.dtype != torch.float32
    refuse_attention(recipe.engine.attention, model.device, half)
    lora = build_lora(recipe, family)
    refuse_ends(model, lora)
    set_seed(recipe.seed)  # adapters are drawn before TRL seeds
    return {
        "model": model,
        "args": config,
        "processing_class": processor,
        "peft_config": lora,
        "family": family,
        "recipe": dump_recipe(recipe),
        "vision_learning_rate": recipe.train.vision_learning_rate,
        "shared_prefix": recipe.engine.shared_prefix,
        "attention": recipe.engine.attention,
        "prompts_per_image": recipe.train.prompts_per_image,
    }


def build_config(recipe: Recipe, model: Any, banned: list[int]) -> GRPOConfig:
    """The recipe in TRL's words; whatever stands under `train.trl` has the last word."""
    train = recipe.train
    micro, accumulate = split_step(recipe)
    options: dict[str, Any] = common_options(recipe, model) | {
        "per_device_train_batch_size": micro * train.num_generations,
        "gradient_accumulation_steps": accumulate,
        "num_generations": train.num_generations,
        "max_completion_length": train.max_completion_length,
        "temperature": train.temperature,
        "top_p": train.top_p,
        "beta": train.beta,
        "chat_template_kwargs": template_arguments(recipe),
        "reward_weights": [entry.weight for entry in recipe.rewards],
    }
    generation = ban(
        train.trl.get("generation_kwargs") or {}, banned, bool(train.trl.get("use_vllm"))
    )
    return checked_config(GRPOConfig, options | train.trl | {"generation_kwargs": generation})


def template_arguments(recipe: Recipe) -> dict[str, Any]:
    """What the chat template is rendered with besides the messages."""
    return find_thinking(recipe_options(recipe, recipe.model)).template_arguments


def ban(generation: dict[str, Any], tokens: list[int], vllm: bool) -> dict[str, Any]:
    """Generation options under which these tokens are never sampled, whatever else is asked.

    Args:
        generation: options of transformers' GenerationConfig or vLLM's SamplingParams.
        tokens: ids of the tokens.
        vllm: whose options they are; each has its own way to ban.
    """
    if not tokens:
        return generation
    if vllm:
        bias = generation.get("logit_bias") or {}
        return generation | {"logit_bias": bias | dict.fromkeys(tokens, -100.0)}
    return generation | {"suppress_tokens": [*(generation.get("suppress_tokens") or []), *tokens]}


def checked_config(config: Any, options: dict[str, Any]) -> Any:
    """TRL's config; what it refuses is a mistake in the recipe.

    Args:
        config: GRPOConfig or SFTConfig.
        options: where one stands under two names, the later is taken.

    Raises:
        UsageError: an option that TRL does not know, or options that do not go together.
    """
    # transformers renamed it after 5.19, the last that vLLM goes with; the new name alone is
    # heard where both are.
    names = ("gradient_checkpointing", "activation_checkpointing")
    name = names[hasattr(config, names[1])]
    spelled = {re.sub("|".join(names), name, key): value for key, value in options.items()}
    for key, value in spelled.items():
        if value is False and key.endswith("_strategy"):
            spelled[key] = "no"  # which YAML reads as false
    try:
        built = config(**spelled)
    except (TypeError, ValueError) as error:
        reason = str(error).removeprefix(f"{config.__name__}.__init__() ")
        raise UsageError(f"train.trl: {config.__name__} refuses the recipe: {reason}") from error
    if built.n_gpu > 1:
        built._n_gpu = 1  # else torch's DataParallel, which TRL refuses; see `take_gpu`
    return built


def split_step(recipe: Recipe) -> tuple[int, int]:
    """Prompts of one forward pass of one process, and how many passes an optimizer step takes.

    Raises:
        UsageError: the prompts of a step cannot be dealt to the processes, or those of an image
            not to one pass.
    """
    prompts, processes = recipe.train.prompts_per_step, Launch.read().world
    micro = recipe.train.micro_batch_prompts or max(prompts // processes, 1)
    if prompts % (micro * processes):
        raise UsageError(
            f"train.prompts_per_step is {prompts}; expected a multiple of micro_batch_prompts x "
            f"processes = {micro} x {processes}"
        )
    if recipe.train.prompts_per_image > micro:
        raise UsageError(
            f"train.prompts_per_image is {recipe.train.prompts_per_image}; expected at most the "
            f"{micro} prompts of a micro-batch, {prompts} of a step on {processes} processes"
        )
    return micro, prompts // (micro * processes)


def common_options(recipe: Recipe, model: Any) -> dict[str, Any]:
    """Options that GRPOConfig and SFTConfig share."""
    on_cpu = model.device.type == "cpu"
    deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"  # by accelerate launch
    return {
        "output_dir": str(recipe.out / "checkpoints"),
        "max_steps": recipe.train.max_steps,
        "learning_rate": recipe.train.learning_rate,
        "lr_scheduler_type": "constant_with_warmup",
        "save_steps": recipe.train.save_steps,
        # Beside those that are kept by count, the best one stays.
        "save_total_limit": recipe.train.keep_checkpoints + bool(recipe.train.validate_samples),
        "seed": recipe.seed,
        "logging_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
        # accelerate runs DeepSpeed on a CPU where it is told of gloo and not of the CPU.
        "use_cpu": on_cpu and not deepspeed,
        "ddp_backend": "gloo" if on_cpu and deepspeed else None,
        "bf16": not on_cpu and recipe.engine.dtype != "float32",
        "activation_checkpointing": not on_cpu,
        "dataloader_pin_memory": not on_cpu,
        "ddp_find_unused_parameters": False,
    }


def build_lora(recipe: Recipe, family: Family) -> Any:
    """Peft's LoraConfig, or None for full fine-tuning."""
    lora = recipe.train.lora
    if lora is None:
        return None
    from peft import LoraConfig

    vision = re.escape(family.vision_module)
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        exclude_modules=rf"(.*\.)?{vision}\..*" if recipe.train.freeze_vision else None,
        task_type="CAUSAL_LM",
    )
