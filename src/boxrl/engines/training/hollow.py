"""A GPU's memory and work, counted without one: shapes without numbers run through a model.

Floats lie on torch's `meta` device. Integers are real and stay on the CPU, since lengths, image
grids and positions are read from them. Every storage counts for as long as it lives, as the
allocator of CUDA counts it; kernels' own workspaces and fragmentation are not in the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from weakref import ref

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import _engine_run_backward
from torch.nn.attention import varlen as _varlen  # noqa: F401  (registers its operators)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from trl.kernels import chunked_logprob
from trl.trainer import utils as trl_utils

from boxrl.engines.training.shapes import mapped, run_on_meta, tensors_of

aten = torch.ops.aten

BLOCK = 512
"""The allocator of CUDA gives memory in multiples of it."""
LARGEST = 1_000_000
"""Integers that follow from hollow numbers are zeros up to so many, and hollow beyond."""
NO_KERNEL = {
    "_unsafe_view", "empty", "empty_like", "empty_strided", "empty_permuted", "new_empty",
    "new_empty_strided", "lift_fresh", "detach", "set_", "resize_",
}  # fmt: skip
VARLEN = {
    torch.ops.torch_attn._varlen_attn.default: (4, 0, 3),
    torch.ops.torch_attn._varlen_attn_backward.default: (10, 1, 6),
}
"""Attention of variable length: operations of a pair, and where queries and ends stand."""


class Hollow(TorchDispatchMode):
    """Counts what happens within the block.

    Attributes:
        bytes: held now.
        peak: the most that was held.
        flops: of matrix products, convolutions and attention.
        kernels: launched.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = self.kernels = 0
        self.flops = 0.0
        self._held: dict[int, ref[Any]] = {}

    def hold(self, tensor: Tensor) -> None:
        """Count a tensor's storage for as long as it lives.

        Args:
            tensor: of any shape, "*".
        """
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._held and self._held[key]() is storage:
            return
        size = -(-storage.nbytes() // BLOCK) * BLOCK
        self.bytes += size
        self.peak = max(self.peak, self.bytes)

        def free(_: Any) -> None:
            self.bytes -= size
            self._held.pop(key, None)

        self._held[key] = ref(storage, free)

    def add_product(self, total: Tensor, one: Tensor, other: Tensor) -> None:
        """TRL's sum of products in float32, which takes no memory on a GPU.

        Args:
            total: Float "n k", what is added to.
            one: Float "n m".
            other: Float "m k".
        """
        self.flops += 2 * one.shape[0] * one.shape[1] * other.shape[1]
        self.kernels += 1

    def hold_all(self, tree: Any) -> None:
        """Count all tensors of a tree of lists and dicts."""
        for tensor in tensors_of(tree):
            self.hold(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = tensors_of((args, kwargs))
        asked = kwargs.get("device")
        to_meta = asked is not None and torch.device(asked).type == "meta"
        if func is aten.histc.default and _is_integer(args[0]):
            args = (args[0].float(), *args[1:])  # of integers CUDA alone counts
        hollow = to_meta or any(x.is_meta for x in tensors)
        out = _run_hollow(func, args, kwargs) if hollow else func(*args, **kwargs)
        if hollow:
            self.flops += _flops(func, args, kwargs, out)
            self.kernels += _launches(func)
        self.hold_all(out)
        return out


@cache
def _launches(func: Any) -> bool:
    """Whether a kernel is started: views and empty tensors take none."""
    if func._schema.name.split("::")[1] in NO_KERNEL:
        return False
    returned = [x.alias_info for x in func._schema.returns]
    return not returned or any(alias is None or alias.is_write for alias in returned)


def _flops(func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> float:
    """As torch's counter has it: two for a multiplication and its sum, masks left aside."""
    if func in VARLEN:
        first, states, ends = VARLEN[func]
        query, (ends_q, ends_k) = args[states], args[ends : ends + 2]
        pairs = float((ends_q.diff() * ends_k.diff()).sum())
        return first * pairs * query.shape[-2] * query.shape[-1]
    if func is aten._grouped_mm.default:
        return 2.0 * args[0].numel() * args[1].shape[-1]
    packet = func._overloadpacket
    if packet not in flop_registry:
        return 0.0
    return float(flop_registry[packet](*args, **kwargs, out_val=out))


def _run_hollow(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    if func in SPECIAL:
        return SPECIAL[func](*args, **kwargs)
    if func._schema.is_mutable and isinstance(args[0], Tensor) and not args[0].is_meta:
        return args[0]  # integers into which hollow numbers are written stay as they are
    hollow = partial(mapped, lambda x: x if x.is_meta else x.to("meta"))
    on_meta = {"device": "meta"} if "device" in kwargs else {}
    out = run_on_meta(func, hollow(args), {**hollow(kwargs), **on_meta})
    if isinstance(out, Tensor) and _is_integer(out) and _takes_device(func):
        return func(*args, **{**kwargs, "device": "cpu"})
    return mapped(_with_real_integers, out)


def _is_integer(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() and not tensor.is_complex()


@cache
def _takes_device(func: Any) -> bool:
    return any(argument.name == "device" for argument in func._schema.arguments)


def _with_real_integers(tensor: Tensor) -> Tensor:
    if tensor.is_meta and _is_integer(tensor) and tensor.numel() <= LARGEST:
        return torch.zeros(tensor.shape, dtype=tensor.dtype)  # any choice will do
    return tensor


def _select(values: Tensor, indices: Any) -> Tensor:
    """`values[indices]`; masks are counted and not listed, for they may be as large as `values`."""
    first, *others = indices
    if not others and _is_mask(first):
        return _emptied(values).new_empty(_count_true(first), *values.shape[first.dim() :])
    found: list[Any] = []
    for index in indices:
        found += index.nonzero().unbind(1) if _is_mask(index) else [index]
    return aten.index.Tensor(_emptied(values), [x if x is None else _emptied(x) for x in found])


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def _count_true(mask: Tensor) -> int:
    """How many are true; a mask that was expanded is counted where it is stored."""
    repeats = 1
    for place, (size, stride) in enumerate(zip(mask.shape, mask.stride(), strict=True)):
        if stride == 0:
            mask, repeats = mask.narrow(place, 0, 1), repeats * size
    return repeats * int(mask.sum())


def _to_copy(source: Tensor, **kwargs: Any) -> Tensor:
    dtype = kwargs.get("dtype") or source.dtype
    real = not source.is_meta and not dtype.is_floating_point
    return aten._to_copy.default(
        source if real else _emptied(source), dtype=dtype, device="cpu" if real else "meta"
    )


def _emptied(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_meta else tensor.to("meta")


def _grouped_mm(one: Tensor, other: Tensor, offs: Tensor | None = None, *_: Any) -> Tensor:
    """Of rows by the weights of their expert, or rows by rows, a matrix for every expert."""
    shape = [one.shape[-2], other.shape[-1]]
    if one.dim() == other.dim() == 2 and offs is not None:
        shape = [len(offs), *shape]
    return _emptied(one).new_empty(shape)


SPECIAL: dict[Any, Callable[..., Any]] = {
    aten._grouped_mm.default: _grouped_mm,
    aten._local_scalar_dense.default: lambda _: 0.5,
    aten._to_copy.default: _to_copy,
    aten.index.Tensor: _select,
    aten._unsafe_index.Tensor: _select,
    aten.index_put.default: lambda values, *_: _emptied(values).clone(),
    aten._index_put_impl_.default: lambda values, *_: values,
    aten.index_put_.default: lambda values, *_: values,
    aten.masked_scatter_backward.default: lambda grad, mask, shape: grad.new_empty(shape),
}
"""What `meta` cannot do, or would leave without real integers."""


# --- half precision -------------------------------------------------------------------------------

IN_HALF = {
    F.linear, F.conv1d, F.conv2d, F.conv3d, torch.matmul, torch.mm, torch.bmm, torch.addmm,
    torch.baddbmm, Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__, Tensor.bmm, Tensor.mm,
}  # fmt: skip
IN_FLOAT32 = {F.layer_norm, F.group_norm}
"""Functions whose operands CUDA's autocast casts, those of vision-language models."""


class Autocast(TorchFunctionMode):
    """What `torch.autocast("cuda", torch.bfloat16)` does, which `meta` has none of.

    Attributes:
        enabled: off in a block of its own.
        forward: the pass in which casts of trained weights are kept, until it ends.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forward = True
        self._kept: dict[int, Tensor] = {}

    def end_forward(self) -> None:
        """Let go of the cast weights, as the end of an autocast block does."""
        self.forward = False
        self._kept.clear()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            cast = mapped(self._to_half, (args, kwargs))
            return _attend(*cast[0], **cast[1])
        if func in IN_HALF:
            args, kwargs = mapped(self._to_half, (args, kwargs))
        elif func in IN_FLOAT32:
            args, kwargs = mapped(_to_float32, (args, kwargs))
        return func(*args, **kwargs)

    def _to_half(self, tensor: Tensor) -> Tensor:
        if not tensor.is_meta or tensor.dtype != torch.float32:
            return tensor
        if not (self.forward and tensor.is_leaf and tensor.requires_grad):
            return tensor.to(torch.bfloat16)
        if id(tensor) not in self._kept:
            self._kept[id(tensor)] = tensor.to(torch.bfloat16)
        return self._kept[id(tensor)]


def _to_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_meta and tensor.is_floating_point() else tensor


class PlainAttention(TorchFunctionMode):
    """Attention by the kernels of CUDA, without autocast."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            return _attend(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """By flash attention where there is no mask, memory-efficient where heads are equal, else math.

    The rules of ATen/native/transformers/cuda/sdp_utils.cpp, cuDNN left aside.
    """
    width, half = query.shape[-1], query.dtype in (torch.float16, torch.bfloat16)
    square = query.shape[-2] == key.shape[-2]
    if attn_mask is None and half and width <= 256 and not (is_causal and not square):
        out = aten._scaled_dot_product_flash_attention(
            query, key, value, dropout_p, is_causal, scale=scale
        )
        return out[0]
    bias = None
    if attn_mask is not None:
        bias = (
            torch.where(attn_mask, 0.0, -torch.inf) if attn_mask.dtype == torch.bool else attn_mask
        )
        bias = bias.to(query.device, query.dtype)
    if query.shape[1] == key.shape[1] and width % 8 == 0:
        if bias is not None:
            bias = F.pad(bias, (0, -bias.shape[-1] % 8))[..., : bias.shape[-1]]
            bias = bias.expand(*query.shape[:3], key.shape[2])
        out = aten._scaled_dot_product_efficient_attention(
            query, key, value, bias, torch.is_grad_enabled(), dropout_p, is_causal, scale=scale
        )
        return out[0]
    out = aten._scaled_dot_product_attention_math(
        query, key, value, bias, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )
    return out[0]


def run_backward(loss: Tensor) -> None:
    """`loss.backward()`, whose recomputation would run without the modes of this module.

    Args:
        loss: a scalar.
    """
    _engine_run_backward(
        (loss,), (torch.ones_like(loss),), False, False, (), allow_unreachable=True,
        accumulate_grad=True,
    )  # fmt: skip


# --- the block ------------------------------------------------------------------------------------


class _Folded:
    """A Triton kernel of TRL's head: it works in place and takes no memory."""

    def __getitem__(self, _grid: Any) -> Callable[..., None]:
        return lambda *_, **__: None


@contextmanager
def hollow_gpu(half: bool) -> Iterator[tuple[Hollow, Autocast]]:
    """Within the block models on `meta` run as on a GPU, and are counted.

    Args:
        half: under autocast to bfloat16.
    """
    counter, autocast = Hollow(), Autocast()
    cdiv = SimpleNamespace(cdiv=lambda a, b: -(-a // b))
    with (
        patch.object(torch, "is_autocast_enabled", lambda *_: half),
        patch.object(torch, "get_autocast_dtype", lambda *_: torch.bfloat16),
        patch.object(chunked_logprob, "_use_triton", lambda _: True),
        patch.object(trl_utils, "_use_triton", lambda _: True),
        patch.object(chunked_logprob, "_addmm_fp32", counter.add_product),
        patch.object(chunked_logprob, "_forward_kernel", _Folded()),
        patch.object(chunked_logprob, "_backward_kernel", _Folded()),
        patch.object(chunked_logprob, "triton", cdiv, create=True),
        autocast if half else PlainAttention(),
        counter,
    ):
        yield counter, autocast
