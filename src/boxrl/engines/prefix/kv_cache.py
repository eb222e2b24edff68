"""Key-value caches for several completions of a prompt: one copy of the prompt, or repeated."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, LinearAttentionCacheLayerMixin

from boxrl.errors import UsageError

ROOM = 256
"""Tokens that a cache grows by at a time."""

APART = frozenset({torch.float32})
"""Precisions in which draws keep their tokens apart: scores that are added up outside of a fused
kernel would be rounded in half precision."""

CACHES = ("cache", "past_key_values", "cache_params")
"""What models and layers call the argument that a cache comes in by; the first from 5.24 on."""


def cache_argument(forward: Callable[..., Any]) -> str | None:
    """The name of the argument that a cache comes in by; None where there is none.

    Args:
        forward: of a model or a layer of transformers.
    """
    names = inspect.signature(forward).parameters
    return next((name for name in CACHES if name in names), None)


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

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take rows, Long "m", with their room; nothing holds on to those that left."""
        assert self.keys is not None and self.values is not None
        n = self.keys.shape[2]
        held = self._buffers if self._holds(n) else [self.keys, self.values]
        self._buffers = [x.index_select(0, beam_idx.to(x.device)) for x in held]
        self.keys, self.values = (x[:, :, :n] for x in self._buffers)

    def _holds(self, end: int) -> bool:
        """Whether keys still lie in the buffer, which others may replace, and there is room."""
        if not self._buffers or self.keys is None:
            return False
        buffer = self._buffers[0]
        return self.keys.data_ptr() == buffer.data_ptr() and end <= buffer.shape[2]


class Draws:
    """Completions of several prompts, token by token side by side, behind one copy of each prompt.

    The keys of a prompt lie as [ prompt | first tokens of its g draws | second tokens | ... ], so
    that a step appends one piece, and one attention call serves all draws of a prompt.

    Attributes:
        prompt_mask: Bool "n p", False on left padding.
        group: draws per prompt, g.
    """

    def __init__(self, prompt_mask: Tensor, group: int) -> None:
        self.prompt_mask = prompt_mask
        self.group = group
        self._mask = torch.empty(0, 1, 0, 0)

    def mask(self, length: int, repeats: int, dtype: torch.dtype) -> Tensor:
        """What is added to the scores "n 1 repeats*g length" of `repeats` heads that share a key.

        0 on the keys of a draw's prompt and its own, -inf elsewhere. All layers of a step ask for
        the same one.

        Args:
            length: keys so far, those of the prompt and of all draws.
            repeats: query heads that share a key head.
            dtype: of the scores.
        """
        if self._mask.shape[-1] != length:
            n, p = self.prompt_mask.shape
            draws = torch.arange(self.group, device=self.prompt_mask.device)
            own = draws[:, None] == draws.repeat((length - p) // self.group)
            shared = self.prompt_mask[:, None].expand(-1, self.group, -1)
            seen = torch.cat([shared, own.expand(n, -1, -1)], 2).repeat(1, repeats, 1)[:, None]
            self._mask = torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, -torch.inf)
        return self._mask

    def select(self, prompts: Tensor, group: int) -> None:
        """Keep `group` draws of each of `prompts`, Long "m"."""
        self.prompt_mask, self.group = self.prompt_mask[prompts], group
        self._mask = torch.empty(0, 1, 0, 0)


