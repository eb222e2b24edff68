"""Layers that only look back, in a packed row: the prompt's state goes on to every completion.

Linear attention (Gated DeltaNet) and short convolutions keep of the past a tail of tokens and a
recurrent state. The prompt runs through such a layer once; what it leaves behind is handed, with
its gradient, to all its completions. The layer's own forward does both, with the kernels that it
has (those of `fla` where they are installed), and takes the states as it takes a cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, LinearAttentionLayer

from boxrl.engines.prefix.kinds import RECURRENT, layer_kinds
from boxrl.engines.prefix.kv_cache import cache_argument
from boxrl.engines.prefix.layout import Layout


class States(LinearAttentionLayer):
    """States of one layer that are assigned, not copied into buffers, so gradients flow on."""

    def __init__(self) -> None:
        super().__init__()
        self.record_past = True  # convolutions then keep their input itself

    def update_recurrent_state(
        self, recurrent_states: Tensor, state_idx: int = 0, **_: Any
    ) -> Tensor:
        """Keep the state "b heads d d" that the layer ends in; arguments as transformers'."""
        self.recurrent_states[state_idx] = recurrent_states
        return recurrent_states

    def go_on(self, rows: Tensor) -> States:
        """States of suffixes: each starts where one of the prefixes ended.

        Args:
            rows: Long "m", the prefix of each suffix.
        """
        after = States()
        for number, seen in self.conv_states.items():
            width = self.conv_kernel_size[number]
            if seen is not None:
                after.conv_states[number] = seen[..., -width:].index_select(0, rows)
                after.conv_kernel_size[number] = width
                after.is_conv_states_initialized[number] = True
            if self.recurrent_states[number] is not None:
                after.recurrent_states[number] = self.recurrent_states[number].index_select(0, rows)
            after.has_previous_state[number] = True
        return after


def share_states(model: nn.Module) -> None:
    """Let every layer of the model that only looks back run packed rows.

    Args:
        model: the language model or one that holds it; its layers' `forward` is replaced.
    """
    for layer in recurrent_layers(model):
        layer.forward = MethodType(_forward, layer)


def recurrent_layers(model: Any) -> Iterator[nn.Module]:
    """The layers that only look back, without what they stand in.

    Args:
        model: unwrapped.
    """
    kinds = layer_kinds(model.config.get_text_config())
    for module in model.modules():
        number = getattr(module, "layer_idx", None)
        if (
            isinstance(number, int)
            and kinds[number] in RECURRENT
            and cache_argument(type(module).forward)
        ):
            yield module


def _forward(
    self: Any, hidden_states: Tensor, shared_prefix: Layout | None = None, **kwargs: Any
) -> Tensor:
    """The layer's own forward, twice for a packed row "1 total h": prefixes, then suffixes."""
    forward = type(self).forward
    if shared_prefix is None:
        whole: Tensor = forward(self, hidden_states, **kwargs)
        return whole
    branches, states, name = shared_prefix.branches, States(), cache_argument(forward)
    assert name is not None
    row = hidden_states[0]

    def run(tokens: Tensor, mask: Tensor | None, states: States) -> Tensor:
        cache = Cache(layers=[states] * (self.layer_idx + 1))
        options = {**kwargs, name: cache, "attention_mask": mask}
        chosen = row.index_select(0, tokens.flatten()).unflatten(0, tokens.shape)
        output: Tensor = forward(self, chosen, **options)
        return output

    found = run(branches.prefixes, branches.prefix_mask, states)[branches.prefix_mask]
    if len(branches.suffixes):
        suffixes = run(branches.suffixes, None, states.go_on(branches.prefix_of))
        found = torch.cat([found, suffixes.flatten(0, 1)[branches.suffix_real]])
    return found.index_select(0, branches.order)[None]
