"""The last layer of a packed row: its feed-forward part runs over completions alone.

What the last layer makes of a prompt nobody reads: no layer behind it attends to it, and the head
scores completions. Their log-probabilities and all gradients stay what they are.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from boxrl.engines.prefix.layout import Layout

FEED_FORWARD = ("mlp", "feed_forward")
"""What transformers calls it."""


def leave_prompts_out(model: Any) -> None:
    """Let the model's last layer run its feed-forward part without prompts, in packed rows only.

    Args:
        model: unwrapped; the class of that layer and `forward` of its part are replaced. Where
            the part has another name than those of FEED_FORWARD, nothing is.
    """
    layer = _last_layer(model)
    part = _feed_forward_part(layer)
    if part is not None and not hasattr(part, "completions"):
        layer.__class__ = _telling(type(layer))
        part.forward = MethodType(_feed_forward, part)
        part.completions = None


def _last_layer(model: Any) -> Any:
    text = model.config.get_text_config()
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer) and any(
            getattr(part, "layer_idx", None) == text.num_hidden_layers - 1
            and getattr(part, "config", None) is text
            for part in module.children()
        ):
            return module
    return None


def _feed_forward_part(layer: Any) -> Any:
    return next((getattr(layer, name) for name in FEED_FORWARD if hasattr(layer, name)), None)


def _telling(layer: type[Any]) -> type[Any]:
    """The same layer, which tells its feed-forward part what is read whenever it is computed.

    A class of its own, because transformers has a class's `forward` computed again for the backward
    pass, when other rows may have been run. Under the same name, by which FSDP finds layers.
    """

    def forward(self: Any, *args: Any, shared_prefix: Layout | None = None, **kwargs: Any) -> Any:
        part = _feed_forward_part(self)
        part.completions = None if shared_prefix is None else shared_prefix.completions
        return layer.forward(self, *args, shared_prefix=shared_prefix, **kwargs)

    return type(layer.__name__, (layer,), {"forward": forward, "__module__": layer.__module__})


def _feed_forward(self: Any, row: Tensor) -> Tensor:
    """The module's own forward over the completions of "1 total h"; 0 for prompts."""
    forward = type(self).forward
    if self.completions is None:
        whole: Tensor = forward(self, row)
        return whole
    made: Tensor = forward(self, row.index_select(1, self.completions))
    return made.new_zeros(row.shape).index_copy(1, self.completions, made)
