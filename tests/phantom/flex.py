"""Flex attention without its compiler: what the kernel computes from the blocks of a mask."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from .attention import cost, dense, gradients
from .dispatch import make
from .gpu import current
from .tensor import Phantom


def flex_attention(
    query: Phantom,
    key: Phantom,
    value: Phantom,
    block_mask: BlockMask,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Torch's, with a block mask and without a change of scores."""
    assert enable_gqa or query.shape[1] == key.shape[1], "as many heads, or enable_gqa"
    current().attention["flex"] += 1
    found: Tensor = _Flex.apply(query, key, value, block_mask, scale)
    return found


class _Flex(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Phantom, key: Phantom, value: Phantom, mask: BlockMask, scale: Any
    ) -> Phantom:
        gpu, inner = current(), (query.inner, key.inner, value.inner)
        gpu.kernels += 1
        cost(gpu, query, _pairs(mask, query.shape[0]), backward=False)
        bias = None if query.inner.is_meta else _bias(mask, query)
        ctx.save_for_backward(query, key, value)
        ctx.mask, ctx.bias, ctx.scale = mask, bias, scale
        return make(gpu, dense(*inner, bias, False, scale), query.index)

    @staticmethod
    def backward(ctx: Any, grad: Phantom) -> Any:
        gpu, states = current(), ctx.saved_tensors
        gpu.kernels += 2
        cost(gpu, states[0], _pairs(ctx.mask, grad.shape[0]), backward=True)
        inner = [x.inner for x in states]
        found = gradients(grad.inner, *inner, ctx.bias, False, ctx.scale)
        return *(make(gpu, x, grad.index) for x in found), None, None


def _pairs(mask: BlockMask, rows: int) -> float:
    """Pairs of tokens in the blocks that are looked at."""
    blocks = mask.kv_num_blocks.inner.sum()
    if mask.full_kv_num_blocks is not None:
        blocks = blocks + mask.full_kv_num_blocks.inner.sum()
    heads = mask.kv_num_blocks.shape[0] * mask.kv_num_blocks.shape[1]
    return float(blocks) * mask.BLOCK_SIZE[0] * mask.BLOCK_SIZE[1] * rows / heads


def _bias(mask: BlockMask, query: Phantom) -> Tensor:
    """0 where a token is seen and -inf elsewhere, "b h queries keys"."""
    queries, keys = mask.seq_lengths
    index = torch.arange(max(queries, keys), device=query.device)
    zero = index.new_zeros(())
    seen = mask.mask_mod(zero, zero, index[:queries, None], index[None, :keys]).inner
    allowed = _spread(mask, mask.kv_num_blocks, mask.kv_indices) & seen
    if mask.full_kv_num_blocks is not None:
        allowed |= _spread(mask, mask.full_kv_num_blocks, mask.full_kv_indices)
    bias = torch.zeros(allowed.shape, dtype=query.dtype)
    return bias.masked_fill(~allowed, -torch.inf)


def _spread(mask: BlockMask, counts: Phantom, indices: Phantom) -> Tensor:
    """Bool "b h queries keys": tokens of the listed blocks."""
    n_keys = -(-mask.seq_lengths[1] // mask.BLOCK_SIZE[1])
    listed = torch.arange(indices.shape[-1]) < counts.inner[..., None]
    blocks = torch.zeros(*counts.shape, n_keys + 1, dtype=torch.bool)
    where = indices.inner.long().masked_fill(~listed, n_keys)  # behind the last, cut off below
    blocks.scatter_(-1, where, True)
    tokens = blocks[..., :n_keys].repeat_interleave(mask.BLOCK_SIZE[0], -2)
    tokens = tokens.repeat_interleave(mask.BLOCK_SIZE[1], -1)
    return tokens[..., : mask.seq_lengths[0], : mask.seq_lengths[1]]
