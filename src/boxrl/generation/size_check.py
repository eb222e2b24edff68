"""Whether servers show images at the size that places the boxes, seen by the tokens they count.

A server may have pixel limits of its own. Where a family answers in pixels of the image as the
model sees it, every box would then lie in the wrong place, and no answer would show it. Grey
images are counted before anything is asked; a server that shrinks or enlarges them is told of
with limits within which it leaves images alone, because they are sent in that size.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import product

from boxrl.errors import UsageError
from boxrl.families import Family

Size = tuple[int, int]
"""(width, height) in pixels."""

Counts = list[int | None]
"""Prompt tokens of grey images in their order, as one server counts them; None: not told."""

Ask = Callable[[Sequence[Size]], Awaitable[list[Counts]]]
"""Sends grey images of these sizes to every server; one list per server."""

SMALL_WH, MIDDLE_WH = (112, 112), (448, 448)
"""Images that nearly every server leaves alone."""

LADDER = ((112, 112), (224, 224), (448, 448), (672, 672), (1008, 1008))
"""Images of which two neighbours tell what the text costs, whatever limits a server has."""

ROUNDS = 6
"""Limits that are tried before a server is given up on."""


@dataclass(frozen=True, slots=True)
class SizeCheck:
    """What is expected of the servers.

    Attributes:
        family: with the pixel limits that place the boxes.
        sizes: of the images that will be asked about.
        urls: of the servers, in order of `Ask`'s lists.
        resized_here: whether images are sent in the size that the model is to see; where not,
            the server resizes them by the model's own limits.
        named: whether the user named the limits, and so answers for a server that tells nothing.
    """

    family: Family
    sizes: Collection[Size]
    urls: Sequence[str]
    resized_here: bool
    named: bool

    async def run(self, ask: Ask) -> None:
        """Count grey images.

        Raises:
            UsageError: a server shows images in another size, or does not count them and nobody
                named the limits.
        """
        sizes = self._shown(self.family)
        expected = self._expected(sizes)
        for server, counts in enumerate(await ask([self._sent(size) for size in sizes])):
            told = [count for count in counts if count is not None]
            if _hides(counts, expected):
                if not self.named:
                    raise UsageError(_hidden(self.urls[server], told))
            elif not _fits(told, expected):
                raise UsageError(await self._misfit(ask, server, sizes, told))

    async def holds(self, ask: Ask) -> bool:
        """Whether every server counts grey images, and shows them as the family says."""
        sizes = self._shown(self.family)
        expected = self._expected(sizes)
        counted = await ask([self._sent(size) for size in sizes])
        return all(not _hides(one, expected) and _fits(one, expected) for one in counted)

    def _shown(self, family: Family) -> list[Size]:
        """A small image, one in the middle, and the extremes of what will be shown.

        Of those that the limits change the squarest and the longest too: limits of sides and
        limits of areas differ there.
        """
        taken = [size for size in self.sizes if family.takes(size)]
        sizes = [SMALL_WH, MIDDLE_WH]
        for measure in (_area, _width, _height):
            sizes += sorted(taken, key=lambda size: measure(family.input_size_wh(size)))[-1:]
        sizes += sorted(taken, key=lambda size: _area(family.input_size_wh(size)))[:1]
        changed = [n for n in taken if not family.min_pixels <= _area(n) <= family.max_pixels]
        changed.sort(key=_elongation)
        return list(dict.fromkeys([*sizes, *changed[:1], *changed[-1:]]))

    def _sent(self, size: Size) -> Size:
        return self.family.input_size_wh(size) if self.resized_here else size

    def _expected(self, sizes: Sequence[Size], family: Family | None = None) -> list[int]:
        tokens = ((family or self.family).count_image_tokens(size) for size in sizes)
        return [count or 0 for count in tokens]

    async def _misfit(
        self, ask: Ask, server: int, sizes: Sequence[Size], counts: Sequence[int]
    ) -> str:
        """What a server does to images, and the limits within which it does nothing."""
        family = self.family
        steps = [size for size in LADDER if family.input_size_wh(size) == size] or list(sizes)
        told = (await ask(steps))[server]
        base = _text_tokens([n or 0 for n in told], self._expected(steps))
        seen = [count - base for count in counts]
        pairs = zip(sizes, seen, self._expected(sizes), strict=True)
        (width, height), n, expected = max(pairs, key=lambda row: abs(row[1] - row[2]))
        what = (
            f"{self.urls[server]}: shows an image of {width} x {height} pixels as {n:,} tokens, "
            f"which family {family.name!r} with {family.min_pixels:,} to {family.max_pixels:,} "
            f"pixels makes {expected:,}: it has limits of its own, and boxes would land elsewhere"
        )
        fitting = await self._fitting(ask, server, base, sizes, seen)
        if fitting is None:
            return f"{what}; no limits fit its counts, so take a server that resizes as the model"
        limits = ("min_pixels", fitting.min_pixels), ("max_pixels", fitting.max_pixels)
        named = [
            f"--{name.replace('_', '-')} {limit}"
            for name, limit in limits
            if not self.resized_here or limit != family.limits()[name]
        ]
        return f"{what}; name them: {' '.join(named)}"

    async def _fitting(
        self, ask: Ask, server: int, base: int, sizes: Sequence[Size], seen: Sequence[int]
    ) -> Family | None:
        """The family with limits that the server's counts bear out; None where none do."""
        family, sent, counted = self.family, [self._sent(size) for size in sizes], list(seen)
        for turn in range(ROUNDS):
            if turn or self.resized_here:  # else its own limits may do, once images come in them
                limits = _moved(family, sent, counted)
                if limits is None:
                    return None
                family = family.with_limits(*limits)
            shown = [*self._shown(family), _filling(family)]
            sent = [family.input_size_wh(size) for size in shown]
            counts = (await ask(sent))[server]
            counted = [count - base for count in counts if count is not None]
            if counted == self._expected(shown, family):
                return family
            if len(counted) < len(shown):
                return None
        return None


