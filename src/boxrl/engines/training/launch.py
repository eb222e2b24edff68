"""Several processes: the config that accelerate launches them with, and the launch."""

from __future__ import annotations

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from boxrl.config import Recipe
from boxrl.data.files import write_atomic
from boxrl.errors import BoxrlError, MissingExtra, UsageError
from boxrl.guard.outputs import check_outputs
from boxrl.runs import LAUNCHED, note_end

PATIENCE_S = 24 * 60 * 60
"""How long the launcher lets its processes finish their step and write a checkpoint.

By itself it kills them 30 s after a signal. A process that is lost ends the others in any case.
"""


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
        "main_process_port": 0,  # any that is free, so that two runs on a machine do not meet
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
            # Over several machines each starts its own processes, not the first one all by ssh.
            "deepspeed_multinode_launcher": "standard",
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


def write_config(path: Path, recipe: Recipe, processes: int, strategy: str) -> None:
    """Write what `accelerate_config` says.

    Args:
        path: the file; its folder is made where it is missing.
        recipe: see `accelerate_config`.
        processes: see `accelerate_config`.
        strategy: see `accelerate_config`.

    Raises:
        UsageError: see `accelerate_config`; or the file exists and is no such config.
    """
    config = accelerate_config(recipe, processes, strategy)
    check_outputs([(path, "accelerate config")], [])
    with write_atomic(path) as handle:
        handle.write(config)


def launch(
    config: Path, out: Path, recipe: str, overrides: Sequence[str], strategy: str, resume: bool
) -> None:
    """Say the plain command on standard error, and run it to its end.

    Args:
        config: of `write_config`.
        out: the run folder.
        recipe: a .yaml file, or a shipped recipe by name.
        overrides: `key=value` of the recipe, but for `out`.
        strategy: that the config is for.
        resume: go on with an interrupted run.

    Raises:
        MissingExtra: the strategy needs DeepSpeed, which is not installed.
        BoxrlError: one of the processes failed.
        KeyboardInterrupt: it was stopped, and has ended.
    """
    if strategy in ("zero2", "zero3") and importlib.util.find_spec("deepspeed") is None:
        raise MissingExtra(f"--strategy {strategy}", "deepspeed")
    train = ["boxrl", "train", recipe, *overrides, f"out={out}", *["--resume"] * resume]
    words = ["--config_file", str(config), "-m", *train]
    print(shlex.join(["accelerate", "launch", *words]), file=sys.stderr)  # noqa: T201
    try:
        status = _run_to_its_end([sys.executable, "-m", "accelerate.commands.launch", *words])
    finally:
        note_end(out)
    if status:
        # The launcher's own last lines are a traceback and a rule.
        raise BoxrlError(
            f"{out}: a process of the launch failed (accelerate's exit status {status}); its "
            "own output is above. Fix this and rerun the same command with --resume"
        )


def _run_to_its_end(command: list[str]) -> int:
    """Run the launcher and hand SIGTERM on to it: its processes then write a checkpoint.

    A Ctrl-C reaches them by itself.

    Raises:
        KeyboardInterrupt: it was stopped, and has ended.
    """
    stopped = []
    environment = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(PATIENCE_S), **os.environ, LAUNCHED: "1"}
    with subprocess.Popen(command, env=environment) as process:

        def stop(number: int, _frame: Any) -> None:
            stopped.append(number)
            if number == signal.SIGTERM:
                process.terminate()

        previous = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            status = process.wait()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
    if stopped:
        raise KeyboardInterrupt
    return status
