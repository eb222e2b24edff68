"""A torchvision built for another torch, made importable.

Nearly everything in transformers and TRL imports it, and fails where it fails: the packages of
boxrl whose modules import those at their top repair it first, in their `__init__`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

_KEPT_ALIVE: list[Any] = []


def was_repaired() -> bool:
    """Whether this process had to repair torchvision."""
    return bool(_KEPT_ALIVE)


def repair_torchvision() -> bool:
    """Make a torchvision built for another torch importable; return whether one is there.

    A CUDA wheel beside a CPU torch fails at import because two operator schemas are missing,
    and takes transformers' processing code down with it. Declaring them is enough: boxrl calls
    image transforms, never these operators.
    """
    if importlib.util.find_spec("torchvision") is None:
        return False
    try:
        importlib.import_module("torchvision")
        return True
    except RuntimeError as error:
        if "does not exist" not in str(error):
            raise
    import torch

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT_ALIVE.append(library)  # dropping the library would undefine the operators
    importlib.import_module("torchvision")
    return True
