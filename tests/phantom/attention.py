"""Attention kernels of CUDA: which one is taken, what it costs, and what it computes.

The choice follows the rules of ATen/native/transformers/cuda/sdp_utils.cpp, cuDNN left aside.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import varlen  # noqa: F401  (registers its operators)

from .gpu import Gpu
from .tensor import Phantom

aten = torch.ops.aten
HALF = (torch.float16, torch.bfloat16)
ALIGNED = 8
"""The memory-efficient kernel takes masks whose rows begin at multiples of it."""


def sdpa(
    gpu: Gpu,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`scaled_dot_product_attention` as CUDA takes it apart."""
    if torch.is_autocast_enabled("cuda"):
        half = torch.get_autocast_dtype("cuda")
        query, key, value = query.to(half), key.to(half), value.to(half)
        if attn_mask is not None and attn_mask.is_floating_point():
            attn_mask = attn_mask.to(half)
    if len({x.dtype for x in (query, key, value)}) > 1:
        raise RuntimeError(f"query, key and value: {query.dtype}, {key.dtype}, {value.dtype}")
    if attn_mask is not None and attn_mask.dtype not in (torch.bool, query.dtype):
        raise RuntimeError(f"mask of {attn_mask.dtype} for a query of {query.dtype}")
    kernel = choose(query, key, value, attn_mask, is_causal)
    gpu.attention[kernel] += 1
    options: dict[str, Any] = {"scale": scale}
    if kernel == "flash":
        return aten._scaled_dot_product_flash_attention(
            query, key, value, dropout_p, is_causal, **options
        )[0]
    bias = None if attn_mask is None else _added(attn_mask, query)
    if kernel == "math":
        return aten._scaled_dot_product_attention_math(
            query, key, value, bias, dropout_p, is_causal, enable_gqa=enable_gqa, **options
        )[0]
    if bias is not None:
        bias = _aligned(bias).expand(*query.shape[:3], key.shape[2])
    return aten._scaled_dot_product_efficient_attention(
        query, key, value, bias, torch.is_grad_enabled(), dropout_p, is_causal, **options
    )[0]