class ApartLayer(DynamicLayer):
    """Keys and values of one layer, those of a prompt's draws in buffers of their own.

    What `update` returns, the draws' "n*heads*g m d", m tokens into the completions, carries the
    layer as the attribute `apart`, which the attention function reads.

    Attributes:
        prompt_keys, prompt_values: "n*heads p d".
        unseen: "n*heads 1 p", -inf on left padding and 0 elsewhere; None where nothing is padded.
        group: draws per prompt, g.
    """

    def __init__(self, keys: Tensor, values: Tensor, group: int, unseen: Tensor | None) -> None:
        """Go on from a prompt's `keys` and `values`, "n heads p d"."""
        super().__init__()
        self.lazy_initialization(keys, values)
        self.heads = keys.shape[1]
        self.prompt_keys, self.prompt_values = keys.flatten(0, 1), values.flatten(0, 1)
        self.unseen, self.group = unseen, group
        rows = len(self.prompt_keys) * group
        self._filled = 0
        self._buffers = [keys.new_empty(rows, 0, keys.shape[-1]) for _ in range(2)]
        self.keys, self.values = self._buffers

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> Any:
        """Append one token per draw, "n*g heads 1 d"; all keys and values of the draws so far."""
        end = self._filled + 1
        if end > self._buffers[0].shape[1]:
            self._buffers = [_with_room(x[None], end + ROOM)[0] for x in self._buffers]
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            by_draw = buffer[:, self._filled].view(-1, self.heads, self.group, buffer.shape[-1])
            by_draw.copy_(new[:, :, 0].unflatten(0, (-1, self.group)).transpose(1, 2))
        self._filled = end
        self.keys, self.values = (buffer[:, :end] for buffer in self._buffers)
        self.keys.apart = self  # type: ignore[attr-defined]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Tokens of a prompt and of one of its draws."""
        return self.prompt_keys.shape[1] + self._filled

    def select(self, prompts: Tensor, draws: Tensor) -> None:
        """Keep `draws`, Long "m k", of `prompts`, Long "m"."""

        def of_prompts(x: Tensor) -> Tensor:
            return x.unflatten(0, (-1, self.heads))[prompts].flatten(0, 1)

        self.prompt_keys, self.prompt_values = map(
            of_prompts, (self.prompt_keys, self.prompt_values)
        )
        self.unseen = None if self.unseen is None else of_prompts(self.unseen)
        self.keys, self.values = self._buffers = [
            buffer[:, : self._filled]
            .unflatten(0, (-1, self.heads, self.group))[prompts]
            .take_along_dim(draws[:, None, :, None, None], 2)
            .flatten(0, 2)
            for buffer in self._buffers
        ]
        self.group = draws.shape[1]

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Not for beams ("n*g" rows in a new order); see `DrawsLayer`.

        Raises:
            UsageError: always.
        """
        refuse_beams()


class DrawsLayer(DynamicLayer):
    """Keys and values of one layer for `Draws`: "n heads p+g*m d", m tokens into the completions.

    What `update` returns carries its `Draws` as the attribute `draws`, which the attention
    function reads.
    """

    def __init__(self, keys: Tensor, values: Tensor, draws: Draws) -> None:
        """Go on from a prompt's `keys` and `values`, "n heads p d"."""
        super().__init__()
        self.lazy_initialization(keys, values)
        self.draws = draws
        self.keys, self.values = keys, values
        self._prompt = keys.shape[2]
        self._buffers = [keys, values]

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> Any:
        """Append one token per draw, "n*g heads 1 d"; all keys and values so far."""
        assert self.keys is not None
        group, start = self.draws.group, self.keys.shape[2]
        end = start + group
        if end > self._buffers[0].shape[2]:
            room = group * ROOM
            self._buffers = [_with_room(x[:, :, :start], start + room) for x in self._buffers]
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = new[:, :, 0].unflatten(0, (-1, group)).transpose(1, 2)
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        self.keys.draws = self.draws  # type: ignore[attr-defined]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Tokens of a prompt and of one of its draws."""
        assert self.keys is not None
        return self._prompt + (self.keys.shape[2] - self._prompt) // self.draws.group

    @property
    def group(self) -> int:
        """Draws per prompt."""
        return self.draws.group

    def select(self, prompts: Tensor, draws: Tensor) -> None:
        """Keep `draws`, Long "m k", of `prompts`, Long "m"; `self.draws` is told by its owner."""
        self.keys, self.values = self._buffers = [
            torch.cat(
                [
                    x[prompts, :, : self._prompt],
                    x[prompts, :, self._prompt :]
                    .unflatten(2, (-1, self.draws.group))
                    .take_along_dim(draws[:, None, None, :, None], 3)
                    .flatten(2, 3),
                ],
                2,
            )
            for x in (self.keys, self.values)
        ]

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Not for beams ("n*g" rows in a new order): the draws of a prompt are independent.

        Raises:
            UsageError: always.
        """
        refuse_beams()


SHARED = (ApartLayer, DrawsLayer)
"""Layers whose draws read one copy of their prompt."""


def refuse_beams() -> None:
    """Say that draws are sampled.

    Raises:
        UsageError: always.
    """
    raise UsageError("num_beams: beam search over the draws of a prompt; expected sampling")


def _with_room(states: Tensor, length: int) -> Tensor:
    """A buffer "b heads length d" that starts with `states`."""
    batch, heads, filled, width = states.shape
    buffer = states.new_empty(batch, heads, length, width)
    buffer[:, :, :filled] = states
    return buffer


def share_prompts(cache: DynamicCache, prompt_mask: Tensor, group: int) -> bool:
    """Let `group` draws of each row of the cache decode over its one copy.

    In float32 the draws' tokens stand apart, and each draw looks at its own; in half precision one
    fused kernel looks at those of all, most of them masked. States of layers that only look back
    change with every token, so each draw gets its own.

    Args:
        cache: of n prompts, filled; its layers are replaced.
        prompt_mask: Bool "n p", False on padding.
        group: draws per prompt.

    Returns:
        False, and the cache as it was, where a layer is neither of the plain growing kind nor one
        that only looks back.
    """
    attending = [layer for layer in cache.layers if not _only_looks_back(layer)]
    if any(type(layer) is not DynamicLayer for layer in attending):
        return False
    draws = Draws(prompt_mask.bool(), group)
    unseen = _unseen(attending[0], draws.prompt_mask) if attending else None
    for number, layer in enumerate(cache.layers):
        if _only_looks_back(layer):
            _repeat_states(layer, group)
        elif layer.keys.dtype in APART:
            cache.layers[number] = ApartLayer(layer.keys, layer.values, group, unseen)
        else:
            cache.layers[number] = DrawsLayer(layer.keys, layer.values, draws)
    return True


def _unseen(layer: DynamicLayer, prompt_mask: Tensor) -> Tensor | None:
    """What is added to the scores of prompts; see `ApartLayer`."""
    if bool(prompt_mask.all()):
        return None
    assert layer.keys is not None
    unseen = torch.zeros_like(prompt_mask, dtype=layer.keys.dtype)
    unseen.masked_fill_(~prompt_mask, -torch.inf)
    return unseen[:, None].repeat_interleave(layer.keys.shape[1], 0)


def draws_per_prompt(cache: DynamicCache) -> int:
    """Draws that read one copy of their prompt; 1 where every row has its own."""
    return next((layer.group for layer in cache.layers if isinstance(layer, SHARED)), 1)


def select_rows(cache: DynamicCache, kept: Tensor) -> None:
    """Keep some rows of the cache, in place.

    Args:
        cache: filled.
        kept: Long "m k", the rows; k of each of m prompts where draws read one copy of it.
    """
    group = draws_per_prompt(cache)
    prompts, draws = kept[:, 0] // group, kept % group
    for layer in cache.layers:
        if isinstance(layer, SHARED):
            layer.select(prompts, draws)
        else:
            layer.reorder_cache(kept.flatten())
    for one in {layer.draws for layer in cache.layers if isinstance(layer, DrawsLayer)}:
        one.select(prompts, kept.shape[1])


@torch.no_grad()
def repeat_with_room(cache: DynamicCache, repeats: int) -> None:
    """Repeat every row of the cache `repeats` times in place; its full layers get room to grow."""
    for layer in cache.layers:
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            _repeat_states(layer, repeats)
        if hasattr(layer, "batch_repeat_interleave"):
            layer.batch_repeat_interleave(repeats)
    give_room(cache)


def give_room(cache: DynamicCache) -> None:
    """Let the full layers of the cache grow without being copied."""
    for number, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer and layer.is_initialized:
            cache.layers[number] = RoomyLayer(layer.keys, layer.values)


def _only_looks_back(layer: Any) -> bool:
    """Whether it keeps states and no keys: linear attention, short convolutions."""
    return isinstance(layer, LinearAttentionCacheLayerMixin) and not isinstance(layer, DynamicLayer)


def _repeat_states(layer: LinearAttentionCacheLayerMixin, repeats: int) -> None:
    for states in (layer.conv_states, layer.recurrent_states):
        for number, state in states.items():
            if state is not None:
                states[number] = state.repeat_interleave(repeats, 0)
