"""What an optimizer step does to the weights: float32 copies that keep it, and a figure of it.

A weight of .02 in bfloat16 moves in steps of 1e-4. AdamW at a learning rate of 1e-6 asks for
1e-6 a step, which is rounded away, step after step, while loss and rewards look as ever. So the
optimizer works on float32 copies, and the model holds them rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

KEY = "float32_weights"
"""Of the copies in an optimizer's state."""

SEEN = 64
"""Numbers of each weight that `ChangedWeights` looks at."""


def keep_in_float32(optimizer: Optimizer) -> None:
    """Let an optimizer work on float32 copies of the weights that the model holds in 16 bits.

    Its state holds the copies, and so does a checkpoint. Law: the model's weights are those that
    float32 weights would be, rounded.

    Args:
        optimizer: of a model's weights, in its final groups; others than 16-bit ones stay.
    """
    pairs: list[tuple[Tensor, Tensor]] = []
    for group in optimizer.param_groups:
        for place, weight in enumerate(group["params"]):
            if weight.dtype in (torch.bfloat16, torch.float16):
                pairs.append((weight, weight.detach().float().requires_grad_()))
                group["params"][place] = pairs[-1][1]
    if pairs:
        copies = _Copies(pairs)
        optimizer.register_step_pre_hook(copies.take_gradients)
        optimizer.register_step_post_hook(copies.round_back)
        optimizer.register_state_dict_post_hook(copies.save)
        # No hook: bitsandbytes' optimizers load by a way of their own, which calls none.
        optimizer.load_state_dict = copies.loading(optimizer.load_state_dict)  # type: ignore[method-assign]
        _keep_settings(optimizer, pairs)


def _keep_settings(optimizer: Optimizer, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Let the copies have what bitsandbytes was told of weights: 32-bit states for embeddings."""
    manager: Any = getattr(optimizer, "mng", None)
    if manager is None:
        return
    copies = {id(weight): copy for weight, copy in pairs}
    for module, name, settings in [*manager.module_weight_config_triple]:
        if (copy := copies.get(id(getattr(module, name)))) is not None:
            manager.register_module_override(SimpleNamespace(weight=copy), "weight", settings)


class _Copies:
    """What happens to the copies around a step, a save and a load; arguments as torch's hooks."""

    def __init__(self, pairs: list[tuple[Tensor, Tensor]]) -> None:
        """Take (the model's weight, its copy)."""
        self.pairs = pairs

    def take_gradients(self, *_: Any) -> None:
        """Move gradients from the weights to the copies, one by one: both take memory."""
        for weight, copy in self.pairs:
            copy.grad = None if weight.grad is None else weight.grad.float()
            weight.grad = None

    @torch.no_grad()
    def round_back(self, *_: Any) -> None:
        """Give the model what the step made of the copies."""
        for weight, copy in self.pairs:
            weight.copy_(copy)
            copy.grad = None

    def save(self, _optimizer: Optimizer, state: dict[str, Any]) -> None:
        """Add the copies to the optimizer's state."""
        state[KEY] = [copy.detach() for _, copy in self.pairs]

    def loading(self, load: Callable[..., None]) -> Callable[..., None]:
        """An optimizer's `load_state_dict` that goes on with saved copies.

        A checkpoint without any leaves those of the weights.
        """

        @torch.no_grad()
        def load_state_dict(state: dict[str, Any], *options: Any) -> None:
            if saved := state.get(KEY):
                for (_, copy), value in zip(self.pairs, saved, strict=True):
                    copy.copy_(value)
            load({name: x for name, x in state.items() if name != KEY}, *options)

        return load_state_dict


class ChangedWeights:
    """Which share of the weights the steps of an optimizer change, as it holds them itself.

    Of each weight up to `SEEN` numbers are looked at. Of a sharded model each process sees its
    own part.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._before = torch.empty(0)
        self._changed: list[Tensor] = []
        self._count = 0
        optimizer.register_step_pre_hook(self._look)
        optimizer.register_step_post_hook(self._compare)

    def take_share(self) -> float | None:
        """The share, in [0, 1], since it was last asked for; None where no step was made."""
        changed, count = self._changed, self._count
        self._changed, self._count = [], 0
        return float(sum(changed)) / count if count else None

    def _look(self, optimizer: Optimizer, *_: Any) -> None:
        self._before = _sample(optimizer)

    def _compare(self, optimizer: Optimizer, *_: Any) -> None:
        self._changed.append((self._before != _sample(optimizer)).sum())
        self._count += len(self._before)


@torch.no_grad()
def _sample(optimizer: Optimizer) -> Tensor:
    """Evenly spaced numbers of each weight, copied."""
    found = [torch.empty(0)]
    for group in optimizer.param_groups:
        for weight in group["params"]:
            own = weight.to_local() if isinstance(weight, DTensor) else weight
            found.append(own.reshape(-1)[:: max(1, -(-own.numel() // SEEN))])
    device = found[-1].device
    return torch.cat([part.to(device) for part in found])