def choose(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> str:
    """Flash where there is no mask, memory-efficient where heads are equal, else math."""
    if not query.shape[-2] or not key.shape[-2]:
        return "math"
    width = query.shape[-1]
    if (
        mask is None
        and query.dtype in HALF
        and width == value.shape[-1] <= 256
        and not (causal and query.shape[-2] != key.shape[-2])
    ):
        return "flash"
    aligned = width % (8 if query.dtype in HALF else 4) == 0
    if query.shape[1] == key.shape[1] and aligned and not (mask is not None and mask.requires_grad):
        return "efficient"
    return "math"


def _added(mask: Tensor, query: Tensor) -> Tensor:
    """The mask as numbers that are added to scores."""
    if mask.dtype != torch.bool:
        return mask
    lowest = torch.full((), -torch.inf, dtype=query.dtype, device=query.device)
    return torch.where(mask, lowest.new_zeros(()), lowest)


def _aligned(bias: Tensor) -> Tensor:
    """The bias with rows that begin at multiples of `ALIGNED`."""
    length = bias.shape[-1]
    return F.pad(bias, (0, -length % ALIGNED))[..., :length] if length % ALIGNED else bias


# --- the kernels, as operators ------------------------------------------------------------------


def cost(gpu: Gpu, query: Tensor, pairs: float, backward: bool) -> None:
    """Two products per pair of tokens and head forwards; five backwards, one computed again."""
    cost = (10 if backward else 4) * pairs * query.shape[-3] * query.shape[-1]
    gpu.flops += cost
    gpu.attention_flops += cost


def _dense_pairs(query: Tensor, key: Tensor, causal: bool) -> float:
    """Pairs of tokens in a batch; a causal kernel leaves out what stands above the diagonal."""
    n_queries, n_keys = query.shape[-2], key.shape[-2]
    hidden = n_queries * (n_queries - 1) / 2 if causal else 0
    return query.shape[0] * (n_queries * n_keys - hidden)


def _flash(
    gpu: Gpu, query: Phantom, key: Phantom, value: Phantom, dropout: float = 0.0,
    causal: bool = False, debug: bool = False, *, scale: float | None = None,
) -> Any:  # fmt: skip
    cost(gpu, query, _dense_pairs(query, key, causal), False)
    states = query.inner, key.inner, value.inner
    shapes = aten._scaled_dot_product_flash_attention.default(
        *(x.to("meta") for x in states), dropout, causal, debug, scale=scale
    )
    return (dense(*states, None, causal, scale), _unread(shapes[1], query), *shapes[2:])


def _flash_backward(
    gpu: Gpu, grad: Phantom, query: Phantom, key: Phantom, value: Phantom, out: Phantom,
    lse: Phantom, ends_q: Any, ends_k: Any, max_q: int, max_k: int, dropout: float, causal: bool,
    seed: Any, offset: Any, *, scale: float | None = None,
) -> Any:  # fmt: skip
    cost(gpu, query, _dense_pairs(query, key, causal), True)
    return gradients(grad.inner, query.inner, key.inner, value.inner, None, causal, scale)


def _efficient(
    gpu: Gpu, query: Phantom, key: Phantom, value: Phantom, bias: Phantom | None, with_lse: bool,
    dropout: float = 0.0, causal: bool = False, *, scale: float | None = None,
) -> Any:  # fmt: skip
    cost(gpu, query, _dense_pairs(query, key, causal), False)
    states = query.inner, key.inner, value.inner
    shapes = aten._scaled_dot_product_efficient_attention.default(
        *(x.to("meta") for x in states), None, with_lse, dropout, causal, scale=scale
    )
    added = None if bias is None else bias.inner
    return (dense(*states, added, causal, scale), _unread(shapes[1], query), *shapes[2:])


def _efficient_backward(
    gpu: Gpu, grad: Phantom, query: Phantom, key: Phantom, value: Phantom, bias: Phantom | None,
    out: Phantom, lse: Phantom, seed: Any, offset: Any, dropout: float, wanted: Any,
    causal: bool = False, *, scale: float | None = None,
) -> Any:  # fmt: skip
    assert not wanted[3], "no gradient of a mask"
    cost(gpu, query, _dense_pairs(query, key, causal), True)
    added = None if bias is None else bias.inner
    states = query.inner, key.inner, value.inner
    return (*gradients(grad.inner, *states, added, causal, scale), None)


def _varlen(
    gpu: Gpu, query: Phantom, key: Phantom, value: Phantom, ends_q: Phantom, ends_k: Phantom,
    max_q: int, max_k: int, causal: bool = False, scale: float | None = None,
    window: Any = None, gqa: bool = False, seqused_k: Any = None, block_table: Any = None,
    num_splits: Any = None,
) -> Any:  # fmt: skip
    _check_varlen(query, key, value, ends_q, ends_k, max_q, max_k, window)
    assert seqused_k is None and block_table is None, "no paged cache on the phantom"
    gpu.attention["varlen"] += 1
    parts = _sequences(ends_q, ends_k)
    cost(gpu, query.transpose(0, 1), _varlen_pairs(parts, causal), False)
    out, lse = (
        torch.empty_like(query.inner),
        query.inner.new_empty(query.shape[1], query.shape[0], dtype=torch.float32),
    )
    if not query.inner.is_meta:
        for q, k in parts:
            scores, states = _scores(query.inner, key.inner, value.inner, q, k, causal, scale)
            lse[:, q] = scores.logsumexp(-1)
            out[q] = (scores.softmax(-1) @ states[2]).transpose(0, 1).to(out.dtype)
    return out, lse, torch.empty(2, dtype=torch.uint64)


def _varlen_backward(
    gpu: Gpu, grad: Phantom, query: Phantom, key: Phantom, value: Phantom, out: Phantom,
    lse: Phantom, ends_q: Phantom, ends_k: Phantom, max_q: int, max_k: int, causal: bool,
    rng_state: Any, scale: float | None = None, window: Any = None,
) -> Any:  # fmt: skip
    parts = _sequences(ends_q, ends_k)
    cost(gpu, query.transpose(0, 1), _varlen_pairs(parts, causal), True)
    found = [torch.zeros_like(x.inner) for x in (query, key, value)]
    if not query.inner.is_meta:
        for q, k in parts:
            scores, states = _scores(query.inner, key.inner, value.inner, q, k, causal, scale)
            wanted = grad.inner[q].transpose(0, 1).float()
            for total, part, own in zip(
                found, (q, k, k), _backward(wanted, scores, *states, scale), strict=True
            ):
                total[part] = _fold(own, total.shape[1]).transpose(0, 1).to(total.dtype)
    return tuple(found)


def _check_varlen(
    query: Phantom, key: Phantom, value: Phantom, ends_q: Phantom, ends_k: Phantom,
    max_q: int, max_k: int, window: Any,
) -> None:  # fmt: skip
    """What flash attention refuses."""
    if any(x.dtype not in HALF for x in (query, key, value)):
        raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
    for ends, longest, states in ((ends_q, max_q, query), (ends_k, max_k, key)):
        if ends.dtype != torch.int32:
            raise RuntimeError("cu_seqlens must have dtype int32")
        lengths = ends.inner.diff()
        assert int(ends.inner[0]) == 0 and int(ends.inner[-1]) == len(states), "ends of sequences"
        assert int(lengths.max()) <= longest, "a sequence longer than the longest"
    assert window is None or tuple(window) in ((-1, -1), (-1, 0)), f"window {window}"


KERNELS = {
    aten._scaled_dot_product_flash_attention.default: _flash,
    aten._scaled_dot_product_flash_attention_backward.default: _flash_backward,
    aten._scaled_dot_product_efficient_attention.default: _efficient,
    aten._scaled_dot_product_efficient_attention_backward.default: _efficient_backward,
    torch.ops.torch_attn._varlen_attn.default: _varlen,
    torch.ops.torch_attn._varlen_attn_backward.default: _varlen_backward,
}


# --- numbers ------------------------------------------------------------------------------------


def dense(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, causal: bool,
    scale: float | None,
) -> Tensor:  # fmt: skip
    """The CPU's own attention, laid out as the kernels lay it out: tokens before heads."""
    shape = (query.shape[0], query.shape[2], query.shape[1], value.shape[-1])
    out = query.new_empty(shape).transpose(1, 2)
    if not query.is_meta:
        gqa = query.shape[1] != key.shape[1]
        out.copy_(
            torch._C._nn.scaled_dot_product_attention(
                query, key, value, bias, 0.0, causal, scale=scale, enable_gqa=gqa
            )
        )
    return out


def _unread(shape: Tensor, query: Phantom) -> Tensor:
    """The kernel's note for its backward pass, which computes it again here."""
    device = "meta" if query.inner.is_meta else "cpu"
    return torch.full(shape.shape, torch.nan, dtype=shape.dtype, device=device)


def gradients(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, causal: bool,
    scale: float | None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Those of query, key and value."""
    if query.is_meta:
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    scores, states = _masked(query, key, value, causal, scale)
    if bias is not None:
        scores = scores + bias
    found = _backward(grad.float(), scores, *states, scale)
    return tuple(
        _fold(own, x.shape[1]).to(x.dtype)
        for own, x in zip(found, (query, key, value), strict=True)
    )


def _backward(
    grad: Tensor, scores: Tensor, query: Tensor, key: Tensor, value: Tensor, scale: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of softmax(scores) @ value, heads alike; all float32."""
    scale = scale if scale is not None else query.shape[-1] ** -0.5
    weights = torch._safe_softmax(scores, -1)  # 0 where nothing is seen
    of_weights = grad @ value.mT
    of_scores = weights * (of_weights - (weights * of_weights).sum(-1, keepdim=True)) * scale
    return of_scores @ key, of_scores.mT @ query, weights.mT @ grad


def _masked(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float | None, right: int = 0
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Scores in float32, and the states with as many heads each; `right` shifts the diagonal."""
    shared_by = query.shape[-3] // key.shape[-3]
    states = (query.float(), *(x.float().repeat_interleave(shared_by, -3) for x in (key, value)))
    scale = scale if scale is not None else query.shape[-1] ** -0.5
    scores = states[0] @ states[1].mT * scale
    if causal:
        sees = torch.ones(scores.shape[-2:], dtype=torch.bool).tril(right)
        scores = scores.masked_fill(~sees, -math.inf)
    return scores, states  # type: ignore[return-value]


def _fold(gradient: Tensor, heads: int) -> Tensor:
    """The gradient of heads that were repeated; they stand in the third dimension from behind."""
    return gradient.unflatten(-3, (heads, -1)).sum(-3)


def _sequences(ends_q: Phantom, ends_k: Phantom) -> list[tuple[slice, slice]]:
    pairs = zip(*(pairwise(ends.inner.tolist()) for ends in (ends_q, ends_k)), strict=True)
    return [(slice(*q), slice(*k)) for q, k in pairs]


def _varlen_pairs(parts: list[tuple[slice, slice]], causal: bool) -> float:
    total = 0.0
    for q, k in parts:
        n = q.stop - q.start
        total += n * (k.stop - k.start) - (n * (n - 1) / 2 if causal else 0)
    return total


def _scores(
    query: Tensor, key: Tensor, value: Tensor, q: slice, k: slice, causal: bool,
    scale: float | None,
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:  # fmt: skip
    """Of one sequence, whose last query sees its last key."""
    states = (query[q].transpose(0, 1), key[k].transpose(0, 1), value[k].transpose(0, 1))
    right = (k.stop - k.start) - (q.stop - q.start)
    return _masked(*states, causal, scale, right)
