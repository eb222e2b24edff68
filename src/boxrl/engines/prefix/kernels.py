"""Kernels that attend over a whole packed row in one call, and the machines that run them."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from boxrl.engines.prefix.layout import Layout
from boxrl.errors import UsageError

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # older than torch 2.10
    varlen_attn = None  # type: ignore[assignment]

HALF = (torch.float16, torch.bfloat16)
LARGEST_HEAD, HEAD_STEP = 256, 8
"""Heads of the variable-length kernel are at most so wide, and a multiple of it."""
OLDEST = (8, 0)
"""Compute capability that it needs: Ampere, of 2020."""


def refuse_attention(choice: str, device: torch.device, half: bool) -> None:
    """See that the machine runs an attention; `auto` and `sdpa` run everywhere.

    Args:
        choice: the recipe's `engine.attention`.
        device: of the model.
        half: whether it computes in half precision.

    Raises:
        UsageError: it does not.
    """
    if choice not in ("varlen", "flex"):
        return
    why = "trains on a GPU only, got a CPU" if device.type == "cpu" else None
    if choice == "varlen":
        why = why or no_varlen(device) or (None if half else "computes in half precision only")
    elif why is None and not torch.utils._triton.has_triton():
        why = "is compiled by triton, which is missing or knows no kernels for this GPU"
    if why:
        raise UsageError(f"engine.attention: {choice} {why}; take auto")


def on_gpu(device: torch.device) -> bool:
    """Whether it is a GPU, or `meta`, which stands for one where a step runs without numbers.

    Args:
        device: of a tensor or a model.
    """
    return device.type in ("cuda", "meta")


def no_varlen(device: torch.device) -> str | None:
    """Why a GPU does not run the variable-length kernel; None where it does.

    Args:
        device: the GPU, or `meta`.
    """
    if varlen_attn is None or "enable_gqa" not in inspect.signature(varlen_attn).parameters:
        return f"needs a newer torch, such as 2.13, got {torch.__version__}"
    if device.type == "meta":
        return None
    if not torch.backends.cuda.is_flash_attention_available():
        return "needs a torch that was built with flash attention"
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST:
        return f"needs a GPU of compute capability 8.0, got {capability[0]}.{capability[1]}"
    return None


def takes_varlen(query: Tensor, value: Tensor, dropout: float = 0.0) -> bool:
    """Whether the variable-length kernel computes this attention here.

    Args:
        query: "b heads n d".
        value: "b kv_heads m d".
        dropout: of the attention weights; the kernel knows none.
    """
    width = query.shape[-1]
    return (
        on_gpu(query.device)
        and _half(query) is not None
        and width == value.shape[-1] <= LARGEST_HEAD
        and not width % HEAD_STEP
        and not dropout
        and no_varlen(query.device) is None
    )


def _half(query: Tensor) -> torch.dtype | None:
    """The half precision that attention is computed in: the query's, or that of autocast."""
    dtype = query.dtype
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
    return dtype if dtype in HALF else None


class _Gather(torch.autograd.Function):
    """Tokens by index, repeated ones as well; their gradients are summed in float32."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.tokens = len(states)
        return states.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        total = grad.new_zeros(ctx.tokens, *grad.shape[1:], dtype=torch.float32)
        return total.index_add_(0, index, grad.float()).to(grad.dtype), None


def attend_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scaling: float | None = None,
    kernel: Any = None,
) -> Tensor:
    """One call of a variable-length kernel over all spans of the row.

    Args:
        query: "1 heads total d".
        key: "1 kv_heads total d".
        value: as `key`.
        layout: of the row.
        scaling: of the scores.
        kernel: takes what torch's `varlen_attn` takes, which is the default.

    Returns:
        "1 total heads d".
    """
    varlen = layout.varlen
    dtype = _half(query) or query.dtype
    queries, keys, values = (x[0].transpose(0, 1).to(dtype) for x in (query, key, value))
    run: Any = kernel or varlen_attn
    output: Tensor = run(
        queries,
        _Gather.apply(keys, varlen.keys),
        _Gather.apply(values, varlen.keys),
        varlen.query_ends,
        varlen.key_ends,
        varlen.max_queries,
        varlen.max_keys,
        scale=scaling,
        window_size=(-1, 0),  # causal, aligned to the right
        enable_gqa=True,
    )
    return output[None]


def attend_windows(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of a vision tower within each window of a row of patches, in one call.

    Args:
        module: the attention layer.
        query: "1 heads total d".
        key: as `query`.
        value: as `query`.
        attention_mask: used without windows only.
        cu_seq_lens_q: Int "windows+1", where they end, from 0; None for no windows.
        max_length_q: patches of the largest.
        scaling: of the scores.
        dropout: of the attention weights.
        kwargs: passed on to SDPA without windows.

    Returns:
        "1 total heads d" and None, as transformers expects.
    """
    sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]
    if cu_seq_lens_q is None:
        plain: tuple[Tensor, None] = sdpa(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
        return plain
    if not takes_varlen(query, value, dropout):
        lengths = cu_seq_lens_q.diff().tolist()
        windows = zip(*(x.split(lengths, 2) for x in (query, key, value)), strict=True)
        options = {"scaling": scaling, "dropout": dropout, "is_causal": False}
        return torch.cat([sdpa(module, *own, None, **options)[0] for own in windows], 1), None
    dtype = _half(query)
    queries, keys, values = (x[0].transpose(0, 1).to(dtype) for x in (query, key, value))
    ends, longest = cu_seq_lens_q.int(), max_length_q or query.shape[2]
    run: Any = varlen_attn
    output: Tensor = run(queries, keys, values, ends, ends, longest, longest, scale=scaling)
    return output[None], None


def attend_flex(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float | None = None
) -> Tensor:
    """Flex attention of torch over the whole row; on a CPU it has no backward.

    Args:
        query: "1 heads total d".
        key: "1 kv_heads total d".
        value: as `key`.
        layout: of the row.
        scaling: of the scores.

    Returns:
        "1 total heads d".
    """
    kernel = _compiled_flex() if query.is_cuda else flex_attention
    shared = query.shape[1] != key.shape[1]
    output: Tensor = kernel(
        query, key, value, block_mask=layout.block_mask, scale=scaling, enable_gqa=shared
    )
    return output.transpose(1, 2)


@cache
def _compiled_flex() -> Any:
    """One kernel for rows of every length."""
    return torch.compile(flex_attention, dynamic=True)
