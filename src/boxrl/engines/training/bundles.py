"""An order of samples in which prompts of one image stand behind each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

WAITING = 64
"""Bundles that are put off because they would cross the bounds of a micro-batch, at most."""


class BundleSampler(Sampler[int]):
    """The indices that another sampler yields in order, over an order of bundles."""

    def __init__(self, inner: Any, images: Sequence[str], most: int, room: int, seed: int) -> None:
        """Bundle the samples anew for every epoch.

        Args:
            inner: sampler over as many samples, which does not shuffle them; it may repeat them.
            images: of every sample, equal where the image is.
            most: samples of a bundle, all of one image.
            room: samples of a micro-batch.
            seed: of the first epoch.
        """
        self._inner, self._images = inner, images
        self._most, self._room, self._seed = most, room, seed
        self._generator = torch.Generator().manual_seed(seed)

    def set_epoch(self, epoch: int) -> None:
        """Go on with an epoch, by its number."""
        self._generator.manual_seed(self._seed + epoch)

    def __iter__(self) -> Iterator[int]:
        """Indices of samples."""
        order = bundled_order(self._images, self._most, self._room, self._generator)
        return (order[index] for index in self._inner)

    def __len__(self) -> int:
        """How many indices an epoch has."""
        return len(self._inner)


def bundled_order(
    images: Sequence[str], most: int, room: int, generator: torch.Generator
) -> list[int]:
    """Every sample once: bundles of up to `most` samples of one image, in a random order.

    A bundle does not cross the bounds of a micro-batch where another one fits.

    Args:
        images: of every sample, equal where the image is.
        most: samples of a bundle.
        room: samples of a micro-batch.
        generator: of which samples make a bundle, and of the bundles' order.
    """
    by_image: dict[str, list[int]] = {}
    for number in torch.randperm(len(images), generator=generator).tolist():
        by_image.setdefault(images[number], []).append(number)
    bundles = [own[k : k + most] for own in by_image.values() for k in range(0, len(own), most)]
    shuffled = torch.randperm(len(bundles), generator=generator).tolist()
    return _fill([bundles[number] for number in shuffled], room)


def _fill(bundles: Sequence[list[int]], room: int) -> list[int]:
    """Bundles behind each other, those that do not fit put off until they do."""
    order: list[int] = []
    left, waiting = deque(bundles), deque[list[int]]()
    while left or waiting:
        free = room - len(order) % room
        fits = next((bundle for bundle in waiting if len(bundle) <= free), None)
        if fits is not None:
            waiting.remove(fits)
        elif left and len(left[0]) > free and len(waiting) < WAITING:
            waiting.append(left.popleft())
            continue
        else:
            fits = left.popleft() if left else waiting.popleft()
        order += fits
    return order
