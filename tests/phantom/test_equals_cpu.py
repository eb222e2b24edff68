"""What the phantom GPU computes is what the CPU computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch.nn.attention.flex_attention import create_block_mask, flex_attention  # noqa: E402
from torch.nn.attention.varlen import varlen_attn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from boxrl.engines.prefix.prefill import generate_groups  # noqa: E402
from boxrl.engines.prefix.shared_prefix import enable  # noqa: E402
from tests.engines.prefix.test_shared_prefix import shared_log_probs, trl_log_probs  # noqa: E402
from tests.support.random_models import KINDS, Batch, build_batch, build_model  # noqa: E402

from .gpu import phantom_gpu  # noqa: E402

SIZE = 3
LENGTHS = (9, 4, 1, 7, 9, 2)


def moved(batch: Batch) -> Batch:
    images = {k: v.to("cuda") if torch.is_tensor(v) else v for k, v in batch.images.items()}
    ids, mask = batch.input_ids.to("cuda"), batch.attention_mask.to("cuda")
    return Batch(ids, mask, batch.n_completion, images)


def micro_batch(model: Any, batch: Batch, shared: bool) -> tuple[Any, dict[str, Any]]:
    """Log-probabilities, and gradients of a loss that weights every token differently."""
    way = (model, batch, SIZE) if shared else (model, batch)
    logps, entropies = (shared_log_probs if shared else trl_log_probs)(*way)
    weights = torch.linspace(-1, 1, logps.numel()).view(logps.shape).to(logps.device)
    model.zero_grad()
    ((logps + 0.1 * entropies) * weights)[batch.completion_mask].sum().backward()
    found = {n: p.grad.clone().cpu() for n, p in model.named_parameters() if p.grad is not None}
    return logps.detach().cpu() * batch.completion_mask.cpu(), found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [True, pytest.param(False, marks=pytest.mark.phantom)])
def test_log_probs_and_gradients(kind: str, shared: bool) -> None:
    model, batch = build_model(kind), build_batch(kind, 2, SIZE, LENGTHS)
    if shared:
        enable(model)
    expected = micro_batch(model, batch, shared)
    counted = []
    for floats in ("real", "hollow"):
        with phantom_gpu(floats=floats) as gpu:
            model.to("cuda")
            on_cuda = moved(batch)
            gpu.reset()
            logps, gradients = micro_batch(model, on_cuda, shared)
            counted.append((gpu.flops, gpu.peak_bytes, gpu.attention))
            if floats == "real":
                assert (logps - expected[0]).abs().max() < 2e-6
                assert gradients.keys() == expected[1].keys()
                for name, gradient in gradients.items():
                    assert torch.allclose(gradient, expected[1][name], atol=1e-5), name
                model.to("cpu")
    # Hollow numbers cost what real ones cost.
    assert counted[0] == counted[1]


@pytest.mark.parametrize("kind", KINDS)
def test_generation(kind: str) -> None:
    model, batch = build_model(kind).eval(), build_batch(kind, 2, 2, (1,))
    options = {"max_new_tokens": 8, "do_sample": True, "top_k": 0, "disable_compile": True}

    def generate(batch: Batch) -> Any:
        torch.manual_seed(0)
        images = {k: v for k, v in batch.images.items() if torch.is_tensor(v)}
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, **images}
        with torch.no_grad():
            return generate_groups(model, inputs, 2, **options).cpu()

    expected = generate(batch)
    with phantom_gpu():
        model.to("cuda")
        assert generate(moved(batch)).tolist() == expected.tolist()


def states(*, heads: int = 4, kv_heads: int = 4, dtype: Any = torch.float32) -> list[Any]:
    """Query, key and value of two rows, 12 tokens."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, heads, 12, 16), *[(2, kv_heads, 12, 16)] * 2]
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def attended(attend: Callable[..., Any], inputs: list[Any]) -> list[Any]:
    """The output and the gradients of the inputs, on the CPU in float32."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = attend(*leaves)
    weights = torch.linspace(-1, 1, out.numel()).view(out.shape).to(out.device, out.dtype)
    (out * weights).sum().backward()
    return [x.detach().float().cpu() for x in (out, *(leaf.grad for leaf in leaves))]


@pytest.mark.parametrize(
    ("kernel", "options", "kv_heads", "dtype"),
    [
        ("flash", {"is_causal": True}, 4, torch.bfloat16),
        ("flash", {"is_causal": True, "enable_gqa": True}, 2, torch.bfloat16),
        ("efficient", {"is_causal": True}, 4, torch.float32),
        ("efficient", {"attn_mask": True}, 4, torch.bfloat16),
        ("efficient", {"attn_mask": True, "scale": 0.5}, 4, torch.float32),
        ("math", {"attn_mask": True, "enable_gqa": True}, 2, torch.float32),
    ],
)
def test_attention_kernels(kernel: str, options: dict[str, Any], kv_heads: int, dtype: Any) -> None:
    inputs = states(kv_heads=kv_heads, dtype=dtype)
    mask = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(1)) > 0.3
    mask |= torch.eye(12, dtype=torch.bool)

    def attend(*tensors: Any) -> Any:
        given = {"attn_mask": mask.to(tensors[0].device)} if "attn_mask" in options else {}
        return F.scaled_dot_product_attention(*tensors, **{**options, **given})

    expected = attended(attend, [x.float() for x in inputs])
    with phantom_gpu() as gpu:
        found = attended(attend, [x.to("cuda") for x in inputs])
        assert gpu.attention == {kernel: 1}
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5 if dtype == torch.float32 else 5e-2)


def test_attention_over_sequences_of_different_lengths() -> None:
    lengths, keys = [3, 5, 1], [7, 5, 4]
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(sum(lengths), 4, 16, generator=generator).bfloat16()
    key, value = (torch.randn(sum(keys), 2, 16, generator=generator).bfloat16() for _ in "kv")

    def one_by_one(query: Any, key: Any, value: Any) -> Any:
        parts = []
        split = zip(query.split(lengths), key.split(keys), value.split(keys), strict=True)
        for states in split:
            q, k, v = (x.transpose(0, 1)[None] for x in states)
            mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(
                k.shape[2] - q.shape[2]
            )
            out = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
            parts.append(out[0].transpose(0, 1))
        return torch.cat(parts)

    def at_once(query: Any, key: Any, value: Any) -> Any:
        ends = [torch.tensor([0, *x], device="cuda").cumsum(0).int() for x in (lengths, keys)]
        longest = max(lengths), max(keys)
        return varlen_attn(query, key, value, *ends, *longest, window_size=(-1, 0), enable_gqa=True)

    expected = attended(one_by_one, [x.float() for x in (query, key, value)])
    with phantom_gpu() as gpu:
        found = attended(at_once, [x.to("cuda") for x in (query, key, value)])
        assert gpu.attention == {"varlen": 1}
        pairs = 3 * 7 - 3 + 5 * 5 - 10 + 1 * 4
        assert gpu.flops == 14 * pairs * 4 * 16
        with pytest.raises(RuntimeError, match="only support fp16 and bf16"):
            at_once(*(x.float().to("cuda") for x in (query, key, value)))
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=5e-2)


def test_flex_attention_reads_the_blocks_of_its_mask() -> None:
    inputs = [x.repeat(1, 1, 20, 1) for x in states(kv_heads=2)]

    def sees(_batch: Any, _head: Any, q: Any, k: Any) -> Any:
        return (k <= q) & (k % 7 != q % 7) | (k == q)

    index = torch.arange(240)
    mask = sees(0, 0, index[:, None], index[None])
    expected = attended(
        lambda *x: F.scaled_dot_product_attention(*x, mask, enable_gqa=True), inputs
    )
    with phantom_gpu() as gpu:
        blocks = create_block_mask(sees, None, None, 240, 240, device="cuda")
        kernel = torch.compile(flex_attention)
        found = attended(
            lambda *x: kernel(*x, block_mask=blocks, enable_gqa=True),
            [x.to("cuda") for x in inputs],
        )
        assert gpu.attention == {"flex": 1}
        blocks.kv_num_blocks.zero_()  # the kernel looks at listed blocks alone
        assert not attended(
            lambda *x: kernel(*x, block_mask=blocks, enable_gqa=True),
            [x.to("cuda") for x in inputs],
        )[1].any()
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_flops_are_those_of_torchs_counter() -> None:
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(288, 5)
    )
    images = torch.randn(2, 3, 8, 8)
    with FlopCounterMode(display=False) as counter:
        layers(images).sum().backward()
    with phantom_gpu(floats="hollow") as gpu:
        layers.to("cuda")(images.to("cuda")).sum().backward()
        assert gpu.flops == counter.get_total_flops()
