"""Every attention of packed rows, forwards and backwards, is that of a dense mask."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.nn.attention.flex_attention import create_block_mask  # noqa: E402

from boxrl.engines.prefix import kernels  # noqa: E402
from boxrl.engines.prefix.attention import attend_by_block, attention  # noqa: E402
from boxrl.engines.prefix.kernels import (  # noqa: E402
    attend_flex,
    attend_varlen,
    attend_windows,
    refuse_attention,
)
from boxrl.engines.prefix.layout import BLOCK, Layout, Siblings, Span  # noqa: E402
from boxrl.errors import UsageError  # noqa: E402
from tests.support.varlen import reference_varlen  # noqa: E402

Attend = Callable[..., Any]
States = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

MODULE = SimpleNamespace(
    config=SimpleNamespace(layer_types=["full_attention"]), layer_idx=0, num_key_value_groups=4
)
ROWS = {
    "one group": [(5, [3, 1, 4])],
    "one token": [(1, [1])],
    "groups that cross blocks": [(150, [90, 7, 60]), (40, [1, 1]), (260, [128, 128])],
    "prompts of one image": [(5, [(3, [2, 4]), (1, [1]), (4, [3, 3, 1])]), (4, [2, 2])],
    "trees that cross blocks": [(300, [(20, [90, 40]), (31, [128, 3])]), (7, [(130, [2])])],
    "answers that begin alike": [(5, [(3, [1, (2, [4, 1])]), 2]), (4, [(1, [(1, [2, 3])])])],
    "beginnings that cross blocks": [(140, [(130, [(60, [128, 9]), 300]), (7, [3, 250])])],
}
LARGE = [(1060, [200, 17, 160, 1, 88, 120, 33, 200]), (300, [64, 64, 5])]


def build_layout(row: list[Any], device: str = "cpu") -> Layout:
    """Of a tree: tokens of each span, or pairs of these and of the spans that see it."""
    blocks, end = [], 0

    def add(nodes: list[Any], context: list[Span]) -> None:
        nonlocal end
        spans = []
        for node in nodes:
            spans.append(Span(end, node[0] if isinstance(node, tuple) else node))
            end = spans[-1].end
        blocks.append(Siblings(spans, context))
        for node, span in zip(nodes, spans, strict=True):
            if isinstance(node, tuple):
                add(node[1], [*context, span])

    for prompt in row:
        add([prompt], [])
    return Layout(blocks, torch.device(device))


def dense_mask(layout: Layout) -> torch.Tensor:
    """Bool "total total", pair by pair as the words have it."""
    seen = torch.zeros(layout.total, layout.total, dtype=torch.bool)
    for block in layout.blocks:
        for span in block.spans:
            for other in (*block.context, span):
                seen[span.start : span.end, other.start : other.end] = True
    return seen.tril()


def draw(layout: Layout, heads: tuple[int, int] = (8, 2), width: int = 16) -> States:
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, n, layout.total, width) for n in (heads[0], heads[1], heads[1]))
    query, key, value = (torch.randn(shape, generator=generator) for shape in shapes)
    return query, key, value


def differentiate(attend: Attend, states: States) -> list[torch.Tensor]:
    """Output "1 total heads d", and the gradients of a sum that weights every number otherwise."""
    leaves = [x.detach().requires_grad_() for x in states]
    output = attend(*leaves)
    weights = torch.linspace(-1, 1, output.numel()).view(output.shape).to(output)
    (output * weights).sum().backward()
    return [x.detach().float().cpu() for x in (output, *(leaf.grad for leaf in leaves))]


def dense(
    mask: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], 1) for x in (key, value))
    scores = query @ key.mT * query.shape[-1] ** -0.5
    weights = scores.masked_fill(~mask.to(scores.device), -torch.inf).softmax(-1)
    return (weights @ value).transpose(1, 2)


def errors(found: list[torch.Tensor], expected: list[torch.Tensor]) -> list[float]:
    """Of the output and of each gradient, relative to its norm."""
    pairs = zip(found, expected, strict=True)
    return [float((one - other).norm() / other.norm().clamp(min=1e-9)) for one, other in pairs]


WAYS: dict[str, Callable[[Layout], Attend]] = {
    "by block": lambda layout: partial(
        lambda q, k, v: attend_by_block(MODULE, q, k, v, layout, q.shape[-1] ** -0.5)
    ),
    "varlen": lambda layout: partial(
        attend_varlen, layout=layout, scaling=None, kernel=reference_varlen
    ),
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("way", WAYS)
def test_outputs_and_gradients_are_those_of_the_dense_mask(way: str, row: str) -> None:
    layout = build_layout(ROWS[row])
    states = draw(layout)
    expected = differentiate(partial(dense, dense_mask(layout)), states)
    assert max(errors(differentiate(WAYS[way](layout), states), expected)) < 2e-6


@pytest.mark.parametrize("row", ROWS)
# On a CPU it is not compiled, and says so.
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_computes_the_dense_mask(row: str) -> None:
    layout = build_layout(ROWS[row])
    states = draw(layout)
    with torch.no_grad():  # there is no backward on a CPU
        found = attend_flex(*states, layout)
    assert errors([found], [dense(dense_mask(layout), *states)])[0] < 2e-6


@pytest.mark.parametrize("row", [*ROWS.values(), LARGE])
def test_blocks_are_those_that_the_mask_of_all_pairs_gives(row: list[Any]) -> None:
    layout = build_layout(row)
    total, seen = layout.total, dense_mask(layout)
    expected = create_block_mask(
        lambda _b, _h, q, k: seen[q, k], None, None, total, total, device="cpu"
    )
    own = layout.block_mask
    assert own.to_dense().equal(expected.to_dense())
    assert own.full_kv_num_blocks.equal(expected.full_kv_num_blocks)
    for counts, own_blocks, blocks in (
        (own.kv_num_blocks, own.kv_indices, expected.kv_indices),
        (own.full_kv_num_blocks, own.full_kv_indices, expected.full_kv_indices),
    ):
        for line, count in enumerate(counts[0, 0].tolist()):
            assert own_blocks[0, 0, line, :count].equal(blocks[0, 0, line, :count])
    index = torch.arange(total)
    zero = torch.zeros((), dtype=torch.long)
    assert own.mask_mod(zero, zero, index[:, None], index[None]).equal(seen)
    assert own.seq_lengths == (total, total) and own.BLOCK_SIZE == (BLOCK, BLOCK)


def test_the_kernel_is_compiled_once_for_trees_of_every_depth() -> None:
    """It is compiled anew for another function: other code, or other things that it closes over."""
    made = []
    for row in ("one group", "answers that begin alike"):
        sees = build_layout(ROWS[row]).block_mask.mask_mod
        closed = [(type(x.cell_contents), x.cell_contents.dtype) for x in sees.__closure__ or ()]
        made.append((sees.__code__, closed))
    assert made[0] == made[1]


def test_a_token_too_many_is_seen_by_the_comparison() -> None:
    # The control of the tests above.
    layout = build_layout(ROWS["one group"])
    states, mask = draw(layout), dense_mask(layout)
    mask[-1, 5] = True  # of the completion before
    expected = differentiate(partial(dense, mask), states)
    found = errors(differentiate(WAYS["varlen"](layout), states), expected)
    assert min(found) > 1e-2


def test_gradients_of_repeated_tokens_are_summed_in_float32() -> None:
    states = torch.zeros(1, 1, 1, dtype=torch.bfloat16, requires_grad=True)
    gathered = kernels._Gather.apply(states, torch.zeros(65, dtype=torch.long))
    (gathered * torch.tensor([256, *[1] * 64])[:, None, None]).sum().backward()
    assert float(states.grad) == 320  # in bfloat16 256 + 1 is 256


# --- windows of a vision tower ------------------------------------------------------------------


def window_mask(ends: list[int]) -> torch.Tensor:
    seen = torch.zeros(ends[-1], ends[-1], dtype=torch.bool)
    for start, end in pairwise(ends):
        seen[start:end, start:end] = True
    return seen


def attend_in_windows(ends: list[int], query: Any, key: Any, value: Any) -> Any:
    return attend_windows(
        SimpleNamespace(), query, key, value, None,
        cu_seq_lens_q=torch.tensor(ends, dtype=torch.int32, device=query.device),
        cu_seq_lens_k=None, max_length_q=max(b - a for a, b in pairwise(ends)),
        scaling=query.shape[-1] ** -0.5, is_causal=False,
    )[0]  # fmt: skip


def test_windows_see_themselves_alone() -> None:
    ends = [0, 4, 9, 10]
    states = draw(build_layout([(1, [9])]), (4, 4))
    expected = differentiate(partial(dense, window_mask(ends)), states)
    found = differentiate(partial(attend_in_windows, ends), states)
    assert max(errors(found, expected)) < 2e-6


# --- what runs where ----------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["varlen", "flex"])
def test_a_cpu_is_refused_in_one_line(choice: str) -> None:
    with pytest.raises(UsageError, match=rf"attention: {choice} trains on a GPU only.*take auto"):
        refuse_attention(choice, torch.device("cpu"), True)


@pytest.mark.parametrize("choice", ["auto", "sdpa"])
def test_what_runs_everywhere_is_never_refused(choice: str) -> None:
    refuse_attention(choice, torch.device("cpu"), False)


def test_dropout_goes_where_it_is_known() -> None:
    layout = build_layout([(4, [3, 3])])
    for choice in ("varlen", "flex"):
        torch.manual_seed(0)
        states = draw(layout)
        output, _ = attention(
            MODULE, *states, None, shared_prefix=layout, choice=choice, dropout=0.5, scaling=1.0
        )
        plain, _ = attention(MODULE, *states, None, shared_prefix=layout, scaling=1.0)
        assert not torch.allclose(output, plain)


# --- on a GPU -----------------------------------------------------------------------------------


def on_gpu(states: States, dtype: torch.dtype) -> States:
    query, key, value = (x.to("cuda", dtype) for x in states)
    return query, key, value


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("choice", ["auto", "sdpa", "varlen", "flex"])
@pytest.mark.parametrize("width", [80, 128])
def test_kernels_round_as_dense_attention_does(choice: str, dtype: Any, width: int) -> None:
    half = dtype != torch.float32
    if choice == "varlen" and not half:
        with pytest.raises(UsageError, match="half precision only"):
            refuse_attention(choice, torch.device("cuda"), half)
        return
    refuse_attention(choice, torch.device("cuda"), half)
    layout = build_layout(LARGE, "cuda")
    states, mask = draw(layout, (16, 2), width), dense_mask(layout)
    exact = differentiate(partial(dense, mask), states)
    rounded = errors(differentiate(partial(dense, mask), on_gpu(states, dtype)), exact)

    def attend(*states: torch.Tensor) -> torch.Tensor:
        return attention(
            MODULE, *states, None, shared_prefix=layout, choice=choice, scaling=width**-0.5
        )[0]

    found = errors(differentiate(attend, on_gpu(states, dtype)), exact)
    for own, dense_error in zip(found, rounded, strict=True):
        assert own < 1.5 * dense_error + 1e-5, (found, rounded)


@pytest.mark.gpu
def test_windows_in_one_call_round_as_dense_attention_does() -> None:
    ends = [0, 64, 128, 176, 240, 241, 512]
    states = draw(build_layout([(1, [511])]), (16, 16), 80)
    exact = differentiate(partial(dense, window_mask(ends)), states)
    half = on_gpu(states, torch.bfloat16)
    rounded = errors(differentiate(partial(dense, window_mask(ends)), half), exact)
    found = errors(differentiate(partial(attend_in_windows, ends), half), exact)
    for own, dense_error in zip(found, rounded, strict=True):
        assert own < 1.5 * dense_error + 1e-5, (found, rounded)
