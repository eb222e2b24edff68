"""A GPU that does not exist: `with phantom_gpu() as gpu`, device "cuda" is there and counts.

Integers and booleans hold real values; floats are real too, or hollow: shapes without numbers, so
that full-size models fit. What mixes devices raises as on CUDA. Random numbers are the CPU's.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from weakref import ref

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from . import guard
from .tensor import Phantom

GIB = 2**30
BLOCK = 512
"""The allocator of CUDA gives memory in multiples of it."""

_current: Gpu | None = None


def current() -> Gpu:
    """The phantom GPU of the block that runs."""
    if _current is None:
        raise RuntimeError("the block of phantom_gpu that this tensor was made in has ended")
    return _current


class Gpu(TorchDispatchMode):
    """What happened on the devices since the block began or since `reset`.

    Attributes:
        memory: bytes of each device.
        hollow: whether floats are shapes without numbers.
        flops: of matrix products, convolutions and attention.
        attention_flops: of attention alone.
        kernels: launched.
        syncs: per line, how often the host waited for a value of the device.
        uploads: per line, how often the host sent a tensor to a device.
        attention: calls per kernel: flash, efficient, math, varlen.
        guesses: per line, how often the host read a hollow number; 0.5 was told.
    """

    def __init__(self, devices: int, memory: int, hollow: bool) -> None:
        super().__init__()
        self.memory = memory
        self.hollow = hollow
        self._bytes = [0] * devices
        self._peaks = [0] * devices
        self._held: dict[int, ref[Any]] = {}
        self.flops = self.attention_flops = 0.0
        self.kernels = 0
        self.syncs: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()
        self.attention: Counter[str] = Counter()
        self.guesses: Counter[str] = Counter()

    @property
    def devices(self) -> int:
        """How many there are."""
        return len(self._bytes)

    @property
    def bytes(self) -> int:
        """Held now, on all devices together."""
        return sum(self._bytes)

    @property
    def peak_bytes(self) -> int:
        """The most that a device held."""
        return max(self._peaks)

    def held(self, device: int) -> int:
        """Bytes held now on a device."""
        return self._bytes[device]

    def peak(self, device: int) -> int:
        """The most bytes that a device held."""
        return self._peaks[device]

    def reset(self) -> None:
        """Count from here on; the peak begins at what is held."""
        self._peaks = list(self._bytes)
        self.flops = self.attention_flops = 0.0
        self.kernels = 0
        for counter in (self.syncs, self.uploads, self.attention, self.guesses):
            counter.clear()

    def device_index_of(self, holder: Tensor | torch.nn.Module) -> int:
        """Index of the device that a tensor, or all weights of a model, lie on.

        Raises:
            AssertionError: a part lies elsewhere.
        """
        if isinstance(holder, Tensor):
            tensors = [holder]
        else:
            tensors = [*holder.parameters(), *holder.buffers()]
        found = {str(x.device) for x in tensors}
        assert len(found) == 1 and all(isinstance(x, Phantom) for x in tensors), found
        return tensors[0].device.index

    def hold(self, storage: Any, device: int) -> None:
        """Count a storage's bytes for as long as it lives.

        Raises:
            torch.OutOfMemoryError: the device has less left.
        """
        key = storage._cdata
        if key in self._held and self._held[key]() is storage:
            return
        size = -(-storage.nbytes() // BLOCK) * BLOCK
        if self._bytes[device] + size > self.memory:
            held = self._bytes[device] / GIB
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {size / GIB:.2f} GiB. GPU {device} has a "
                f"total capacity of {self.memory / GIB:.2f} GiB of which {held:.2f} GiB is in use."
            )
        self._bytes[device] += size
        self._peaks[device] = max(self._peaks[device], self._bytes[device])

        def free(_: Any) -> None:
            self._bytes[device] -= size
            self._held.pop(key, None)

        self._held[key] = ref(storage, free)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        from .dispatch import run

        return run(self, func, args, kwargs or {})


TOOL = Path(__file__).parent


def line() -> str:
    """The innermost line outside torch and this tool: FOLDER/FILE:LINE."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        inside = path.parent == TOOL and not path.name.startswith("test_")
        if not inside and "/torch/" not in str(path) and path.suffix == ".py":
            return f"{path.parent.name}/{path.name}:{frame.f_lineno}"
        frame = frame.f_back
    return "autograd"


@contextmanager
def phantom_gpu(
    devices: int = 1, memory: int = 80 * GIB, floats: Literal["real", "hollow"] = "real"
) -> Iterator[Gpu]:
    """Within the block there are so many devices "cuda", each with so many bytes.

    Args:
        devices: how many.
        memory: bytes of each.
        floats: `hollow` ones have shapes and no numbers, and take no memory of this machine.
    """
    from .functions import Functions
    from .replaced import replaced

    global _current
    assert _current is None, "one block of phantom_gpu at a time"
    assert 0 < devices <= guard.library.phantom_most()
    gpu = Gpu(devices, memory, floats == "hollow")
    guard.library.phantom_show(devices)
    guard.library.phantom_choose(0)
    _current = gpu
    try:
        with replaced(gpu), Functions(), gpu:
            yield gpu
    finally:
        _current = None
        guard.library.phantom_show(0)
