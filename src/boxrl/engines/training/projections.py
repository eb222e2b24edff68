"""Gradients of a whole model as small random projections, taken one by one as they come.

A gradient takes as much memory as the weights. What is kept of it here takes a few MB, and sums,
differences and norms of gradients are found from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

WIDTH = 64
"""Projections of the rows and of the columns of each gradient."""
ROWS = 4096
"""Rows of a gradient that are projected at a time, in float32."""

Projections = dict[str, Tensor]
"""By parameter, Float "WIDTH WIDTH"; added and subtracted as the gradients themselves."""


class Projector:
    """Random signs, the same for every gradient that is compared."""

    def __init__(self, model: nn.Module) -> None:
        shapes = [_as_matrix(p).shape for p in model.parameters()]
        device = next(model.parameters()).device
        generator = torch.Generator().manual_seed(0)
        self._signs = [
            torch.randint(2, (max(sizes), WIDTH), generator=generator).mul(2).sub(1).float()
            for sizes in zip(*shapes, strict=True)
        ]
        self._signs = [signs.to(device) for signs in self._signs]

    def project(self, gradient: Tensor) -> Tensor:
        """Float "WIDTH WIDTH" of a gradient "...".

        Law: linear, and its squared norm is in the mean that of the gradient.
        """
        matrix = _as_matrix(gradient)
        rows, columns = (
            signs[:size] for signs, size in zip(self._signs, matrix.shape, strict=True)
        )
        parts = zip(matrix.split(ROWS), rows.split(ROWS), strict=True)
        total = torch.zeros(WIDTH, matrix.shape[1], device=matrix.device)
        for part, signs in parts:
            total += signs.T @ part.float()
        return total @ columns / WIDTH

    @contextmanager
    def collecting(self, model: nn.Module) -> Iterator[Projections]:
        """Within the block gradients of `model` are projected, summed up and dropped at once."""
        found: Projections = {}

        def take(name: str, parameter: Tensor) -> None:
            assert parameter.grad is not None
            own = self.project(parameter.grad)
            found[name] = found[name] + own if name in found else own
            parameter.grad = None

        handles = [
            parameter.register_post_accumulate_grad_hook(partial(take, name))
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        ]
        try:
            yield found
        finally:
            for handle in handles:
                handle.remove()


def _as_matrix(tensor: Tensor) -> Tensor:
    return tensor.detach().flatten(1) if tensor.ndim > 1 else tensor.detach().reshape(1, -1)


def relative_difference(one: Projections, other: Projections) -> float:
    """Norm of the difference of two models' gradients over that of the second, to some percent.

    Args:
        one: "WIDTH WIDTH" each; a parameter that is missing has a gradient of 0.
        other: as `one`.

    Returns:
        In [0, inf]; NaN where both are 0.
    """
    nothing = torch.zeros(())
    error, total = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for name in one.keys() | other.keys():
        first, second = (x.get(name, nothing).cpu() for x in (one, other))
        error += (first - second).square().sum()
        total += second.square().sum()
    return float((error / total).sqrt())