def _filling(family: Family) -> Size:
    """The squarest image that the largest area leaves alone, and nothing larger."""
    tokens = family.max_pixels // family.factor**2
    rows = next(n for n in range(math.isqrt(tokens), 0, -1) if tokens % n == 0)
    if tokens > 100 * rows**2:  # a prime, or nearly one
        rows = math.isqrt(tokens)
    return tokens // rows * family.factor, rows * family.factor


def _moved(family: Family, sent: Sequence[Size], seen: Sequence[int]) -> tuple[int, int] | None:
    """Limits moved to what the server was seen to make of images; None where none can be.

    Usual limits that explain every count are taken first, the largest of them.

    Args:
        family: with the limits before.
        sent: sizes of images as they were sent.
        seen: tokens that the server made of each.
    """
    token = family.factor**2
    wanted = [size[0] * size[1] // token for size in sent]
    more = [n for n, each in zip(seen, wanted, strict=True) if n > each]
    fewer = [n for n, each in zip(seen, wanted, strict=True) if n < each]
    low = max(family.min_pixels, max(more, default=0) * token)
    high = min([family.max_pixels, *(n * token for n in fewer)])
    lows = [n for n in family.usual_limits() if more and family.min_pixels < n <= low]
    highs = [n for n in family.usual_limits() if fewer and high <= n < family.max_pixels]
    for pair in product(lows or [low], highs or [high]):
        if pair[0] <= pair[1] and _explains(family.with_limits(*pair), sent, seen):
            return pair
    return (low, high) if token <= high and low <= high else None


def _explains(family: Family, sent: Sequence[Size], seen: Sequence[int]) -> bool:
    """Whether limits alone make these tokens of these images."""
    return [family.count_image_tokens(size) for size in sent] == list(seen)


def _text_tokens(counts: Sequence[int], expected: Sequence[int]) -> int:
    """Tokens of the question's text: what is over where images are shown as they should be.

    Images that are left alone agree on it. Where no two of the ladder do, the smallest is right
    if the larger ones are about alike, and else the largest.
    """
    over = [count - wanted for count, wanted in zip(counts, expected, strict=True)]
    agree = Counter(over).most_common(1)[0]
    if agree[1] > 1 or len(over) < 3:
        return agree[0]
    return over[0] if counts[-1] - counts[-2] < counts[1] - counts[0] else over[-1]


def _hides(counts: Counts, expected: Sequence[int]) -> bool:
    """Whether a server tells no counts, or the same one whatever the image."""
    return None in counts or len(set(counts)) == 1 < len(set(expected))


def _fits(counts: Sequence[int | None], expected: Sequence[int]) -> bool:
    """Whether counts differ by the text's tokens alone from what is expected."""
    return len({(count or 0) - n for count, n in zip(counts, expected, strict=True)}) == 1


def _hidden(url: str, told: Sequence[int]) -> str:
    why = "does not count images in" if told else "does not tell"
    return (
        f"{url}: {why} usage.prompt_tokens, so that nobody sees whether it shows images in the "
        "size that places the boxes; name the pixel limits that it keeps to: --min-pixels and "
        "--max-pixels"
    )


def _area(size: Size) -> int:
    return size[0] * size[1]


def _elongation(size: Size) -> float:
    return max(size) / min(size)


def _width(size: Size) -> int:
    return size[0]


def _height(size: Size) -> int:
    return size[1]
