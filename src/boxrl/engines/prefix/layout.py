"""A packed row: where every prompt and completion lies in it, and what each of them sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128
"""Queries and keys of one block of flex attention."""


class Group(NamedTuple):
    """One prompt in the packed row: `prefix` tokens from `start`, then the suffixes."""

    start: int
    prefix: int
    suffixes: list[int]


class Mask(NamedTuple):
    """What the tokens of one group see, where it is not simply what stands before them.

    Attributes:
        prefix: Bool "p p".
        suffix: Bool "c p+c": the longest suffix over its prefix and itself.
    """

    prefix: Tensor
    suffix: Tensor


class Layout:
    """Where everything lies in a packed row of `total` tokens; built once, read by every layer.

    A plain class on purpose: FSDP copies dataclasses among the keyword arguments per module.

    Attributes:
        groups: in order; together they fill the row.
        masks: per kind of attention layer one mask per group, None for a group in which every
            token sees what stands before it; other kinds are plainly causal.
        rows: per group Long "g c", token index of each suffix position; padding repeats a token.
        real: per group Long, which of the g*c positions are no padding.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        device: torch.device,
        masks: Mapping[str, Sequence[Mask | None]] | None = None,
    ) -> None:
        self.groups = list(groups)
        self.device = device
        self.masks = {
            kind: list(found) for kind, found in (masks or {}).items() if any(m for m in found)
        }
        self.rows: list[Tensor] = []
        self.real: list[Tensor] = []
        self._causal: list[Tensor] = []
        for group in groups:
            lengths = torch.tensor(group.suffixes)
            n = max(group.suffixes)
            offsets = torch.arange(n)
            starts = group.start + group.prefix + lengths.cumsum(0) - lengths
            real = offsets < lengths[:, None]
            rows = torch.where(real, starts[:, None] + offsets, group.start)
            # Padding stands behind every real token of its row, so causality hides it.
            mask = torch.ones(n, group.prefix + n, dtype=torch.bool).tril(group.prefix)
            self.rows.append(rows.to(device))
            self.real.append(real.flatten().nonzero()[:, 0].to(device))
            self._causal.append(mask.to(device))

    def suffix_mask(self, number: int, mask: Mask | None) -> Tensor:
        """Bool "c p+c" of a group: its own, or plain causality."""
        return self._causal[number] if mask is None else mask.suffix

    @cached_property
    def completions(self) -> Tensor:
        """Long "n", token index of every suffix position, in order: those that have a label."""
        spans = [
            torch.arange(group.prefix, group.prefix + sum(group.suffixes)) + group.start
            for group in self.groups
        ]
        return torch.cat(spans).to(self.device)

    @cached_property
    def branches(self) -> Branches:
        """The same layout as two batches, for layers that only look back."""
        return Branches(self.groups, self.device)

    @cached_property
    def varlen(self) -> VarLen:
        """The same layout as sequences of different lengths, for kernels that take those."""
        keys, n_queries, n_keys = [], [], []
        for group in self.groups:
            prefix = torch.arange(group.start, group.start + group.prefix)
            keys.append(prefix)
            n_queries.append(group.prefix)
            n_keys.append(group.prefix)
            start = group.start + group.prefix
            for length in group.suffixes:
                keys += [prefix, torch.arange(start, start + length)]
                n_queries.append(length)
                n_keys.append(group.prefix + length)
                start += length

        def ends(lengths: list[int]) -> Tensor:
            return torch.tensor([0, *lengths]).cumsum(0).to(self.device, torch.int32)

        index = torch.cat(keys).to(self.device)
        return VarLen(index, ends(n_queries), ends(n_keys), max(n_queries), max(n_keys))

    @cached_property
    def block_mask(self) -> BlockMask:
        """The same layout as blocks of BLOCK x BLOCK tokens, most of which nobody looks at.

        Which blocks are seen follows from the lengths, so no mask of all pairs of tokens is built.
        """
        seen = _seen_spans(self.groups)
        some, whole = _blocks_seen(seen)
        (start, end), (own, _) = (part.to(self.device).unbind(1) for part in seen.unbind(1))

        def sees(_batch: Tensor, _head: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return (k <= q) & ((k >= own[q]) | ((k >= start[q]) & (k < end[q])))

        return BlockMask.from_kv_blocks(
            *_listed(some & ~whole),
            *_listed(whole),
            BLOCK_SIZE=BLOCK,
            mask_mod=sees,
            seq_lengths=(len(seen), len(seen)),
        ).to(self.device)


def _seen_spans(groups: Sequence[Group]) -> Tensor:
    """Of every token the two spans of keys that it sees, Int "total 2 2", from and up to.

    The first is its group's prefix, the second its own suffix up to itself; a token of the prefix
    has the prefix up to itself as its second and an empty first.
    """
    spans = []
    for group in groups:
        behind = group.start
        for number, length in enumerate([group.prefix, *group.suffixes]):
            end = group.start + (group.prefix if number else 0)
            rows = torch.tensor([group.start, end, behind, 0]).repeat(length, 1)
            rows[:, 3] = torch.arange(behind, behind + length) + 1
            spans.append(rows)
            behind += length
    return torch.cat(spans).int().unflatten(1, (2, 2))


def _blocks_seen(spans: Tensor) -> tuple[Tensor, Tensor]:
    """Bool "blocks blocks": which keys some query of a block sees, and which all see all of.

    Args:
        spans: of `_seen_spans`.
    """
    first = torch.arange(0, len(spans), BLOCK, dtype=torch.int32)[:, None]
    some, whole = [], []
    for rows in spans.split(BLOCK):
        start, end = rows[:, None, :, 0], rows[:, None, :, 1]
        seen = (end.clamp(max=first + BLOCK) - start.clamp(min=first)).clamp(min=0).sum(2)
        some.append(seen.any(0))
        # A block that the row's end cuts is never whole.
        whole.append((seen == BLOCK).all(0) & (len(rows) == BLOCK))
    return torch.stack(some), torch.stack(whole)


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of each row are marked, and which, those first: Int "1 1 n", "1 1 n n"."""
    order = blocks.int().argsort(dim=1, descending=True, stable=True)
    return blocks.sum(1)[None, None].int(), order[None, None].int()


class VarLen(NamedTuple):
    """Prefixes and suffixes as sequences; each query sees the keys up to it, from the right.

    Attributes:
        keys: Long, token index of every sequence's keys: a suffix has its prefix's and its own.
        query_ends, key_ends: Int "sequences+1", cumulative lengths from 0.
        max_queries, max_keys: of one sequence.
    """

    keys: Tensor
    query_ends: Tensor
    key_ends: Tensor
    max_queries: int
    max_keys: int


class Branches:
    """Prefixes as one batch, padded on the left, and suffixes as another, padded on the right.

    Attributes:
        prefixes: Long "n p", token index of each position of the n prefixes.
        prefix_mask: Bool "n p", False on padding.
        suffixes: Long "m c", token index of each position of the m suffixes; c is 2 or more.
        suffix_real: Long, which of the m*c positions are no padding.
        prefix_of: Long "m", which prefix a suffix goes on from.
        order: Long "total": where each token of the row stands among those of all prefixes and,
            behind them, of all suffixes.
    """

    def __init__(self, groups: Sequence[Group], device: torch.device) -> None:
        lengths = torch.tensor([n for group in groups for n in (group.prefix, *group.suffixes)])
        starts = lengths.cumsum(0) - lengths
        is_prefix = torch.tensor(
            [k == 0 for group in groups for k in range(1 + len(group.suffixes))]
        )
        longest = int(lengths[is_prefix].max())
        # Aligned to the right: states of the padding would fade into those of a prefix.
        offsets = torch.arange(-longest, 0) + lengths[is_prefix, None]
        prefix_mask = offsets >= 0
        prefixes = starts[is_prefix, None] + offsets.clamp(min=0)
        # Fused kernels decode a single token without a backward pass, so there are always two.
        steps = torch.arange(max(2, int(lengths[~is_prefix].max())))
        real = steps < lengths[~is_prefix, None]
        suffixes = torch.where(real, starts[~is_prefix, None] + steps, 0)
        order = torch.cat([prefixes[prefix_mask], suffixes[real]]).argsort()
        self.prefixes, self.prefix_mask = prefixes.to(device), prefix_mask.to(device)
        self.suffixes = suffixes.to(device)
        self.suffix_real = real.flatten().nonzero()[:, 0].to(device)
        self.prefix_of = (is_prefix.cumsum(0) - 1)[~is_prefix].to(device)
        self.order = order.to(device)
