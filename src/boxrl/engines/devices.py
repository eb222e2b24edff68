"""What torch runs on, and which GPU is this process's."""

from __future__ import annotations

from typing import Any

import torch

from boxrl.engines.torchvision_repair import repair_torchvision, was_repaired
from boxrl.errors import UsageError
from boxrl.runs import Launch

GIB = 2**30


def describe_devices() -> dict[str, Any]:
    """Device, CUDA, GPUs and the state of torchvision; see `environment.describe_torch`."""
    gpus = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        sizes = {"memory_gib": round(total / GIB, 1), "free_gib": round(free / GIB, 1)}
        gpus.append({"name": name} | sizes)
    found = repair_torchvision()
    works = "repaired" if was_repaired() else "works"
    return {
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "cuda": torch.version.cuda,
        "gpus": gpus,
        "torchvision": works if found else "missing",
    }


def take_gpu() -> str | None:
    """Make the GPU of this process the one that "cuda" means, before anything lies on another.

    Returns:
        What there is to say of it; None where nothing is.

    Raises:
        UsageError: more processes were started here than there are GPUs.
    """
    seen, process = torch.cuda.device_count(), Launch.read()
    if not seen:
        return None
    if process.local_rank >= seen:
        raise UsageError(
            f"process {process.rank} of {process.world} finds {seen} GPU(s) here, all taken by the "
            f"processes before it; start one per GPU: --num-processes {seen}"
        )
    torch.cuda.set_device(process.local_rank)
    if process.world > 1 or seen == 1:
        return None
    return (
        f"one process trains on one GPU, the first of {seen}; to train on all: --launch "
        f"accelerate --num-processes {seen}"
    )


def own_gpu() -> list[int]:
    """The GPU of this process, as `torch.random.fork_rng` takes it; none at all without one."""
    return [torch.cuda.current_device()] if torch.cuda.is_available() else []
