"""One operation on a phantom GPU: checked as CUDA checks it, counted, and computed on the CPU."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils.flop_counter import flop_registry

from boxrl.engines.training.shapes import mapped, run_on_meta, tensors_of

from . import attention, guard
from .gpu import Gpu, line
from .tensor import Phantom

aten = torch.ops.aten

LARGEST = 50_000_000
"""Integers that depend on hollow numbers and are more than these stay hollow too."""

WAITS = {
    aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default,
    aten.is_nonzero.default, aten.equal.default, aten._unique2.default, aten.unique_dim.default,
    aten.unique_consecutive.default, aten.bincount.default, aten.repeat_interleave.Tensor,
}  # fmt: skip
"""Their results' values or sizes are needed on the host."""

READS_INDEX = {aten.index.Tensor, aten._unsafe_index.Tensor}
INDEXED = READS_INDEX | {
    aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default,
}  # fmt: skip

NO_KERNEL = {"_unsafe_view", "empty", "empty_like", "empty_strided", "empty_permuted", "new_empty",
             "new_empty_strided", "lift_fresh", "detach", "set_", "resize_"}  # fmt: skip


def run(gpu: Gpu, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run `func` where a phantom takes part or the result is asked for on a device."""
    tensors = tensors_of((args, kwargs))
    phantoms = [x for x in tensors if isinstance(x, Phantom)]
    target = _index(kwargs.get("device"))
    if func is aten._pin_memory.default:
        return args[0]
    if not phantoms and target is None:
        return func(*args, **kwargs)
    if func in OWN:
        return OWN[func](gpu, *args, **kwargs)
    index = _same_device(func, args, tensors, target)
    _count(gpu, func, args)
    hollow = any(x.inner.is_meta for x in phantoms) or (target is not None and gpu.hollow)
    if func in attention.KERNELS:
        out = attention.KERNELS[func](gpu, *args, **kwargs)
    elif hollow:
        out = _run_hollow(gpu, func, args, kwargs)
    else:
        out = _run_real(func, args, kwargs)
    gpu.flops += _flops(func, args, kwargs, out)
    asked_for_on_host = target is None and kwargs.get("device") is not None
    if asked_for_on_host or not isinstance(out, Tensor | list | tuple):
        return out
    wrapped = mapped(lambda x: _wrap(gpu, x, index), out)
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


def make(gpu: Gpu, inner: Tensor, index: int) -> Phantom:
    """A phantom of these numbers, its memory counted."""
    gpu.hold(inner.untyped_storage(), index)
    return Phantom(inner, index)


def unwrap(tree: Any) -> Any:
    """What lies within the phantoms of a tree."""
    return mapped(lambda x: x.inner if isinstance(x, Phantom) else x, tree)


# --- devices ------------------------------------------------------------------------------------


def _index(device: Any) -> int | None:
    """Index of a CUDA device; None for another."""
    if device is None or (device := torch.device(device)).type != "cuda":
        return None
    return device.index if device.index is not None else guard.library.phantom_current()


def _same_device(func: Any, args: Any, tensors: list[Tensor], target: int | None) -> int:
    """The device of the result.

    Raises:
        RuntimeError: the operands lie on different ones; CUDA takes numbers of the CPU, and
            indices.
    """
    indices = args[1] if func in INDEXED else []
    free = {id(x) for x in indices if isinstance(x, Tensor)}
    found = {
        str(x.device)
        for x in tensors
        if isinstance(x, Phantom) or (x.dim() > 0 and id(x) not in free)
    }
    if len(found) > 1:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{' and '.join(sorted(found))}! ({func}, at {line()})"
        )
    if target is not None:
        return target
    return next(x.index for x in tensors if isinstance(x, Phantom))


# --- counting -----------------------------------------------------------------------------------


@cache
def _launches(func: Any) -> bool:
    """Whether a kernel is started: views and empty tensors take none."""
    if func._schema.name.split("::")[1] in NO_KERNEL:
        return False
    returned = [x.alias_info for x in func._schema.returns]
    return not returned or any(alias is None or alias.is_write for alias in returned)


def _count(gpu: Gpu, func: Any, args: Any) -> None:
    gpu.kernels += _launches(func)
    masks = func in INDEXED and any(
        x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1]
    )
    if masks or func in WAITS:
        gpu.syncs[line()] += 1


def _flops(func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> float:
    """As torch's counter has it; attention counts its own."""
    packet = func._overloadpacket
    if packet not in flop_registry or func in attention.KERNELS:
        return 0
    if packet is aten.addmm:
        args, kwargs = args[:3], {}  # also with another dtype of the result
    return float(flop_registry[packet](*args, **kwargs, out_val=out))


# --- computing ----------------------------------------------------------------------------------


def _on(device: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments with the device that stands in for the phantom."""
    if _index(kwargs.get("device")) is None:
        return kwargs
    return {**kwargs, "device": device, **({"pin_memory": False} if "pin_memory" in kwargs else {})}


def _run_real(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    args, kwargs = unwrap(args), unwrap(_on("cpu", kwargs))
    if func is aten.addmm.dtype_out:  # float32 sums of half products, on CUDA only
        return kwargs["out"].copy_(args[0] + args[1].float() @ args[2].float())
    return func(*args, **kwargs)


def _run_hollow(gpu: Gpu, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    if func is aten._local_scalar_dense.default:
        gpu.guesses[line()] += 1
        return 0.5
    if func in HOLLOW:
        return HOLLOW[func](*args, **kwargs)
    if func in INDEXED:
        args = (args[0], _without_masks(args[1]), *args[2:])
    first = args[0] if args else None
    if func._schema.is_mutable and isinstance(first, Phantom) and not first.inner.is_meta:
        return first.inner  # integers into which hollow numbers are written stay as they are
    args, kwargs = _emptied(args), _on("meta", _emptied(kwargs))
    out = run_on_meta(func, args, kwargs)
    if isinstance(out, Tensor) and _is_integer(out) and _takes_device(func):
        return func(*args, **{**kwargs, "device": "cpu"})
    return out


@cache
def _takes_device(func: Any) -> bool:
    return any(argument.name == "device" for argument in func._schema.arguments)


def _is_integer(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() and not tensor.is_complex()


def _emptied(tree: Any) -> Any:
    """The tree on `meta`."""
    return mapped(lambda x: x.to("meta"), unwrap(tree))


def _without_masks(indices: Any) -> list[Any]:
    """Indices in which masks have become positions, whose number is known."""
    found: list[Any] = []
    for index in unwrap(indices):
        is_mask = index is not None and index.dtype in (torch.bool, torch.uint8)
        found += index.nonzero().unbind(1) if is_mask else [index]
    return found


def _sample(probabilities: Tensor, count: int, *_: Any, **__: Any) -> Tensor:
    return torch.randint(probabilities.shape[-1], (*probabilities.shape[:-1], count))


def _select(values: Phantom, mask: Phantom) -> Tensor:
    shape = torch.broadcast_shapes(values.shape, mask.shape)
    return values.inner.new_empty(int(mask.inner.expand(shape).sum()))


def _unscatter(grad: Phantom, mask: Phantom, shape: Any) -> Tensor:
    return grad.inner.new_empty(shape)


def _sum_products(total: Phantom, a: Phantom, b: Phantom, *_: Any, out: Phantom, **__: Any) -> Any:
    return out.inner


def _same(one: Phantom, other: Phantom) -> bool:
    """Tensors without numbers are equal where they are one."""
    places = [(x.inner.untyped_storage()._cdata, x.inner.storage_offset()) for x in (one, other)]
    return one.shape == other.shape and places[0] == places[1]


HOLLOW = {
    aten.equal.default: _same,
    aten.multinomial.default: _sample,
    aten.masked_select.default: _select,
    aten.masked_scatter_backward.default: _unscatter,
    aten.addmm.dtype_out: _sum_products,
}
"""What `meta` cannot do, or would leave without real integers."""


def _wrap(gpu: Gpu, tensor: Tensor, index: int) -> Tensor:
    if isinstance(tensor, Phantom):
        return tensor
    if tensor.is_meta and _is_integer(tensor) and tensor.numel() <= LARGEST:
        tensor = torch.zeros(tensor.shape, dtype=tensor.dtype)  # any choice will do
    return make(gpu, tensor, index)


# --- copies -------------------------------------------------------------------------------------


def _to_copy(gpu: Gpu, source: Tensor, **kwargs: Any) -> Tensor:
    """A copy in another dtype or on another device; between host and device it is noted."""
    asked = kwargs.pop("device", None)
    blocking = not kwargs.get("non_blocking", False)
    kwargs.pop("pin_memory", None)
    inner = source.inner if isinstance(source, Phantom) else source
    target = source.index if asked is None else _index(asked)  # type: ignore[attr-defined]
    gpu.kernels += 1
    if target is None:
        if blocking:
            gpu.syncs[line()] += 1
        if inner.is_meta:
            gpu.guesses[line()] += 1
            inner = torch.full(inner.shape, 0.5, dtype=inner.dtype)
        return aten._to_copy.default(inner, **kwargs, device="cpu")
    if not isinstance(source, Phantom):
        gpu.uploads[line()] += 1
    dtype = kwargs.get("dtype") or inner.dtype
    hollow = dtype.is_floating_point and (gpu.hollow or inner.is_meta)
    if inner.is_meta and not hollow:
        return make(gpu, torch.zeros(inner.shape, dtype=dtype), target)
    copied = aten._to_copy.default(inner, **kwargs, device="meta" if hollow else "cpu")
    return make(gpu, copied, target)


def _copy_(gpu: Gpu, target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    gpu.kernels += 1
    to, of = unwrap(target), unwrap(source)
    if not isinstance(target, Phantom):
        if not non_blocking:
            gpu.syncs[line()] += 1
        if of.is_meta:
            gpu.guesses[line()] += 1
    elif not isinstance(source, Phantom):
        gpu.uploads[line()] += 1
    if to.is_meta or not of.is_meta:
        to.copy_(of.to("meta") if to.is_meta else of)
    return target


OWN = {
    aten._to_copy.default: _to_copy,
    aten.copy_.default: _copy_,
    aten.is_pinned.default: lambda *_, **__: False,
    aten.record_stream.default: lambda *_, **__: None,
}
"""Operations that are no computation."""
