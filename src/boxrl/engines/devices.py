"""What torch runs on."""

from __future__ import annotations

from typing import Any

import torch

from boxrl.engines.torchvision_repair import repair_torchvision, was_repaired

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
