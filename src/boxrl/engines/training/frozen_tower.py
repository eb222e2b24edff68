"""A vision tower that is not trained: no gradients run through it, and no image twice.

With activation checkpointing transformers has the output of a tower's first layer require
gradients, so a frozen tower would still be computed again and differentiated.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from boxrl.errors import UsageError


def run_frozen(model: nn.Module, name: str) -> FrozenTower:
    """Stop training of a module and run it without gradients from here on.

    Args:
        model: that holds it.
        name: of the module, dots between its parts.

    Raises:
        UsageError: it holds no such module.
    """
    tower = dict(model.named_modules()).get(name) if name else None
    if tower is None:
        raise UsageError(
            f"train.freeze_vision: the model has no module {name!r}, which its family names as its "
            "vision tower; set it to false, or name another --family"
        )
    tower.requires_grad_(False)
    tower.forward = frozen = FrozenTower(tower)
    return frozen


def find_frozen(model: nn.Module) -> FrozenTower | None:
    """What `run_frozen` returned, of a model or of one that holds it; None where it was not run."""
    frozen = (module.__dict__.get("forward") for module in model.modules())
    return next((forward for forward in frozen if isinstance(forward, FrozenTower)), None)


class FrozenTower:
    """The forward of a frozen vision tower; what it makes of an image is kept where asked for.

    Law: the tower's own output, but for the rounding of kernels that take images together.
    """

    def __init__(self, tower: nn.Module) -> None:
        self._tower = tower
        self._keeps = False
        self._kept: dict[Any, Any] = {}

    @contextmanager
    def keeping(self, keeps: bool = True) -> Iterator[None]:
        """Within the block features of images are kept, and those that are kept are taken.

        Args:
            keeps: False has every image run again.
        """
        before, self._keeps = self._keeps, keeps
        try:
            yield
        finally:
            self._keeps = before

    def forget(self) -> None:
        """Drop what is kept: other images come."""
        self._kept.clear()

    def keep_nothing(self) -> None:
        """Run every image again from here on, also in a block that keeps, and drop what is kept."""
        self._keeps = False
        self.forget()

    @torch.no_grad()
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The tower's output; arguments as it takes them."""
        images = _Images.find(self._tower, args, kwargs) if self._keeps else None
        if images is None:
            return self._run(*args, **kwargs)
        keys = images.keys()
        new = {key: row for row, key in enumerate(keys) if key not in self._kept}
        if new:
            rows = sorted(new.values())
            output = self._run(**images.chosen(rows))
            found = _split(output, [images.counts[row] for row in rows])
            if found is None:
                return self._run(*args, **kwargs)
            self._kept.update(zip([keys[row] for row in rows], found, strict=True))
        return _join([self._kept[key] for key in keys])

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        return type(self._tower).forward(self._tower, *args, **kwargs)


class _Images(NamedTuple):
    """The images that a tower is called with, one after the other.

    Attributes:
        name: what the tower calls its pixel values.
        pixels: "rows ...".
        shapes: of each image in rows of pixels, along time, height and width where it has a grid.
        grid: Long "images 3", or None.
        others: further arguments by name.
    """

    name: str
    pixels: Tensor
    shapes: list[tuple[int, ...]]
    grid: Tensor | None
    others: dict[str, Any]

    @property
    def counts(self) -> list[int]:
        """Rows of pixels of each image."""
        return [prod(shape) for shape in self.shapes]

    @classmethod
    def find(cls, tower: nn.Module, args: Any, kwargs: Any) -> _Images | None:
        """Those among arguments of `tower`; None where further tensors go with them."""
        names = list(inspect.signature(type(tower).forward).parameters)[1:]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        pixels, grid = given.pop(names[0], None), given.pop("grid_thw", None)
        if not torch.is_tensor(pixels) or any(map(torch.is_tensor, given.values())):
            return None
        shapes: list[tuple[int, ...]] = [(1,)] * len(pixels)
        if grid is not None:
            shapes = [tuple(shape) for shape in grid.tolist()]
        return cls(names[0], pixels, shapes, grid, given)

    def chosen(self, rows: Sequence[int]) -> dict[str, Any]:
        """The tower's arguments for some of the images."""
        parts = self.pixels.split(self.counts)
        chosen = {**self.others, self.name: torch.cat([parts[row] for row in rows])}
        if self.grid is not None:
            grids = self.grid.split(1)
            chosen["grid_thw"] = torch.cat([grids[row] for row in rows])
        return chosen

    def keys(self) -> list[Any]:
        """Equal for equal images alone: a sum of their words times random factors, by 2**64.

        Two different images share theirs with a chance of about 2**-48.
        """
        device = self.pixels.device.type
        half = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        sums = []
        for part in self.pixels.split(self.counts):
            words = part.flatten(1).contiguous().view(torch.int16).long()
            by_row = (words * _factors(words.shape[1], words.device)).sum(1)
            sums.append((by_row * _factors(len(words), words.device)).sum())
        found = torch.stack(sums).tolist()  # one wait for a GPU
        # Shapes, too: blank images of one area have the same pixels.
        return [(total, shape, half) for total, shape in zip(found, self.shapes, strict=True)]


def _factors(count: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(-(2**63), 2**63 - 1, (count,), generator=generator).to(device)


def _split(output: Any, counts: Sequence[int]) -> list[Any] | None:
    """A tower's output image by image, whose rows are as many as theirs or in proportion.

    Args:
        output: of transformers, made of tensors "rows ...".
        counts: rows of each image.

    Returns:
        As many outputs; None where rows are not in proportion.
    """
    total = sum(counts)
    lengths = [len(x) for x in tree_leaves(output) if torch.is_tensor(x)]
    if any(count * length % total for count in counts for length in lengths):
        return None
    ends = [0, *accumulate(counts)]

    def cut(start: int, end: int) -> Any:
        def part(x: Any) -> Any:
            if not torch.is_tensor(x):
                return x
            # A copy, for a view would keep the other images in memory.
            return x[start * len(x) // total : end * len(x) // total].clone()

        return tree_map(part, output)

    return [cut(start, end) for start, end in pairwise(ends)]


def _join(outputs: Sequence[Any]) -> Any:
    """Outputs of single images as one of them all: the inverse of `_split`."""
    return tree_map(
        lambda *parts: torch.cat(parts) if torch.is_tensor(parts[0]) else parts[0], *outputs
    )
