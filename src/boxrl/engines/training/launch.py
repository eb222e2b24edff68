"""Several processes: the config that accelerate launches them with."""

from __future__ import annotations

from typing import Any

import torch
import yaml

from boxrl.config import Recipe
from boxrl.errors import UsageError


def accelerate_config(recipe: Recipe, processes: int, strategy: str) -> str:
    """YAML for `accelerate launch --config_file`, one machine.

    Args:
        recipe: decides device and precision.
        processes: one per GPU.
        strategy: `ddp`, `zero2`, `zero3` (DeepSpeed) or `fsdp2`.

    Raises:
        UsageError: fewer than two processes, or a strategy that does not run on this device.
    """
    if processes < 2:
        raise UsageError(f"--launch accelerate: --num-processes is {processes}; expected 2 or more")
    device = recipe.engine.device
    cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    half = not cpu and recipe.engine.dtype != "float32"
    config: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",  # torchrun; with use_cpu it talks over gloo
        # Told of a CPU, accelerate leaves DeepSpeed out and runs DDP without a word.
        "use_cpu": cpu and strategy == "ddp",
        "num_machines": 1,
        "machine_rank": 0,
        "num_processes": processes,
        "mixed_precision": "bf16" if half else "no",
        "main_training_function": "main",
        "rdzv_backend": "static",
        "same_network": True,
    }
    if cpu and strategy == "fsdp2":
        # accelerate would silently run plain DDP instead.
        raise UsageError("--strategy fsdp2 needs GPUs; on a CPU take ddp, zero2 or zero3")
    if cpu and strategy != "ddp" and torch.cuda.is_available():
        raise UsageError(
            f"--strategy {strategy}: DeepSpeed takes the GPUs it finds, but engine.device is cpu; "
            "hide them: CUDA_VISIBLE_DEVICES= boxrl train ..."
        )
    if strategy in ("zero2", "zero3"):
        config["distributed_type"] = "DEEPSPEED"
        config["deepspeed_config"] = {
            "zero_stage": int(strategy[-1]),
            "zero3_init_flag": False,
            "zero3_save_16bit_model": strategy == "zero3",
            "offload_optimizer_device": "none",
            "offload_param_device": "none",
            "gradient_accumulation_steps": "auto",
            "gradient_clipping": "auto",
        }
    elif strategy == "fsdp2":
        config["distributed_type"] = "FSDP"
        config["fsdp_config"] = {
            "fsdp_version": 2,
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_reshard_after_forward": True,
            "fsdp_state_dict_type": "FULL_STATE_DICT",
            "fsdp_cpu_ram_efficient_loading": False,
            "fsdp_offload_params": False,
            "fsdp_activation_checkpointing": False,
        }
    return yaml.safe_dump(config, sort_keys=False)
