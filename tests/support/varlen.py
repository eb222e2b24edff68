"""What a variable-length attention kernel computes, sequence by sequence."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor


def reference_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_ends: Tensor,
    key_ends: Tensor,
    max_queries: int,
    max_keys: int,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> Tensor:
    """As torch's `varlen_attn`, tokens "t heads d"; causality is aligned to the right."""
    assert enable_gqa or query.shape[1] == key.shape[1]
    assert window_size in ((-1, -1), (-1, 0))
    query, key, value = (x.transpose(0, 1) for x in (query, key, value))
    key, value = (x.repeat_interleave(len(query) // len(key), 0) for x in (key, value))
    q_ends, k_ends = query_ends.tolist(), key_ends.tolist()
    assert max(b - a for a, b in pairwise(q_ends)) == max_queries
    assert max(b - a for a, b in pairwise(k_ends)) == max_keys
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    outputs = []
    for (q0, q1), (k0, k1) in zip(pairwise(q_ends), pairwise(k_ends), strict=True):
        scores = query[:, q0:q1] @ key[:, k0:k1].mT * scale
        if window_size == (-1, 0):
            seen = torch.ones(q1 - q0, k1 - k0, dtype=torch.bool).tril(k1 - k0 - (q1 - q0))
            scores = scores.masked_fill(~seen, -torch.inf)
        outputs.append(scores.softmax(-1) @ value[:, k0:k1])
    return torch.cat(outputs, 1).transpose(0, 1)
