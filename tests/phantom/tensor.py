"""Tensors that say they lie on a phantom GPU."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.utils import swap_tensors


class Phantom(Tensor):
    """A tensor of cuda:INDEX whose numbers, where it has any, lie in `inner`.

    Attributes:
        inner: on the CPU, or on `meta` where the numbers are hollow.
        index: of the device.
    """

    inner: Tensor
    index: int

    # All functions of torch are seen by `functions.Functions`; results are never made phantoms.
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor, index: int) -> Phantom:
        assert type(inner) is Tensor, f"a phantom of {type(inner).__name__}"
        made: Phantom = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=torch.device("cuda", index),
        )
        made.inner, made.index = inner, index
        return made

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        from .dispatch import run
        from .gpu import current

        return run(current(), func, args, kwargs or {})

    # Module.to keeps a parameter's identity, as on a real GPU, where a tensor can be taken apart.

    def __tensor_flatten__(self) -> tuple[list[str], int]:
        return ["inner"], self.index

    @staticmethod
    def __tensor_unflatten__(parts: dict[str, Tensor], index: int, *_: Any) -> Phantom:
        return Phantom(parts["inner"], index)

    @property
    def data(self) -> Tensor:  # type: ignore[override]
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if isinstance(value, Phantom):
            Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
            self.inner, self.index = value.inner, value.index
        else:
            self._leave(value)

    def _leave(self, value: Tensor) -> None:
        """Lie on the CPU from here on, as the same object."""
        plain = value.detach().requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            plain = torch.nn.Parameter(plain, self.requires_grad)
        plain.grad = None if self.grad is None else self.grad.to(value.device)
        swap_tensors(self, plain)

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"can't convert {self.device} device type tensor to numpy")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def untyped_storage(self) -> Any:
        return self.inner.untyped_storage()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            made: Tensor = self.detach().clone().requires_grad_(self.requires_grad)
            if isinstance(self, torch.nn.Parameter):
                made = torch.nn.Parameter(made, self.requires_grad)
            if self.grad is not None:
                made.grad = copy.deepcopy(self.grad, memo)
            memo[id(self)] = made
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Saved as a tensor on the CPU."""
        return self.detach().cpu().__reduce_ex__(protocol)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        kind = "hollow" if self.inner.is_meta else "real"
        return f"Phantom({tuple(self.shape)}, {self.dtype}, {self.device}, {kind})"
