"""Functions of torch that a CPU build does not let reach the dispatcher on a CUDA device."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from .tensor import Phantom


class Functions(TorchFunctionMode):
    """Tensors made of host numbers on the device."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor):
            return _tensor(func, *args, **kwargs)
        return func(*args, **kwargs)


def _tensor(func: Any, data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Any:
    if func is torch.as_tensor and isinstance(data, Phantom):
        return data.to(device, *args, **kwargs)
    if any(isinstance(x, Phantom) for x in tree_leaves(data)):
        # Each is read, as torch reads them.
        data = tree_map(lambda x: x.tolist() if isinstance(x, Phantom) else x, data)
    made = func(data, *args, **kwargs)
    return made if device is None else made.to(device)
