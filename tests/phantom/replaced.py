"""Names of torch, TRL and accelerate that ask for a GPU or differ where there is one."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers.utils.import_utils as import_utils
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch.nn.attention.flex_attention import flex_attention
from torch.utils._pytree import tree_map

from . import guard
from .attention import sdpa
from .dispatch import unwrap
from .flex import flex_attention as phantom_flex
from .gpu import Gpu
from .tensor import Phantom


@contextmanager
def replaced(gpu: Gpu) -> Iterator[None]:
    """Within the block torch, TRL, transformers and accelerate find the devices of `gpu`."""
    _forget()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _cuda_names(gpu).items():
            for module in (torch.cuda, torch.cuda.memory, torch.cuda.random):
                if hasattr(module, name):
                    patch.setattr(module, name, value)
        patch.setattr(torch._C, "_cuda_init", lambda: None, raising=False)
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.utils.checkpoint, "get_device_states", lambda *_: ([], []))
        patch.setattr(torch.utils.checkpoint, "set_device_states", lambda *_, **__: None)
        patch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
        patch.setattr(torch.utils._triton, "has_triton", lambda: True)
        patch.setattr(F, "scaled_dot_product_attention", _sdpa(gpu))
        patch.setattr(PartialState, "_prepare_backend", _backend(PartialState._prepare_backend))
        patch.setattr(torch, "compile", _compile)
        patch.setattr(torch, "load", _load(torch.load))
        for name in ("torch.optim.optimizer", "torch.utils._foreach_utils"):
            module = importlib.import_module(name)
            types = module._foreach_supported_types
            patch.setattr(module, "_foreach_supported_types", [*types, Phantom])
        patch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")  # its threads would not know the devices
        _replace_triton(patch, gpu)
        yield
    _forget()


def _cuda_names(gpu: Gpu) -> dict[str, Any]:
    """What `torch.cuda` says of the phantom devices."""

    def index(device: Any = None) -> int:
        if isinstance(device, int):
            return device
        found = None if device is None else torch.device(device).index
        return guard.library.phantom_current() if found is None else found

    def choose(device: Any) -> int:
        before: int = guard.library.phantom_current()
        if index(device) >= 0:
            assert index(device) < gpu.devices, f"invalid device ordinal {index(device)}"
            guard.library.phantom_choose(index(device))
        return before

    return {
        "is_available": lambda: True,
        "device_count": lambda: gpu.devices,
        "current_device": lambda: guard.library.phantom_current(),
        "set_device": lambda device: choose(device) and None,
        "_exchange_device": choose,
        "_maybe_exchange_device": choose,
        "_lazy_init": lambda: None,
        "is_initialized": lambda: True,
        "get_device_name": lambda device=None: "phantom",
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_properties": lambda device=None: SimpleNamespace(
            name="phantom", major=9, minor=0, total_memory=gpu.memory, multi_processor_count=132
        ),
        "is_bf16_supported": lambda *_, **__: True,
        "empty_cache": lambda: None,
        "ipc_collect": lambda: None,
        "synchronize": lambda device=None: None,
        "memory_allocated": lambda device=None: gpu.held(index(device)),
        "memory_reserved": lambda device=None: gpu.held(index(device)),
        "max_memory_allocated": lambda device=None: gpu.peak(index(device)),
        "max_memory_reserved": lambda device=None: gpu.peak(index(device)),
        "mem_get_info": lambda device=None: (gpu.memory - gpu.held(index(device)), gpu.memory),
        "reset_peak_memory_stats": lambda device=None: gpu.reset(),
        "manual_seed": lambda seed: None,  # the CPU's generator draws
        "manual_seed_all": lambda seed: None,
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "get_rng_state_all": lambda: [torch.get_rng_state()] * gpu.devices,
        "set_rng_state": lambda state, device=None: None,
        "set_rng_state_all": lambda states: None,
    }


def _sdpa(gpu: Gpu) -> Callable[..., Any]:
    """Attention by the kernel that CUDA takes; the composite function asks the build alone."""
    plain = F.scaled_dot_product_attention

    def attend(query: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(query, Phantom):
            return sdpa(gpu, query, *args, **kwargs)
        return plain(query, *args, **kwargs)

    return attend


def _compile(function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
    """torch.compile: nothing is compiled; flex attention has a stand-in."""
    return phantom_flex if function is flex_attention else function


def _backend(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Processes with a device each talk over gloo, which sends what lies within phantoms."""

    def prepare(state: PartialState, *args: Any, **kwargs: Any) -> tuple[str | None, Any]:
        name, kind = plain(state, *args, **kwargs)
        return ("gloo" if name == "nccl" else name), kind

    return prepare


def _load(plain: Callable[..., Any]) -> Callable[..., Any]:
    """torch.load: files hold tensors of the CPU, which then go where they are asked for."""

    def load(file: Any, map_location: Any = None, **kwargs: Any) -> Any:
        if map_location is None or torch.device(map_location).type != "cuda":
            return plain(file, map_location=map_location, **kwargs)
        loaded = plain(file, map_location="cpu", **kwargs)
        return tree_map(lambda x: x.to(map_location) if torch.is_tensor(x) else x, loaded)

    return load


class _Kernel:
    """A Triton kernel of TRL, computed by its stand-in for devices without Triton."""

    def __init__(self, gpu: Gpu, compute: Callable[..., None]) -> None:
        self.gpu, self.compute = gpu, compute

    def __getitem__(self, _grid: Any) -> Callable[..., None]:
        return self.launch

    def launch(self, *args: Any, **kwargs: Any) -> None:
        self.gpu.kernels += 1
        inner = unwrap(args)
        if not inner[0].is_meta:
            self.compute(*inner, **kwargs)


def _replace_triton(patch: pytest.MonkeyPatch, gpu: Gpu) -> None:
    """TRL's fused head as on a GPU with Triton: only labelled positions are scored."""
    from trl.kernels import chunked_logprob

    patch.setattr(chunked_logprob, "_TRITON_AVAILABLE", True)
    blocks = SimpleNamespace(cdiv=lambda a, b: -(-a // b))
    patch.setattr(chunked_logprob, "triton", blocks, raising=False)
    for way in ("forward", "backward"):
        tile = getattr(chunked_logprob, f"_{way}_tile")
        patch.setattr(chunked_logprob, f"_{way}_kernel", _Kernel(gpu, tile))


def _forget() -> None:
    """Make accelerate and transformers look for devices again."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    PartialState._reset_state()
    for name, function in vars(import_utils).items():
        if name.startswith("is_torch") and hasattr(function, "cache_clear"):
            function.cache_clear()
