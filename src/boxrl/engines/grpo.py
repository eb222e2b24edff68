"""GRPO on box rewards: TRL's trainer with boxrl's prompts, rewards and log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import set_seed
from trl import GRPOConfig

from boxrl.config import Recipe, reward_spec
from boxrl.engines.dataset import build_dataset
from boxrl.engines.grpo_trainer import BoxGRPOTrainer
from boxrl.engines.models import banned_token_ids
from boxrl.families import Family
from boxrl.prompts import build_prompt
from boxrl.rewards import build_reward
from boxrl.rewards.trl import TRLReward
from boxrl.types import Sample


def build_trainer(
    recipe: Recipe,
    model: Any,
    processor: Any,
    family: Family,
    samples: Sequence[Sample],
    images: Path,
) -> BoxGRPOTrainer:
    """The trainer of a GRPO recipe; checkpoints go to the recipe's run folder."""
    set_seed(recipe.seed)  # adapters are drawn before TRL sets the seed
    return BoxGRPOTrainer(
        model=model,
        args=build_config(recipe, model, banned_token_ids(processor, family)),
        reward_funcs=[TRLReward(build_reward(reward_spec(r)), family) for r in recipe.rewards],
        train_dataset=build_dataset(samples, images, build_prompt(recipe.prompt), family),
        processing_class=processor,
        peft_config=build_lora(recipe),
        family=family,
        shared_prefix=recipe.engine.shared_prefix,
        completions_path=recipe.out / "completions.jsonl",
    )


def build_config(recipe: Recipe, model: Any, banned: list[int]) -> GRPOConfig:
    """The recipe in TRL's words; whatever stands under `train.trl` has the last word."""
    train = recipe.train
    micro = train.micro_batch_prompts or train.prompts_per_step
    options: dict[str, Any] = common_options(recipe, model) | {
        "per_device_train_batch_size": micro * train.num_generations,
        "gradient_accumulation_steps": train.prompts_per_step // micro,
        "num_generations": train.num_generations,
        "max_completion_length": train.max_completion_length,
        "temperature": train.temperature,
        "top_p": train.top_p,
        "beta": train.beta,
        "reward_weights": recipe.reward_weights(),
        "generation_kwargs": {"suppress_tokens": banned} if banned else None,
    }
    return GRPOConfig(**(options | train.trl))


def common_options(recipe: Recipe, model: Any) -> dict[str, Any]:
    """Options that GRPOConfig and SFTConfig share."""
    on_cpu = model.device.type == "cpu"
    return {
        "output_dir": str(recipe.out / "checkpoints"),
        "max_steps": recipe.train.max_steps,
        "learning_rate": recipe.train.learning_rate,
        "lr_scheduler_type": "constant_with_warmup",
        "save_steps": recipe.train.save_steps,
        "save_total_limit": recipe.train.keep_checkpoints,
        "seed": recipe.seed,
        "logging_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": on_cpu,
        "bf16": not on_cpu and recipe.engine.dtype != "float32",
        "activation_checkpointing": not on_cpu,
        "dataloader_pin_memory": not on_cpu,
    }


def build_lora(recipe: Recipe) -> Any:
    """Peft's LoraConfig, or None for full fine-tuning."""
    lora = recipe.train.lora
    if lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )
