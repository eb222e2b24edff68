"""A key-value cache that is repeated for the completions of a prompt and grows in place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ROOM = 256
"""Tokens that a cache grows by at a time."""


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer, with room behind them for the tokens to come.

    transformers' own layer copies everything it holds for every new token. Law: `update` returns
    what that layer returns.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        """Go on from `keys` and `values`, "b heads n d"."""
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values
        self._buffers: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> Any:
        """Append "b heads m d" to both; all keys and values so far, "b heads n+m d"."""
        assert self.keys is not None and self.values is not None
        start = self.keys.shape[2]
        end = start + key_states.shape[2]
        if not self._holds(end):
            self._buffers = [_with_room(x, end + ROOM) for x in (self.keys, self.values)]
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = new
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def _holds(self, end: int) -> bool:
        """Whether keys still lie in the buffer, which beam search replaces, and there is room."""
        if not self._buffers or self.keys is None:
            return False
        buffer = self._buffers[0]
        return self.keys.data_ptr() == buffer.data_ptr() and end <= buffer.shape[2]


def _with_room(states: Tensor, length: int) -> Tensor:
    """A buffer "b heads length d" that starts with `states`."""
    batch, heads, filled, width = states.shape
    buffer = states.new_empty(batch, heads, length, width)
    buffer[:, :, :filled] = states
    return buffer


@torch.no_grad()
def repeat_with_room(cache: DynamicCache, repeats: int) -> None:
    """Repeat every row of the cache `repeats` times in place; its full layers get room to grow."""
    cache.batch_repeat_interleave(repeats)
    cache.layers = [
        RoomyLayer(layer.keys, layer.values) if type(layer) is DynamicLayer else layer
        for layer in cache.layers
    ]
