"""A packed row: where every span of tokens lies in it, and what each of them sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128
"""Queries and keys of one block of flex attention."""


class Span(NamedTuple):
    """Tokens behind each other in the row, one or more."""

    start: int
    length: int

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.start + self.length

    def tokens(self) -> Tensor:
        """Long "length", its tokens."""
        return torch.arange(self.start, self.end)


class Siblings(NamedTuple):
    """Spans that see the same of what stands before them: all of it, and themselves up to a token.

    Attributes:
        spans: behind each other in the row.
        context: spans further ahead in the row that all of them see.
        answers: per span of completions, whose every position has a label, the rows of the batch
            that hold it; none where the spans are of prompts.
    """

    spans: list[Span]
    context: list[Span]
    answers: Sequence[Sequence[int]] = ()

    @property
    def adjoins(self) -> bool:
        """Whether it is one span that goes on where what it sees ends, without gaps."""
        row = [*self.context, *self.spans]
        return len(self.spans) == 1 and all(one.end == other.start for one, other in pairwise(row))


class Layout:
    """Where everything lies in a packed row of `total` tokens; built once, read by every layer.

    A prompt and its completions are two blocks: the prompt, which sees itself alone, and the
    completions, which see the prompt. Prompts of one image have a block between: what all of them
    begin with, how each goes on, and the completions of each, which see both. So have completions
    that begin alike: how they go on is a block that sees their beginning, too.

    A plain class on purpose: FSDP copies dataclasses among the keyword arguments per module.

    Attributes:
        blocks: in order; their spans fill the row.
        masks: per kind of attention layer, Bool "c k+c" of each block: its longest span over its
            context and itself, by which shorter ones see as well; None for a block in which every
            token sees what stands before it. Other kinds are plainly causal.
        rows: per block Long "g c", token index of each position of its spans; padding repeats one.
        real: per block Long, which of the g*c positions are no padding.
    """

    def __init__(
        self,
        blocks: Sequence[Siblings],
        device: torch.device,
        masks: Mapping[str, Sequence[Tensor | None]] | None = None,
    ) -> None:
        self.blocks = list(blocks)
        self.device = device
        self.total = blocks[-1].spans[-1].end
        self.masks = {
            kind: list(found)
            for kind, found in (masks or {}).items()
            if any(mask is not None for mask in found)
        }
        self.rows: list[Tensor] = []
        self.real: list[Tensor] = []
        self._causal: dict[int, Tensor] = {}
        for block in blocks:
            starts, lengths = torch.tensor(block.spans).T
            offsets = torch.arange(int(lengths.max()))
            real = offsets < lengths[:, None]
            rows = torch.where(real, starts[:, None] + offsets, starts[0])
            self.rows.append(rows.to(device))
            self.real.append(real.flatten().nonzero()[:, 0].to(device))

    def mask(self, number: int, kind: str) -> Tensor:
        """Bool "c k+c" of a block in layers of a kind: its own, or plain causality."""
        own = self.masks[kind][number] if kind in self.masks else None
        if own is None and number not in self._causal:
            # Padding stands behind every real token of its row, so causality hides it.
            n, seen = self.rows[number].shape[1], sum(x.length for x in self.blocks[number].context)
            whole = torch.ones(n, seen + n, dtype=torch.bool, device=self.device)
            self._causal[number] = whole.tril(seen)
        return self._causal[number] if own is None else own

    @cached_property
    def completions(self) -> Tensor:
        """Long "n", token index of every position of the completions, in order."""
        spans = [span.tokens() for block in self.blocks if block.answers for span in block.spans]
        return torch.cat([torch.empty(0, dtype=torch.long), *spans]).to(self.device)

    @cached_property
    def scored(self) -> Tensor:
        """Long "n", token index of every token of all rows' completions, row by row."""
        by_row: dict[int, list[Tensor]] = {}
        for block in self.blocks:
            for span, rows in zip(block.spans, block.answers, strict=False):
                part = span.tokens()
                for row in rows:
                    by_row.setdefault(row, []).append(part)
        tokens = [found for row in sorted(by_row) for found in by_row[row]]
        return torch.cat([torch.empty(0, dtype=torch.long), *tokens]).to(self.device)

    @cached_property
    def branches(self) -> Branches:
        """The same layout as two batches, for layers that only look back."""
        return Branches(self.blocks, self.device)

    @cached_property
    def varlen(self) -> VarLen:
        """The same layout as sequences of different lengths, for kernels that take those."""
        keys, n_queries, n_keys = [], [], []
        for block in self.blocks:
            context = [span.tokens() for span in block.context]
            seen = sum(map(len, context))
            for span in block.spans:
                keys += [*context, span.tokens()]
                n_queries.append(span.length)
                n_keys.append(seen + span.length)

        def ends(lengths: list[int]) -> Tensor:
            return torch.tensor([0, *lengths]).cumsum(0).to(self.device, torch.int32)

        index = torch.cat(keys).to(self.device)
        return VarLen(index, ends(n_queries), ends(n_keys), max(n_queries), max(n_keys))

    @cached_property
    def block_mask(self) -> BlockMask:
        """The same layout as blocks of BLOCK x BLOCK tokens, most of which nobody looks at.

        Which blocks are seen follows from the lengths, so no mask of all pairs of tokens is built.
        """
        some, whole = _blocks_seen(self.blocks)
        # However deep the tree of spans: for another function the kernel is compiled anew.
        enter, leave = _walk(self.blocks).to(self.device).unbind()

        def sees(_batch: Tensor, _head: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return (k <= q) & (enter[k] <= enter[q]) & (enter[q] < leave[k])

        return BlockMask.from_kv_blocks(
            *_listed(some & ~whole),
            *_listed(whole),
            BLOCK_SIZE=BLOCK,
            mask_mod=sees,
            seq_lengths=(self.total, self.total),
        ).to(self.device)


def _walk(blocks: Sequence[Siblings]) -> Tensor:
    """When a walk, from a span on to those that see it, comes to that of a token, and leaves it.

    What it comes to between the two sees the span.

    Returns:
        Int "2 total".
    """
    onward: dict[Span | None, list[Span]] = {}
    for block in blocks:
        parent = block.context[-1] if block.context else None
        onward.setdefault(parent, []).extend(block.spans)
    spans = [span for block in blocks for span in block.spans]
    sizes: dict[Span, int] = {}  # spans that see one, itself included
    for span in reversed(spans):
        sizes[span] = 1 + sum(sizes[other] for other in onward.get(span, []))
    enter: dict[Span | None, int] = {None: -1}
    for parent in [None, *spans]:
        time = enter[parent] + 1
        for span in onward.get(parent, []):
            enter[span] = time
            time += sizes[span]
    times = torch.tensor([[enter[span], enter[span] + sizes[span]] for span in spans])
    lengths = torch.tensor([span.length for span in spans])
    return times.int().repeat_interleave(lengths, 0).T.contiguous()


def _blocks_seen(blocks: Sequence[Siblings]) -> tuple[Tensor, Tensor]:
    """Bool "blocks blocks": which keys some query of a block sees, and which all see all of."""
    total = blocks[-1].spans[-1].end
    first = torch.arange(0, total, BLOCK)
    some = torch.zeros(len(first), len(first), dtype=torch.bool)
    whole = torch.ones_like(some)

    def count(start: int, end: int) -> Tensor:
        return ((first + BLOCK).clamp(max=end) - first.clamp(min=start)).clamp(min=0)

    for block in blocks:
        context = sum(count(span.start, span.end) for span in block.context)
        for span in block.spans:
            for line in range(span.start // BLOCK, (span.end - 1) // BLOCK + 1):
                least = max(span.start, line * BLOCK) + 1  # what the first of its queries sees
                most = min(span.end, (line + 1) * BLOCK)
                some[line] |= context + count(span.start, most) > 0
                whole[line] &= context + count(span.start, least) == BLOCK
    if total % BLOCK:  # a block that the row's end cuts is never whole
        whole[-1] = False
    return some, whole


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of each row are marked, and which, those first: Int "1 1 n", "1 1 n n"."""
    order = blocks.int().argsort(dim=1, descending=True, stable=True)
    return blocks.sum(1)[None, None].int(), order[None, None].int()


class VarLen(NamedTuple):
    """Spans as sequences; each query sees the keys up to it, from the right.

    Attributes:
        keys: Long, token index of every sequence's keys: its context's and its own.
        query_ends, key_ends: Int "sequences+1", cumulative lengths from 0.
        max_queries, max_keys: of one sequence.
    """

    keys: Tensor
    query_ends: Tensor
    key_ends: Tensor
    max_queries: int
    max_keys: int


class Branches:
    """Spans that see themselves alone as one batch, and those that go on from one as another.

    Attributes:
        prefixes: Long "n p", token index of each position of the n prefixes, padded on the left.
        prefix_mask: Bool "n p", False on padding.
        suffixes: Long "m c", token index of each position of the m suffixes, padded on the right;
            c is 2 or more.
        suffix_real: Long, which of the m*c positions are no padding.
        prefix_of: Long "m", which prefix a suffix goes on from.
        order: Long "total": where each token of the row stands among those of all prefixes and,
            behind them, of all suffixes.
    """

    def __init__(self, blocks: Sequence[Siblings], device: torch.device) -> None:
        prefixes = [span for block in blocks if not block.context for span in block.spans]
        suffixes = [
            (span, *block.context) for block in blocks if block.context for span in block.spans
        ]
        starts, lengths = torch.tensor(prefixes).T
        # Aligned to the right: states of the padding would fade into those of a prefix.
        offsets = torch.arange(-int(lengths.max()), 0) + lengths[:, None]
        prefix_mask = offsets >= 0
        index = starts[:, None] + offsets.clamp(min=0)
        lasts, n = torch.tensor([span for span, _ in suffixes], dtype=torch.long).view(-1, 2).T
        # Fused kernels decode a single token without a backward pass, so there are always two.
        steps = torch.arange(max([2, *n.tolist()]))
        real = steps < n[:, None]
        own = torch.where(real, lasts[:, None] + steps, 0)
        order = torch.cat([index[prefix_mask], own[real]]).argsort()
        self.prefixes, self.prefix_mask = index.to(device), prefix_mask.to(device)
        self.suffixes = own.to(device)
        self.suffix_real = real.flatten().nonzero()[:, 0].to(device)
        places = {span: number for number, span in enumerate(prefixes)}
        parents = [places[parent] for _, parent in suffixes]
        self.prefix_of = torch.tensor(parents, dtype=torch.long).to(device)
        self.order = order.to(device)
